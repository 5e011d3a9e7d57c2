"""GLX over a private Xvfb, with NVIDIA's vendor library on the client's side.

The driver renders into its own memory; the server only lends a window to bind to. It serves
where NVIDIA's GLX half is installed and its EGL half is not.
"""

from __future__ import annotations

import os
from functools import partial

from moderngl_colab import _driver, _glvnd, _glx, _process, causes, gl
from moderngl_colab.errors import StrategyFailed, StrategyUnavailable
from moderngl_colab.strategies import gpu
from moderngl_colab.strategies.base import Request

__all__ = ["NvidiaGLX", "over_xvfb"]


class NvidiaGLX:
    """A context of NVIDIA's GLX on a private virtual display."""

    name = "glx"
    vendor = "NVIDIA"

    def create(self, request: Request) -> gl.GLContext:
        """Make the context on the driver's first GPU; GLX has no way to choose one.

        Where there are several, it serves only where all are given, in CUDA's order, and none is
        asked for.

        Raises:
            StrategyUnavailable: the driver, libGL or Xvfb is absent, or a device was asked for.
            StrategyFailed: the driver or the server refused.
            ValueError: there is no such device.
        """
        if request.device_index is not None:
            if request.device_index < 0:
                raise ValueError(
                    f"device_index={request.device_index}: EGL devices are numbered from 0"
                )
            raise StrategyUnavailable(
                f"device_index={request.device_index} names an EGL device, and GLX chooses its own",
                remedy="leave device_index out",
            )
        if not _process.may_steer_loader():
            raise causes.privileged()
        choice = _glvnd.glx_choice()
        if choice is not None and os.environ[choice] != "nvidia":
            raise causes.overridden(choice)
        if (kept := causes.no_gpu() or causes.hidden()) is not None:
            raise kept
        driver = _driver.find()
        if (known := causes.obstacle("GLX", driver)) is not None:
            raise known
        given = gpu.only(request, driver)
        try:
            driver.open("GLX")
        except OSError as error:
            raise causes.unloadable(error) from error
        try:
            context = over_xvfb("nvidia", request.version, request.until)
            context.gpu = given
            return context
        except StrategyFailed as error:
            if error.cause is not None:
                raise
            raise causes.refused(error, driver, "glx-refused", request.until) from error


def over_xvfb(vendor: str, version: int, until: float | None = None) -> gl.Handle:
    """A context of libglvnd's GLX vendor (``"nvidia"``, ``"mesa"``) on the private display.

    Arguments:
        vendor: which one.
        version: OpenGL's, as moderngl writes it.
        until: when to give up waiting for the display, in seconds of :func:`time.monotonic`;
            None for the display's own limit.

    Raises:
        StrategyUnavailable: libGL or Xvfb is absent.
        StrategyFailed: the display did not come up, or refused.
    """
    if not _process.may_steer_loader():
        raise causes.privileged()
    try:
        _glx.LibGLX()
    except OSError as error:
        raise causes.dispatch_absent(error) from error
    # They import subprocess, which few need.
    from moderngl_colab import _display, _xvfb, display_causes

    chosen = os.environ.get(_glvnd.GLX_VARIABLE, vendor)
    if chosen == "nvidia":  # which other programs are given by us, and which Mesa is not
        chosen = vendor
    try:
        with (
            _process.environment({_glvnd.GLX_VARIABLE: chosen}),
            _display.shared(until=until) as display,
        ):
            context = gl.create_glx(version, display.name)
            if not display.blocks:
                context.undo = partial(_display.retire, display)
            return context
    except _xvfb.XvfbMissing as error:
        raise display_causes.no_xvfb() from error
    except (OSError, _xvfb.XvfbError) as error:
        raise display_causes.xvfb_failed(error) from error
