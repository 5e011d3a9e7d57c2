"""One strategy, tried for real in a process of its own: a context, a picture, its pixels."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from moderngl_colab.diagnostics import child, picture
from moderngl_colab.errors import Attempt, GPUContextError, Outcome
from moderngl_colab.machine import Trial
from moderngl_colab.options import DEVICE_VARIABLE
from moderngl_colab.strategies import Request

if TYPE_CHECKING:
    import moderngl

__all__ = ["Tried", "attempt", "opened", "run", "stop_server", "try_it", "verdict"]

_OWN_SHARE = 0.8
_CONTEXT = ("vendor", "renderer", "version", "software", "egl_device", "seconds")


class Tried(NamedTuple):
    """What became of the process that tried a strategy."""

    ended: child.Ended
    answers: dict[str, Any]
    """What it said; ``"began"`` once it turned to the driver, ``"released"`` once it was done."""
    picture: bytes | None
    """What it drew, as :mod:`~.picture` has it, if it came that far."""
    wrong: int | None
    """How many pixels of that are wrong."""
    looked_at: int
    """Of how many."""


def attempt(strategy: str, timeout: float = 60.0) -> tuple[Trial, bytes | None]:
    """Try a strategy.

    Arguments:
        strategy: its name.
        timeout: how long it may take, in seconds.

    Returns:
        What became of it, and the picture that it drew (as :mod:`~.picture` has it) if it came
        that far.
    """
    tried = run(strategy, timeout)
    answers, ended = tried.answers, tried.ended
    trial = Trial(
        strategy,
        *verdict(tried, timeout),
        **{name: answers[name] for name in _CONTEXT if name in answers},
        pixels=tried.wrong == 0,
        signal=ended.signal,
        timed_out=ended.timed_out,
        stderr=(*answers.get("said", ()), *ended.stderr),
    )
    return trial, tried.picture


def run(strategy: str, timeout: float, request: Request | None = None, every: int = 1) -> Tried:
    """Have a strategy tried.

    Arguments:
        strategy: its name.
        timeout: how long that may take, in seconds.
        request: what is asked of it. Default: what a call without arguments asks.
        every: of how many pixels one is looked at; in all of them there is more than a moment.
    """
    asked = () if request is None else (request.version, request.device, request.device_index)
    # What it waits for by itself, such as the X server, it can then name.
    ended = child.run(try_it, strategy, _OWN_SHARE * timeout, *asked, timeout=timeout)
    answers: dict[str, Any] = {}
    for answer in ended.answers:
        answers |= answer
    drawn = base64.b64decode(answers["picture"]) if "picture" in answers else None
    wrong = None if drawn is None else picture.differences(drawn, every)
    return Tried(ended, answers, drawn, wrong, len(range(0, picture.PIXELS, every)))


def try_it(
    strategy: str,
    timeout: float,
    version: int | None = None,
    device: str | None = None,
    device_index: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Be the process that tries: say what the context is, then what it drew, or what failed."""
    from moderngl_colab import describe

    yield {"began": True}
    ctx = opened(strategy, timeout, version, device, device_index)
    if isinstance(ctx, dict):
        yield ctx
        return
    info = describe(ctx)
    yield {name: getattr(info, name) for name in _CONTEXT}
    yield {"picture": base64.b64encode(picture.draw(ctx)).decode()}
    ctx.release()
    if info.egl_device is None:
        stop_server()
    yield {"released": True}


def opened(
    strategy: str,
    timeout: float,
    version: int | None = None,
    device: str | None = None,
    device_index: int | None = None,
) -> moderngl.Context | dict[str, Any]:
    """A context by one strategy, whatever it draws on; or the answer that says what failed."""
    from moderngl_colab import get_gpu_context

    try:
        return get_gpu_context(
            version,
            device=device,
            device_index=device_index,
            strategies=[strategy],
            allow_software=True,
            timeout=timeout,
            probe=False,
        )
    except ValueError as error:  # of the device, or of a variable of ours
        reason = str(error).partition("\n")[0].removesuffix(":")
        remedy = f"unset {DEVICE_VARIABLE}"
        return {"failed": (Outcome.UNAVAILABLE, reason, remedy, "gpu-other"), "raised": True}
    except GPUContextError as error:
        tried = (attempt for attempt in error.attempts if attempt.strategy == strategy)
        otherwise = (Outcome.UNAVAILABLE, error.headline, error.remedy, error.cause)
        failed = next(tried, Attempt(strategy, *otherwise))
        return {
            "failed": failed[1:5],
            "seconds": failed.seconds,
            "said": failed.said,
            "raised": not error.attempts,
            "late": error.cause == "timeout",
        }


def stop_server() -> None:
    """End the X server, and wait for it: in a container there may be nobody else who does."""
    from moderngl_colab import _display

    with _display.shared() as display:
        pass
    _display.retire(display)


def verdict(tried: Tried, timeout: float) -> tuple[Outcome, str, str | None, str | None]:
    """Outcome, reason, remedy and cause. What was proven by pixels counts, whatever came after."""
    ended, answers, _, wrong, looked_at = tried
    if "failed" in answers:
        outcome, reason, remedy, cause = answers["failed"]
        return Outcome(outcome), reason, remedy, cause
    if wrong:
        return Outcome.REJECTED, f"{wrong} of {looked_at} pixels are wrong", None, None
    if wrong == 0:
        return Outcome.SELECTED, f"{answers['vendor']}, {answers['renderer']}", None, None
    if ended.error is not None:
        reason = f"no process could be started to try it: {ended.error}"
        return Outcome.SKIPPED, reason, None, None
    if ended.timed_out:
        return (
            Outcome.FAILED,
            f"the process that tried it did not end within {timeout:g} s",
            None,
            "driver-hang",
        )
    if ended.signal is not None:
        return Outcome.FAILED, f"the process that tried it {ended.how}", None, "driver-crash"
    said = ended.stderr[-1] if ended.stderr else "nothing"
    return Outcome.FAILED, f"the process that tried it {ended.how}; it said: {said}", None, None
