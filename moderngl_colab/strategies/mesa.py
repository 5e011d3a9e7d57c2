"""Mesa: what libEGL lists beside NVIDIA's devices, or GLX over Xvfb where there is no libEGL."""

from __future__ import annotations

from moderngl_colab import _egl, causes, gl
from moderngl_colab.errors import StrategyError, StrategyUnavailable
from moderngl_colab.strategies.base import Request
from moderngl_colab.strategies.egl import first_that_serves, listed, open_libegl
from moderngl_colab.strategies.glx import over_xvfb
from moderngl_colab.strategies.gpu import device_at

__all__ = ["Mesa"]


class Mesa:
    """A context of Mesa's: on another make of GPU if there is one, else on the CPU."""

    name = "mesa"
    vendor = None

    def create(self, request: Request) -> gl.GLContext:
        """Make the context on ``request.device_index``, or on the first of Mesa's that serves.

        Raises:
            StrategyUnavailable: neither libEGL with Mesa in it nor libGL with Xvfb is there.
            StrategyFailed: Mesa refused.
            ValueError: there is no EGL device of that index.
        """
        try:
            return _by_egl(request)
        except StrategyUnavailable as by_egl:
            if request.device_index is not None or request.device is not None:
                raise
            try:
                return over_xvfb("mesa", request.version, request.until)
            except StrategyError as by_glx:
                raise type(by_glx)(
                    f"{by_egl.reason}; by GLX: {by_glx.reason}",
                    remedy=by_egl.remedy,
                    cause=by_egl.cause,
                ) from by_glx


def _by_egl(request: Request) -> gl.GLContext:
    egl = open_libegl()
    try:
        devices = listed(egl)
    except _egl.EGLError as error:
        raise causes.mesa_absent(str(error)) from error
    if request.device is not None:
        from moderngl_colab.devices import leave_out, named

        raise StrategyUnavailable(
            f"{named(request.device)} names an NVIDIA GPU, and Mesa drives none",
            remedy=leave_out(request.device),
        )
    if request.device_index is None:
        devices = tuple(device for device in devices if not device.is_nvidia)
    else:
        device = device_at(devices, request.device_index)
        if device.is_nvidia:
            raise StrategyUnavailable(
                f"EGL device {device.number} is NVIDIA's, not Mesa's",
                remedy="leave device_index out",
            )
        devices = (device,)
    if not devices:
        raise causes.mesa_absent("libEGL lists no device of Mesa's")
    while True:
        context = first_that_serves(egl, devices, request.version)
        if "NVIDIA" not in gl.strings(context).vendor:
            return context
        # Drivers before 470 do not say whose a GPU is that is hidden from CUDA.
        gl.discard(context)
        devices = tuple(d for d in devices if d.number > (context.egl_device or 0))
        if not devices:
            raise causes.mesa_absent("libEGL lists no device of Mesa's")
