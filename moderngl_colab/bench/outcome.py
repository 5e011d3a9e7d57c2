"""What became of a strategy, told by what the process answered that measured it."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from moderngl_colab.bench.record import Measured, Memory, Row
from moderngl_colab.diagnostics import child, trial

__all__ = ["named", "nvml", "pictures", "row"]

_FACTS = ("vendor", "renderer", "version", "software", "gpu", "driver", "first_context_seconds")


def row(strategy: str, ended: child.Ended, limit: float, steps: int) -> Row:
    """What became of a strategy.

    Arguments:
        strategy: its name.
        ended: what became of the process, with the answers of :func:`~.measure.measure`.
        limit: how long it might be silent, in seconds.
        steps: how many measurements there should be.
    """
    known: dict[str, Any] = {}
    measured: list[Measured] = []
    during: list[Memory] = []
    for answer in ended.answers:
        if "measured" in answer:
            measured.append(Measured(**answer["measured"]))
            during += [Memory(*answer["memory_during"])] if answer["memory_during"] else []
        known |= answer
    before = known.get("memory_before")
    end = _failed(known, ended, limit) if len(measured) < steps else _measured(known, measured)
    return Row(
        strategy,
        *end,
        **{name: known[name] for name in _FACTS if name in known},
        gpu_memory_before=None if before is None else Memory(*before),
        gpu_memory_during=max(during, key=lambda memory: memory.all_bytes, default=None),
        measurements=tuple(measured),
    )


def pictures(ended: child.Ended) -> tuple[bytes, ...]:
    """What was drawn to be shown: three bytes a pixel, row by row, the lowest one first."""
    packed = (answer["picture"] for answer in ended.answers if "picture" in answer)
    return tuple(zlib.decompress(base64.b64decode(each)) for each in packed)


def nvml(ended: child.Ended, limit: float) -> str | None:
    """Why NVML must not be asked; None where it may be.

    Arguments:
        ended: what became of the process of :func:`~.measure.ask_nvml`.
        limit: how long it might take, in seconds.
    """
    if ended.answers or ended.error is not None:
        return None
    if ended.timed_out:
        return f"a process that asked it had no answer within {limit:g} s"
    return f"a process that asked it {ended.how}"


def named(scene: str, width: int, height: int) -> str:
    """A scene at a size, in words."""
    return f"{scene} at {width}x{height}"


_End = tuple[str, str, str | None, str | None]


def _failed(known: dict[str, Any], ended: child.Ended, limit: float) -> _End:
    how, reason, remedy, cause = trial.verdict(trial.Tried(ended, known, None, None, 0), limit)
    if ended.timed_out:
        reason = f"the driver did not answer within {limit:g} s"
    if "doing" in known:
        reason = f"{named(*known['doing'])}: {reason}"
    return str(how), reason, remedy, cause


def _measured(known: dict[str, Any], measured: list[Measured]) -> _End:
    for one in measured:
        if one.wrong is not None:
            return "wrong", f"{named(*one[:3])}: {one.wrong}", None, None
    return "measured", f"{known['vendor']}, {known['renderer']}", None, None
