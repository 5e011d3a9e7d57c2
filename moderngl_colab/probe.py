"""A strategy of ours, tried in another process before it is tried in this one.

A driver that crashes or hangs does it inside the process that asks it. Who has reason to fear that
has it asked by one whose end is no more than an answer.
"""

from __future__ import annotations

import os
import time

from moderngl_colab import _driver, _glvnd
from moderngl_colab.diagnostics import trial
from moderngl_colab.errors import Outcome, StrategyError
from moderngl_colab.options import PROBE_VARIABLE, allow_more
from moderngl_colab.remedies import ASK_SMI
from moderngl_colab.strategies import Request

__all__ = ["prove"]

_MOST = 64
_WAITED = ("timeout", "xvfb-start")
_EVERY = 61  # No divisor of the picture's width: all columns have their turn.


class _Unproven(StrategyError):
    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        remedy: str | None,
        cause: str | None = None,
        said: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason, remedy=remedy, cause=cause, said=said)
        self.outcome = outcome


# Requests, each with its environment, which steers drivers: None where the driver stood the test,
# else what it did to the process. What else may keep a strategy from serving can be mended.
_known: dict[tuple[object, ...], tuple[str, str | None, tuple[str, ...]] | None] = {}


def prove(strategy: str, request: Request, timeout: float) -> None:
    """Have a strategy make a context, draw and release it in another process.

    Whether the driver stands that is kept in mind, for the same request in the same environment.
    What is no attempt, such as the ValueError of a device that is not there, is left to the
    strategy to raise in this process.

    Arguments:
        strategy: its name.
        request: what is asked of it; its time limit is the probe's.
        timeout: the whole call's, in seconds.

    Raises:
        StrategyError: it failed there, or ended the process, or did not end in time; or there
            could be no such process.
    """
    key = (strategy, *request._replace(until=timeout), frozenset(os.environ.items()))
    if key not in _known:
        if _without_driver(strategy):
            return
        seconds = max(0.0, request.until - time.monotonic())
        tried = trial.run(strategy, seconds, request, every=_EVERY)
        if tried.answers.get("raised"):
            return
        _refuse_unjudged(tried, seconds, timeout)
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = _judged(tried, seconds)
    if (fatal := _known[key]) is not None:
        reason, cause, said = fatal
        raise _Unproven(Outcome.FAILED, reason, ASK_SMI, cause, said)


def _without_driver(strategy: str) -> bool:
    """Whether nothing of the driver's is there that the strategy could load."""
    half = strategy.upper()
    return half not in _driver.find().libraries and not any(i.is_nvidia for i in _glvnd.icds())


def _refuse_unjudged(tried: trial.Tried, seconds: float, timeout: float) -> None:
    """Raise what tells nothing of the driver's end.

    Raises:
        StrategyError: as :func:`prove` does.
    """
    ended, answers = tried.ended, tried.answers
    without = f"probe=False or {PROBE_VARIABLE}=0 tries it in this process"
    if ended.error is not None:
        reason = f"no process could be started to try it: {ended.error}"
        raise _Unproven(Outcome.UNAVAILABLE, reason, without)
    if ended.timed_out and "began" not in answers:
        reason = f"the process that was to try it did not start within {seconds:.2g} s"
        raise _Unproven(Outcome.UNAVAILABLE, reason, allow_more(timeout), "timeout")
    if "began" not in answers:
        _, reason, _, _ = trial.verdict(tried, seconds)
        raise _Unproven(Outcome.UNAVAILABLE, reason, without, said=ended.stderr)
    if "failed" in answers or tried.wrong:
        outcome, reason, remedy, cause = trial.verdict(tried, seconds)
        if answers.get("late") and cause in _WAITED:
            remedy = allow_more(timeout)  # There the limit was another one.
        raise _Unproven(outcome, reason, remedy, cause, tuple(answers.get("said", ())))


def _judged(tried: trial.Tried, seconds: float) -> tuple[str, str | None, tuple[str, ...]] | None:
    if "released" in tried.answers:
        return None
    # If it drew, it came to its end by what followed.
    _, reason, _, cause = trial.verdict(tried._replace(wrong=None), float(f"{seconds:.2g}"))
    return reason, cause, tried.ended.stderr
