"""What a process that renders has, keeps, and may do."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.conftest import Measured, Program
from moderngl_colab.machine import Machine

MIB = 1 << 20
CYCLES = 200
MOST_KEPT = 64 * MIB
"""How much of the GPU's memory may be in use after the cycles that was not before. A context takes
more than 1 MiB of it, so two hundred that are kept would show."""
TEXTURES = 8
"""Each is of 64 MiB."""


@pytest.mark.usefixtures("egl")
def test_a_forked_child_is_told_and_a_spawned_one_renders(
    program: Program, measured: Measured
) -> None:
    """After the driver was used a forked child gets ForkedProcessError instead of a hang, a
    spawned one a context on the GPU, and the parent goes on drawing.
    """
    seen = program("forked")

    assert seen["forked"] == "ForkedProcessError"
    assert "NVIDIA" in seen["spawned"]["vendor"]
    assert [seen["spawned"]["pixel"], seen["pixel"], seen["afterwards"]] == ["right"] * 3
    measured("a forked child gets", seen["forked"])


def leaves_nothing(program: Program, measured: Measured, strategy: str, quick: bool) -> None:
    """Make and release contexts, and compare what there is before and after."""
    times = CYCLES // 20 if quick else CYCLES
    seen = program("cycles", strategy, times)

    grown: dict[str, Any] = seen["grown"]
    assert seen["drawn"] == ["right"]
    assert (grown["files"], grown["threads"]) == (0, 0)
    assert grown["GPU memory"] < MOST_KEPT
    measured("cycles", times, "contexts")
    measured("one cycle", 1000 * seen["seconds"] / times, "ms")
    measured("more files", grown["files"], "files")
    measured("more threads", grown["threads"], "threads")
    measured("more resident memory", grown["resident"] / MIB, "MiB")
    measured("more GPU memory", grown["GPU memory"] / MIB, "MiB")


@pytest.mark.usefixtures("egl")
def test_two_hundred_contexts_by_egl_leave_nothing(
    program: Program, measured: Measured, quick: bool
) -> None:
    """200 contexts by EGL, one after the other drawn with and released, leave no file, no thread
    and no memory of the GPU's.
    """
    leaves_nothing(program, measured, "egl", quick)


@pytest.mark.usefixtures("glx")
def test_two_hundred_contexts_by_glx_leave_nothing(
    program: Program, measured: Measured, quick: bool
) -> None:
    """200 contexts by GLX, one after the other drawn with and released, leave no file, no thread
    and no memory of the GPU's.
    """
    leaves_nothing(program, measured, "glx", quick)


@pytest.mark.usefixtures("egl")
def test_what_is_drawn_into_is_seen_in_the_gpus_memory(
    program: Program, measured: Measured, machine: Machine, quick: bool
) -> None:
    """describe() names the GPU and its driver, and textures of 512 MiB that are drawn into show in
    what NVML says of its memory.
    """
    textures = 2 if quick else TEXTURES
    seen = program("memory", textures)

    assert seen["drawn"] == ["ff0066"]
    assert machine.module is not None
    assert seen["gpu"]["driver"] == machine.module.version
    assert None not in seen["gpu"].values()
    before, during, after = (seen[when] for when in ("before", "during", "after"))
    measured("GPU memory before", before["used"] / MIB, "MiB")
    measured("GPU memory with the textures", during["used"] / MIB, "MiB")
    measured("GPU memory after their release", after["used"] / MIB, "MiB")
    own = during["used_by_process"]
    measured("NVML tells this process's share", own is not None)
    if own is not None:
        measured("of this process, with the textures", own / MIB, "MiB")
    # Of what was in use before, the driver may have given some back.
    assert during["used"] - before["used"] > 0.9 * textures * 64 * MIB
