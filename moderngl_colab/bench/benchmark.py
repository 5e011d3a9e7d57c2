"""The benchmark: each strategy measured in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from moderngl_colab.bench import check, measure, outcome
from moderngl_colab.bench.record import Row
from moderngl_colab.bench.result import Benchmark
from moderngl_colab.diagnostics import child, report
from moderngl_colab.options import refuse_foreign_systems

__all__ = ["LARGEST", "SIZES", "bench", "duration", "size"]

SIZES = ((1280, 720), (3840, 2160))
"""The sizes that are measured where none are given, in pixels."""
LARGEST = 16_384
"""Pixels of width, and of height, at most; a context may allow less."""

_LONGEST = 3600.0  # seconds
_NVML = 8.0  # seconds; there, as in all processes, NVML is given up after 10

Size = tuple[int, int]
Progress = Callable[[str, int, int], None]


def bench(
    *,
    sizes: Iterable[Size] = SIZES,
    seconds: float = 2.0,
    strategies: Iterable[str] | str | None = None,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure the same scenes by each strategy, each in a child process.

    They are a ray-marched picture, whose work is done for pixels; an indexed mesh of a million
    triangles, whose work is done for vertices; and a picture that is uploaded, drawn and read back.
    The last frame of each is looked at. What is drawn before it is measured is left out.

    Arguments:
        sizes: widths and heights in pixels, of 64 to 16384.
        seconds: how long each scene is measured at each size, 3600 at most. One frame is, however
            long it takes.
        strategies: which ones, by name: ``"egl"``, ``"glx"``, ``"mesa"``, or several, separated by
            commas or in a sequence. Default: all three.
        timeout: how long a driver may be silent, in seconds: until there is a context, and over
            a frame, however many of them are measured.
        progress: called with what is done next, how many steps are done, and of how many.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a size, a duration or a name that is none; nothing was measured then.
        GPUContextError: this is not Linux.
    """
    refuse_foreign_systems()
    names = report.names(strategies)
    limit = report.limit(timeout)
    asked = tuple(dict.fromkeys(size(each) for each in sizes))
    if not asked:
        raise ValueError("sizes is empty: name at least one")
    lasting = duration(seconds)
    nvml = _nvml(limit)
    steps = _Steps(names, len(asked) * len(measure.SCENES), progress)
    rows: list[Row] = []
    pictures: tuple[bytes, ...] = ()
    for name in names:
        steps.begin(name)
        extras = [*(["memory"] if nvml is None else []), *([] if pictures else ["pictures"])]
        job = (name, asked, lasting, limit, extras)
        ended = child.run(measure.measure, *job, timeout=limit, heard=steps.hear)
        row = outcome.row(name, ended, limit, steps.each)
        rows.append(row._replace(nvml=nvml if "NVIDIA" in (row.vendor or "") else None))
        if not pictures and rows[-1].outcome == "measured":
            pictures = outcome.pictures(ended)
    steps.end()
    return Benchmark(rows, asked, lasting, pictures)


def _nvml(limit: float) -> str | None:
    """Why NVML must not be asked: it crashes, or hangs; None where it may be."""
    seconds = min(limit, _NVML)
    return outcome.nvml(child.run(measure.ask_nvml, timeout=seconds), seconds)


def size(asked: Size) -> Size:
    """A size that can be measured.

    Raises:
        TypeError: it is no pair of whole numbers.
        ValueError: it is too small, or too large.
    """
    pair = tuple(asked) if isinstance(asked, Iterable) else ()
    if len(pair) != 2 or not all(type(side) is int for side in pair):
        raise TypeError(f"{asked!r} is no size: a width and a height in pixels are needed")
    if not all(check.SMALLEST <= side <= LARGEST for side in pair):
        raise ValueError(
            f"{pair[0]}x{pair[1]} is too {'small' if min(pair) < check.SMALLEST else 'large'}: "
            f"width and height are {check.SMALLEST} to {LARGEST} pixels"
        )
    return pair


def duration(seconds: float) -> float:
    """How long to measure, in seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is none of more than 0 and at most 3600.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"seconds={seconds!r}: a number of seconds is needed")
    if not 0 < seconds <= _LONGEST:  # NaN is not, either.
        raise ValueError(f"{seconds!r} is no number of seconds above 0, and {_LONGEST:g} at most")
    return float(seconds)


class _Steps:
    """What is done, and what is next, told as it comes."""

    def __init__(self, names: tuple[str, ...], each: int, progress: Progress | None) -> None:
        self.each = each
        self._names = names
        self._progress = progress
        self._name = ""
        self._done = 0

    def begin(self, name: str) -> None:
        self._name = name
        self._done = self.each * self._names.index(name)
        self._tell(f"{name}: a context")

    def hear(self, answer: dict[str, Any]) -> None:
        if "measured" in answer:
            self._done += 1
        elif "doing" in answer:
            self._tell(f"{self._name}: {outcome.named(*answer['doing'])}")

    def end(self) -> None:
        self._done = self.each * len(self._names)
        self._tell("done")

    def _tell(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what, self._done, self.each * len(self._names))
