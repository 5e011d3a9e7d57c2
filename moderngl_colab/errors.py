"""The records of what was tried, and the exceptions and warnings made of them.

Everything a user is told is built from :class:`Attempt`; no text is ever read back to
decide anything. This module imports nothing of ours, so that every other one may use it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "MORE",
    "Attempt",
    "ForkedProcessError",
    "GPUContextError",
    "Outcome",
    "SoftwareRenderingWarning",
    "StrategyError",
    "StrategyFailed",
    "StrategyUnavailable",
    "quoted",
]

MORE = "more: python -m moderngl_colab"
"""Where an error and a warning send who wants to know."""


_MOST_QUOTED = 80  # characters


def quoted(text: str) -> str:
    """What somebody gave, as an error shows it: in quotes, and of much only the beginning."""
    if len(text) <= _MOST_QUOTED:
        return repr(text)
    return f"{text[: _MOST_QUOTED // 2]!r}... ({len(text)} characters)"


class Outcome(StrEnum):
    """How one strategy ended."""

    SELECTED = "selected"
    """Its context is the one that was returned."""
    UNAVAILABLE = "unavailable"
    """A prerequisite is absent: a library, a program, a device."""
    FAILED = "failed"
    """A call into a driver or a server was refused."""
    REJECTED = "rejected"
    """A context was made, but its vendor or renderer is not what was asked for."""
    SKIPPED = "skipped"
    """Excluded by the caller, or not reached because an earlier strategy served."""


class Attempt(NamedTuple):
    """What became of one strategy in one call of :func:`moderngl_colab.get_gpu_context`."""

    strategy: str
    """The strategy's name, for instance ``"egl"``."""
    outcome: Outcome
    reason: str
    """What was observed, in one sentence, with the driver's own error code where it gave one."""
    remedy: str | None = None
    """One command or action that mends it, ready to paste; None where nothing needs mending."""
    cause: str | None = None
    """A stable code for the cause, for instance ``"userland-absent"``; None where none is known."""
    seconds: float = 0.0
    """How long the attempt took, in seconds; 0.0 for one that was not made."""
    said: tuple[str, ...] = ()
    """What a server that was started for it said on stderr, line by line."""

    def __str__(self) -> str:
        return f"{self.strategy}: {self.outcome}: {self.reason}"


class StrategyError(Exception):
    """A strategy could not make a context. Raise one of the two subclasses.

    Arguments:
        reason: what was observed, in one sentence, with the driver's own error code.
        remedy: one command or action that mends it.
        cause: a stable code for the cause.
        said: what a server said on stderr, line by line.
    """

    outcome = Outcome.FAILED

    def __init__(
        self,
        reason: str,
        *,
        remedy: str | None = None,
        cause: str | None = None,
        said: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.cause = cause
        self.said = said


class StrategyUnavailable(StrategyError):
    """A prerequisite of the strategy is absent; no driver was asked."""

    outcome = Outcome.UNAVAILABLE


class StrategyFailed(StrategyError):
    """A call into a driver or a server was refused."""


class GPUContextError(RuntimeError):
    """No context that satisfies the caller could be made.

    Printed, it is a numbered list of the attempts, each with what was observed and what mends it,
    and ends with the command that looks further.

    Arguments:
        headline: what could not be had, in one sentence.
        attempts: every strategy of the chain, in order; also at :attr:`attempts`.
    """

    cause: str | None = None
    """A stable code for what kept strategies from being tried, or ``"timeout"`` where the call's
    time was used up; else None."""
    remedy: str | None = None
    """What mends that."""

    def __init__(self, headline: str, attempts: tuple[Attempt, ...] = ()) -> None:
        super().__init__(headline, attempts)
        self.headline = headline
        self.attempts = attempts

    def __str__(self) -> str:
        lines = [self.headline, *([f"  fix: {self.remedy}"] if self.remedy else [])]
        for number, attempt in enumerate(self.attempts, 1):
            lines.append(f"  {number}. {attempt}")
            if attempt.remedy is not None:
                lines.append(f"     fix: {attempt.remedy}")
        if self.attempts:
            lines.append(f"  {MORE}")
        return "\n".join(lines)


class ForkedProcessError(GPUContextError):
    """NVIDIA's driver was used before this process was forked, and would hang in it.

    So would a context that was made before. Start workers by spawn or forkserver, and make the
    context in the worker.
    """

    cause = "forked"


class SoftwareRenderingWarning(RuntimeWarning):
    """The context that was returned renders on the CPU.

    To make this an error, pass ``allow_software=False`` or set ``MODERNGL_COLAB_ALLOW_SOFTWARE=0``.
    """
