"""What the GPU is worth: the benchmark's scenes on it, and on Mesa."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.conftest import Measured, Program

SIZES = ((1280, 720), (3840, 2160))
"""In pixels."""
SCENES = 3
TIMEOUT = 300
"""In seconds; Mesa takes its time for a frame."""

MIB = 1 << 20
UNITS = {
    "frames_per_second": ("", 1.0, "frames/s"),
    "pixels_per_second": ("", 1e-6, "Mpixel/s"),
    "triangles_per_second": ("", 1.0, "triangles/s"),
    "upload_bytes_per_second": (", upload", 1.0, "bytes/s"),
    "readback_bytes_per_second": (", readback", 1.0, "bytes/s"),
    "ratio_to_mesa": ("", 1.0, "times Mesa"),
}
MEMORY = {"gpu_memory_before": "before", "gpu_memory_during": "at most"}

Rows = dict[str, Any]


@pytest.fixture(scope="module")
def rows(program: Program, quick: bool) -> Rows:
    """What became of each strategy, by its name."""
    sizes, seconds = (((64, 64),), 0.01) if quick else (SIZES, 2.0)
    seen = program("bench", sizes, seconds, None, timeout=TIMEOUT)
    return {each["strategy"]: each for each in seen["strategies"]}


def keep(measured: Measured, row: Any) -> None:
    """Keep every figure of a strategy."""
    name = row["strategy"]
    measured(name, f"{row['outcome']}: {row['renderer'] or row['reason']}")
    if row["first_context_seconds"] is not None:
        measured(f"{name}, first context", 1000 * row["first_context_seconds"], "ms")
    for field, when in MEMORY.items():
        for whose, used in (row[field] or {}).items():
            if used is not None:
                measured(f"{name}, GPU memory {when}, {whose.split('_')[0]}", used / MIB, "MiB")
    for told in row["measurements"]:
        what = f"{name}, {told['scene']} at {told['width']} x {told['height']}"
        for field, (more, by, unit) in UNITS.items():
            if told[field] is not None and (name, field) != ("mesa", "ratio_to_mesa"):
                measured(what + more, told[field] * by, unit)


def drawn(measured: Measured, row: Any, quick: bool) -> None:
    """See that every scene was drawn on the GPU, as it must be."""
    keep(measured, row)
    assert (row["outcome"], row["reason"]) == ("measured", f"{row['vendor']}, {row['renderer']}")
    assert "NVIDIA" in row["vendor"]
    assert right(row, quick)


def right(row: Any, quick: bool) -> bool:
    """Whether a strategy drew every scene at every size, as it must be."""
    wrong = [told["wrong"] for told in row["measurements"]]
    return wrong == [None] * SCENES * (1 if quick else len(SIZES))


@pytest.mark.usefixtures("egl")
def test_the_benchmark_draws_on_the_gpu_by_egl(rows: Rows, measured: Measured, quick: bool) -> None:
    """The benchmark draws every scene on the GPU by EGL, each frame as it must be."""
    drawn(measured, rows["egl"], quick)


@pytest.mark.usefixtures("glx")
def test_the_benchmark_draws_on_the_gpu_by_glx(rows: Rows, measured: Measured, quick: bool) -> None:
    """The benchmark draws every scene on the GPU by GLX, each frame as it must be."""
    drawn(measured, rows["glx"], quick)


@pytest.mark.usefixtures("egl")
def test_the_gpu_is_compared_with_mesa(rows: Rows, measured: Measured, quick: bool) -> None:
    """Every scene of the benchmark is drawn by the GPU and by Mesa on the processor, each frame as
    it must be; how many times as fast the GPU is, the figures say.
    """
    # No ratio is promised: an H100 has graphics in two of its TPCs alone, as NVIDIA says in "NVIDIA
    # Hopper Architecture In-Depth", and the processor beside it has many cores.
    mesa, gpu = rows["mesa"], rows["egl"]
    keep(measured, mesa)
    if mesa["outcome"] != "measured":
        pytest.skip(f"there is nothing to compare with: Mesa: {mesa['reason']}")
    if not mesa["software"]:
        pytest.skip(f"Mesa does not draw on the processor here: {mesa['renderer']}")

    assert right(mesa, quick)
    assert gpu["outcome"] == "measured"
    assert "NVIDIA" in gpu["vendor"]
    assert right(gpu, quick)
    for one, other in zip(gpu["measurements"], mesa["measurements"], strict=True):
        ratio = one["frames_per_second"] / other["frames_per_second"]
        assert one["ratio_to_mesa"] == pytest.approx(ratio)
        measured(f"{one['scene']} at {one['width']} x {one['height']}", ratio, "times Mesa")
