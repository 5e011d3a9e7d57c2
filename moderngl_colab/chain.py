"""The chain of strategies: try, verify, record, next."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moderngl_colab import _fork, gl
from moderngl_colab.errors import (
    MORE,
    Attempt,
    GPUContextError,
    Outcome,
    StrategyError,
    StrategyUnavailable,
)
from moderngl_colab.info import ContextInfo
from moderngl_colab.options import Options, allow_more
from moderngl_colab.strategies import DEFAULT_STRATEGIES, Request, Strategy

__all__ = ["Winner", "first_verified"]


class Winner(NamedTuple):
    """The context that came of the chain."""

    context: gl.GLContext
    strings: gl.Strings
    attempts: tuple[Attempt, ...]

    @property
    def software(self) -> bool:
        """Whether it renders on the CPU."""
        return gl.is_software(self.strings.renderer)

    def warning(self) -> str:
        """What is said of one that renders on the CPU."""
        tried = [a for a in self.attempts if a.outcome not in (Outcome.SELECTED, Outcome.SKIPPED)]
        lines = [f"OpenGL renders on the CPU ({self.strings.renderer}), because:"]
        lines += [f"  {attempt}" for attempt in tried]
        lines += [f"  fix: {a.remedy}" for a in tried if a.remedy is not None][:1]
        lines += [f"  {MORE}"]
        if not tried:
            lines = [f"OpenGL renders on the CPU ({self.strings.renderer}), as asked for"]
        return "\n".join(lines)

    def described(self, seconds: float) -> ContextInfo:
        """What :func:`moderngl_colab.describe` is to say of it."""
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


def first_verified(asked: Options) -> Winner:
    """Try one strategy after the other until a context is what it should be.

    Raises:
        GPUContextError: none is.
    """
    attempts: list[Attempt] = []
    for position, strategy in enumerate(asked.chain):
        started = time.perf_counter()
        _log("debug", "%s: trying", strategy.name)
        request = _with_its_time(asked, position)
        try:
            _refuse_late(asked, attempts)
            _probe(strategy, request, asked)
            context = strategy.create(request)
            strings = _verified(context, strategy, asked)
        except StrategyError as error:
            seconds = time.perf_counter() - started
            seen = (error.outcome, error.reason, _remedy(error, request, asked), error.cause)
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
        return Winner(context, strings, tuple(attempts))
    attempts += _left_out(asked.chain)
    where = "" if asked.allow_software else " on a GPU"
    version = gl.spelled(asked.request.version)
    more = allow_more(asked.timeout)
    said = any(attempt.remedy == more for attempt in attempts)
    late = said or asked.request.until <= time.monotonic()
    within = f" within {asked.timeout:g} s" if late else ""
    none = GPUContextError(
        f"no OpenGL {version} context{where} could be made{within}:", tuple(attempts)
    )
    if late:
        none.cause, none.remedy = "timeout", None if said else more
    raise none


def _with_its_time(asked: Options, position: int) -> Request:
    """What is asked of a strategy: it may wait for its share of what is left, the last for all."""
    now = time.monotonic()
    left = asked.request.until - now
    return asked.request._replace(until=now + left / (len(asked.chain) - position))


def _remedy(error: StrategyError, request: Request, asked: Options) -> str | None:
    """What mends an error; more time, where a known cause has no other and its share is gone."""
    if error.remedy is None and error.cause is not None and request.until <= time.monotonic():
        return allow_more(asked.timeout)
    return error.remedy


def _refuse_late(asked: Options, before: Sequence[Attempt]) -> None:
    """Raise where no time is left.

    Raises:
        StrategyUnavailable: none is.
    """
    if asked.request.until > time.monotonic():
        return
    spent = {attempt.strategy: attempt.seconds for attempt in before}
    most = max(spent, key=lambda name: spent[name], default="")
    by = f"by {most}" if before and spent[most] > asked.timeout / 2 else "before"
    raise StrategyUnavailable(
        f"it was not tried: the time limit of {asked.timeout:g} s was used up {by}",
        cause="timeout",
    )


def _probe(strategy: Strategy, request: Request, asked: Options) -> None:
    """Try a strategy of ours in another process, if that was asked for.

    Raises:
        StrategyError: it did not stand the test.
    """
    ours = any(type(strategy) is type(known) for known in DEFAULT_STRATEGIES)
    if asked.probe and ours and strategy.vendor is not None:
        from moderngl_colab.probe import prove  # It imports subprocess.

        prove(strategy.name, request, asked.timeout)


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
