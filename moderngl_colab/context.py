"""get_gpu_context()."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Unpack

import moderngl

from moderngl_colab import _calls, _current, _fork, _process, _signals, causes, gl
from moderngl_colab.chain import first_verified
from moderngl_colab.errors import GPUContextError, SoftwareRenderingWarning
from moderngl_colab.info import remember
from moderngl_colab.options import Options, Settings, allow_more, options, refuse_foreign_systems
from moderngl_colab.strategies import Strategy

__all__ = ["get_gpu_context"]


def get_gpu_context(
    require: int | None = None,
    *,
    device: object = None,
    allow_software: bool | None = None,
    strategies: Iterable[Strategy | str] | str | None = None,
    **settings: Unpack[Settings],
) -> moderngl.Context:
    """Make a headless OpenGL context on the NVIDIA GPU, wherever one can be reached.

    A drop-in for ``moderngl.create_context(standalone=True)``: the context is current in the
    calling thread, and ``moderngl.get_context()`` gives it. The process is left as it was, its
    environment included.

    Arguments:
        require: the OpenGL version, as moderngl writes it: 430 for 4.3. Default: 330.
        device: the GPU: an ordinal of CUDA in this process (``1``, ``"cuda:1"``), the beginning of
            a UUID (``"GPU-57a2d1"``), a PCI address (``"pci:0000:0f:00.0"``), or anything whose
            ``str()`` is one of these, such as a ``torch.device``. No other GPU is taken, and no
            CPU. Default: ``MODERNGL_COLAB_DEVICE``, else the first that serves of those which
            ``CUDA_VISIBLE_DEVICES`` gives this process, in CUDA's order.
        allow_software: whether a context on the CPU will do, with a warning, where there is no
            other. Default: ``MODERNGL_COLAB_ALLOW_SOFTWARE`` (``0`` or ``1``), else yes.
        strategies: which ways to try, in order: names (``"egl"``, ``"glx"``, ``"mesa"``) or
            objects of your own (:class:`moderngl_colab.Strategy`). Default:
            ``MODERNGL_COLAB_STRATEGIES`` (``egl,mesa``), else all three.
        timeout: how long the call may wait, in seconds, a day at most: for another thread's call,
            the X server's start, NVML and probes. Each strategy may use its share of what is left,
            the last one all of it. Default: ``MODERNGL_COLAB_TIMEOUT``, else 30. What hangs inside
            the driver's EGL or GLX cannot be ended from here; `probe` is there for that.
        probe: whether ``"egl"`` and ``"glx"`` are each first tried in another process, where it
            draws and its pixels are read, so that a driver which crashes or hangs does it there,
            and the next strategy serves. Whether the driver stands that is kept in mind, for calls
            that ask for the same in the same environment. Strategies of your own are not tried
            there. A frozen program, and one whose real and effective ids differ, has no such
            process, and is refused. Default: ``MODERNGL_COLAB_PROBE`` (``0`` or ``1``), else no.
        standalone: True, as it always is here.
        share: False; a context of ours shares nothing.
        backend: ``"egl"`` or None, without effect; `strategies` chooses the way.
        device_index: index of the EGL device, as in moderngl, instead of `device`. It takes no
            notice of ``CUDA_VISIBLE_DEVICES``.

    Returns:
        The context. :func:`moderngl_colab.describe` says what it runs on.

    Raises:
        GPUContextError: no context that satisfies the caller could be made; the message lists
            every attempt, what was observed and what mends it.
            So it is where nothing tells which of several GPUs is the one that is meant. Where
            the call's time was used up, or kept a strategy from being tried, its ``cause`` is
            ``"timeout"`` and the headline names the limit; each attempt keeps its own cause.
        ForkedProcessError: NVIDIA's driver was used before this process was forked.
        TypeError: an argument of a wrong type, or an unknown setting.
        ValueError: an argument or a variable of an impossible value.

    Warns:
        SoftwareRenderingWarning: the context renders on the CPU.
    """
    refuse_foreign_systems()
    if _fork.driver_lost():
        raise causes.forked()
    started = time.perf_counter()
    asked = options(require, device, allow_software, strategies, settings)
    context = None
    with _current.nothing_current():
        try:
            with _alone(asked), _process.environment(_for_mesa()):
                context = _made(asked, started)
        except BaseException:
            if context is not None:  # A handler that was held back raised at the block's end.
                context.release()
            raise
    return context


def _made(asked: Options, started: float) -> moderngl.Context:
    winner = first_verified(asked)
    try:
        if winner.software:
            # Here and nowhere deeper: the line that the warning names is the caller's.
            warnings.warn(winner.warning(), SoftwareRenderingWarning, stacklevel=_callers())
        # The stubs take every setting for a dictionary.
        ready: Any = {"context": winner.context}
        context = moderngl.create_context(require=asked.request.version, standalone=True, **ready)
        _signals.let_in()
    except BaseException:
        gl.discard(winner.context)
        raise
    remember(context, winner.described(time.perf_counter() - started))
    return context


def _callers() -> int:
    """The stack level, for :func:`get_gpu_context`, of the first line outside this library."""
    level, frame = 2, sys._getframe(2)  # noqa: SLF001  - inspect has no other way to it
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    return level


@contextlib.contextmanager
def _alone(asked: Options) -> Iterator[None]:
    """A block that no other thread's call is in, and no signal's handler.

    Raises:
        GPUContextError: one was in it for too long.
    """
    try:
        with _signals.held(), _calls.alone(asked.request.until):
            yield
    except _calls.BusyError:
        error = GPUContextError(
            f"another thread's call of get_gpu_context() did not end within {asked.timeout:g} s"
        )
        error.cause, error.remedy = "timeout", allow_more(asked.timeout)
        raise error from None


def _for_mesa() -> dict[str, str]:
    # At its end a process waits for the threads that Mesa started before it was forked, and takes
    # new ones for them.
    return {"LP_NUM_THREADS": "0"} if _fork.mesa_lost() else {}
