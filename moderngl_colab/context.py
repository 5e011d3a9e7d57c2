"""get_gpu_context() and its chain: try, verify, record, next."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, Unpack

import moderngl

from moderngl_colab import _current, _fork, _process, causes, gl
from moderngl_colab.errors import (
    MORE,
    Attempt,
    GPUContextError,
    Outcome,
    SoftwareRenderingWarning,
    StrategyError,
)
from moderngl_colab.info import ContextInfo, remember
from moderngl_colab.options import Options, Settings, options, refuse_foreign_systems
from moderngl_colab.strategies import DEFAULT_STRATEGIES, Strategy

__all__ = ["get_gpu_context"]

# Drivers and libglvnd load, and the environment changes, once for the whole process.
_lock = threading.RLock()


_PATIENCE = 5.0  # seconds


def _wait_before_fork() -> None:
    """Let a call of another thread end first: a child would keep what it has borrowed.

    A driver that hangs shall not keep the whole process from forking.
    """
    _lock.acquire(timeout=_PATIENCE)


def _release_after_fork() -> None:
    with contextlib.suppress(RuntimeError):  # It was waited for in vain.
        _lock.release()


def _renew_lock() -> None:
    """In a forked child nobody may be left to release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_wait_before_fork, after_in_parent=_release_after_fork, after_in_child=_renew_lock
    )


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
            So it is where nothing tells which of several GPUs is the one that is meant.
        ForkedProcessError: NVIDIA's driver was used before this process was forked.
        TypeError: an argument of a wrong type, or an unknown setting.
        ValueError: an argument or a variable of an impossible value.

    Warns:
        SoftwareRenderingWarning: the context renders on the CPU.
    """
    refuse_foreign_systems()
    if _fork.driver_lost():
        raise causes.forked()
    asked = options(require, device, allow_software, strategies, settings)
    with _lock, _current.nothing_current(), _process.environment(_for_mesa()):
        started = time.perf_counter()
        winner = _first_verified(asked)
        try:
            if winner.software:
                # Here and nowhere deeper: the line that the warning names is the caller's.
                warnings.warn(_software_message(winner), SoftwareRenderingWarning, stacklevel=2)
            # The stubs take every setting for a dictionary.
            ready: Any = {"context": winner.context}
            context = moderngl.create_context(
                require=asked.request.version, standalone=True, **ready
            )
        except BaseException:
            gl.discard(winner.context)
            raise
        remember(context, winner.described(time.perf_counter() - started))
    return context


def _for_mesa() -> dict[str, str]:
    # At its end a process waits for the threads that Mesa started before it was forked, and takes
    # new ones for them.
    return {"LP_NUM_THREADS": "0"} if _fork.mesa_lost() else {}


class _Winner(NamedTuple):
    context: gl.GLContext
    strings: gl.Strings
    attempts: tuple[Attempt, ...]

    @property
    def software(self) -> bool:
        return gl.is_software(self.strings.renderer)

    def described(self, seconds: float) -> ContextInfo:
        gpu = getattr(self.context, "gpu", None)
        name = next(a.strategy for a in self.attempts if a.outcome is Outcome.SELECTED)
        return ContextInfo(
            strategy=name,
            vendor=self.strings.vendor,
            renderer=self.strings.renderer,
            version=self.strings.version,
            software=self.software,
            egl_device=getattr(self.context, "egl_device", None),
            cuda_device=None if gpu is None else gpu.ordinal,
            gpu_uuid=None if gpu is None else gpu.uuid,
            gpu_pci=None if gpu is None else gpu.pci,
            attempts=self.attempts,
            seconds=seconds,
        )


def _first_verified(asked: Options) -> _Winner:
    """Try one strategy after the other until a context is what it should be.

    Raises:
        GPUContextError: none is.
    """
    attempts: list[Attempt] = []
    for position, strategy in enumerate(asked.chain):
        started = time.perf_counter()
        _log("debug", "%s: trying", strategy.name)
        try:
            context = strategy.create(asked.request)
            strings = _verified(context, strategy, asked)
        except StrategyError as error:
            seconds = time.perf_counter() - started
            seen = (error.outcome, error.reason, error.remedy, error.cause)
            attempts.append(Attempt(strategy.name, *seen, seconds, error.said))
            _log("debug", "%s", attempts[-1])
            continue
        if strategy.vendor is not None:
            _fork.note_driver()
        seconds = time.perf_counter() - started
        refusals = getattr(context, "passed_over", ())
        reason = "; after ".join((f"{strings.vendor}, {strings.renderer}", *refusals))
        attempts.append(Attempt(strategy.name, Outcome.SELECTED, reason, seconds=seconds))
        attempts += _not_tried(asked.chain[position + 1 :], f"{strategy.name} served")
        attempts += _left_out(asked.chain)
        _log("info", "OpenGL by %s: %s (OpenGL %s)", strategy.name, reason, strings.version)
        return _Winner(context, strings, tuple(attempts))
    attempts += _left_out(asked.chain)
    where = "" if asked.allow_software else " on a GPU"
    version = gl.spelled(asked.request.version)
    raise GPUContextError(f"no OpenGL {version} context{where} could be made:", tuple(attempts))


class _Rejected(StrategyError):
    outcome = Outcome.REJECTED


def _verified(context: gl.GLContext, strategy: Strategy, asked: Options) -> gl.Strings:
    """What a finished context says of itself, if that is what was asked for.

    Raises:
        StrategyError: it is not; the context has been released.
        TypeError: it is no context at all.
    """
    if not isinstance(context, gl.Handle | gl.GLContext):
        raise TypeError(
            f"strategy {strategy.name!r} made a {type(context).__name__}; what is needed is what "
            "glcontext's backends give, with load(), release(), __enter__() and __exit__()"
        )
    try:
        strings = gl.strings(context)
        seen = f"GL_VENDOR is {strings.vendor!r}, GL_RENDERER is {strings.renderer!r}"
        if strategy.vendor is not None and strategy.vendor not in strings.vendor:
            raise _Rejected(
                f"{seen}; the vendor asked for is {strategy.vendor}",
                remedy="nvidia-smi shows whether the driver itself works",
            )
        if gl.is_software(strings.renderer) and not asked.allow_software:
            raise _Rejected(
                f"{seen}; software rendering is not allowed", remedy="allow_software=True takes it"
            )
        if strings.code < asked.request.version:
            raise _Rejected(f"{seen}; it is OpenGL {gl.spelled(strings.code)}")
    except BaseException:
        gl.discard(context)
        raise
    return strings


def _left_out(chain: tuple[Strategy, ...]) -> list[Attempt]:
    names = {strategy.name for strategy in chain}
    others = (strategy for strategy in DEFAULT_STRATEGIES if strategy.name not in names)
    return _not_tried(others, "not among the strategies asked for")


def _not_tried(strategies: Iterable[Strategy], why: str) -> list[Attempt]:
    return [Attempt(strategy.name, Outcome.SKIPPED, why) for strategy in strategies]


def _log(level: str, message: str, *arguments: object) -> None:
    """Log as "moderngl_colab", if anybody listens: who has not imported logging does not."""
    if (logging := sys.modules.get("logging")) is not None:
        getattr(logging.getLogger("moderngl_colab"), level)(message, *arguments)


def _software_message(winner: _Winner) -> str:
    tried = [a for a in winner.attempts if a.outcome not in (Outcome.SELECTED, Outcome.SKIPPED)]
    lines = [f"OpenGL renders on the CPU ({winner.strings.renderer}), because:"]
    lines += [f"  {attempt}" for attempt in tried]
    lines += [f"  fix: {a.remedy}" for a in tried if a.remedy is not None][:1]
    lines += [f"  {MORE}"]
    if not tried:
        lines = [f"OpenGL renders on the CPU ({winner.strings.renderer}), as asked for"]
    return "\n".join(lines)
