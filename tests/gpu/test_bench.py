"""What the GPU is worth: the benchmark's scenes on it, and on Mesa."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.conftest import Measured, Program

pytestmark = pytest.mark.usefixtures("egl")

SIZES = ((1280, 720), (3840, 2160))
"""In pixels."""
TIMEOUT = 420
"""In seconds; Mesa takes its time for a frame."""

UNITS = {
    "frames_per_second": ("", "frames/s"),
    "triangles_per_second": ("", "triangles/s"),
    "upload_bytes_per_second": (", upload", "bytes/s"),
    "readback_bytes_per_second": (", readback", "bytes/s"),
    "ratio_to_mesa": ("", "times Mesa"),
}


def test_the_benchmark_runs_on_the_gpu_and_compares_it_with_mesa(
    program: Program, measured: Measured, quick: bool
) -> None:
    """The benchmark draws every scene on the GPU, each frame as it must be, and tells how many
    times as fast as Mesa that is.
    """
    sizes, seconds = (((64, 64),), 0.01) if quick else (SIZES, 2.0)
    strategies = ("egl", "mesa") if quick else None
    seen = program("bench", sizes, seconds, strategies, timeout=TIMEOUT)

    by_name: dict[str, Any] = {each["strategy"]: each for each in seen["strategies"]}
    for name, each in by_name.items():
        measured(name, f"{each['outcome']}: {each['renderer'] or each['reason']}")
        for told in each["measurements"]:
            what = f"{name}, {told['scene']} at {told['width']} x {told['height']}"
            for field, (more, unit) in UNITS.items():
                if told[field] is not None:
                    measured(what + more, told[field], unit)
    egl, mesa = by_name["egl"], by_name["mesa"]
    assert egl["outcome"] == "measured"
    assert "NVIDIA" in egl["vendor"]
    assert [told["wrong"] for told in egl["measurements"]] == [None] * 3 * len(sizes)
    if mesa["outcome"] == "unavailable":
        pytest.skip(f"there is nothing to compare with: Mesa is unavailable: {mesa['reason']}")
    assert mesa["outcome"] == "measured"
    assert all(told["ratio_to_mesa"] > 0 for told in egl["measurements"])
