"""One strategy, tried for real in a process of its own: a context, a picture, its pixels."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from moderngl_colab.diagnostics import child, picture
from moderngl_colab.errors import Attempt, GPUContextError, Outcome
from moderngl_colab.machine import Trial
from moderngl_colab.options import DEVICE_VARIABLE

__all__ = ["attempt"]

_CONTEXT = ("vendor", "renderer", "version", "software", "egl_device", "seconds")


def attempt(strategy: str, timeout: float = 60.0) -> tuple[Trial, bytes | None]:
    """Try a strategy.

    Arguments:
        strategy: its name.
        timeout: how long it may take, in seconds.

    Returns:
        What became of it, and the picture that it drew (as :mod:`~.picture` has it) if it came
        that far.
    """
    ended = child.run(try_it, strategy, timeout=timeout)
    answers: dict[str, Any] = {}
    for answer in ended.answers:
        answers |= answer
    drawn = base64.b64decode(answers["picture"]) if "picture" in answers else None
    wrong = None if drawn is None else picture.differences(drawn)
    trial = Trial(
        strategy,
        *_verdict(ended, answers, wrong, timeout),
        **{name: answers[name] for name in _CONTEXT if name in answers},
        pixels=wrong == 0,
        signal=ended.signal,
        timed_out=ended.timed_out,
        stderr=(*answers.get("said", ()), *ended.stderr),
    )
    return trial, drawn


def try_it(strategy: str) -> Iterator[dict[str, Any]]:
    """Be the process that tries: say what the context is, then what it drew, or what failed."""
    from moderngl_colab import describe, get_gpu_context

    try:
        ctx = get_gpu_context(strategies=[strategy], allow_software=True)
    except ValueError as error:  # of a variable of ours
        reason = str(error).partition("\n")[0].removesuffix(":")
        remedy = f"unset {DEVICE_VARIABLE}"
        yield {"failed": (Outcome.UNAVAILABLE, reason, remedy, "gpu-other"), "seconds": 0.0}
        return
    except GPUContextError as error:
        tried = (attempt for attempt in error.attempts if attempt.strategy == strategy)
        otherwise = (Outcome.UNAVAILABLE, error.headline, error.remedy, error.cause)
        failed = next(tried, Attempt(strategy, *otherwise))
        yield {"failed": failed[1:5], "seconds": failed.seconds, "said": failed.said}
        return
    info = describe(ctx)
    yield {name: getattr(info, name) for name in _CONTEXT}
    yield {"picture": base64.b64encode(picture.draw(ctx)).decode()}
    ctx.release()
    if info.egl_device is None:
        _stop_server()


def _stop_server() -> None:
    """End the X server, and wait for it: in a container there may be nobody else who does."""
    from moderngl_colab import _xvfb

    with _xvfb.shared() as display:
        pass
    _xvfb.retire(display)


def _verdict(
    ended: child.Ended, answers: dict[str, Any], wrong: int | None, timeout: float
) -> tuple[Outcome, str, str | None, str | None]:
    """Outcome, reason, remedy and cause. What was proven by pixels counts, whatever came after."""
    if "failed" in answers:
        outcome, reason, remedy, cause = answers["failed"]
        return Outcome(outcome), reason, remedy, cause
    if wrong:
        return Outcome.REJECTED, f"{wrong} of {picture.PIXELS} pixels are wrong", None, None
    if wrong == 0:
        return Outcome.SELECTED, f"{answers['vendor']}, {answers['renderer']}", None, None
    if ended.error is not None:
        reason = f"no process could be started to try it: {ended.error}"
        return Outcome.SKIPPED, reason, None, None
    if ended.timed_out:
        return Outcome.FAILED, f"it did not end within {timeout:g} s", None, "driver-hang"
    if ended.signal is not None:
        return Outcome.FAILED, f"the process that tried it {ended.how}", None, "driver-crash"
    said = ended.stderr[-1] if ended.stderr else "nothing"
    return Outcome.FAILED, f"the process that tried it {ended.how}; it said: {said}", None, None
