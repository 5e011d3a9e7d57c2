"""What a process that renders has, keeps, and may do."""

from __future__ import annotations

import pytest

from gpu.conftest import Measured, Program
from gpu.growth import LIVE
from moderngl_colab import _nvml

MIB = 1 << 20
CYCLES = 200
TIMEOUT = 300
"""In seconds; where nothing keeps the driver awake, a context takes one."""
PART = 0.5
"""What may be more after the cycles than before, as part of what the live contexts take."""
NOISE = {"resident": 64 * MIB, "GPU memory": 16 * MIB}
"""What may be more in any case: drivers keep some, and memory of a GPU comes in pages of 2 MiB."""
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


@pytest.mark.usefixtures("egl")
def test_a_child_that_was_forked_early_renders(program: Program, measured: Measured) -> None:
    """A child that was forked before the driver was used gets a context on the GPU, and then so
    does its parent.
    """
    seen = program("forked_early")

    for who in ("child", "parent"):
        assert (who, seen[who]["pixel"]) == (who, "right")
        assert "NVIDIA" in seen[who]["vendor"]
        measured(f"the {who} is on", seen[who]["renderer"])


def leaves_little(
    program: Program, measured: Measured, nvml: _nvml.Answer, strategy: str, quick: bool
) -> None:
    """Make and release contexts, and compare what there is before and after."""
    times = CYCLES // 20 if quick else CYCLES
    seen = program("cycles", strategy, times, timeout=TIMEOUT)
    grown, kept = seen["grown"], seen["kept"]
    measured("cycles", times, "contexts")
    measured("one cycle", 1000 * seen["seconds"] / times, "ms")
    for name in ("files", "threads"):
        measured(f"more {name}", grown[name], name)
    for name in sorted((grown.keys() & kept.keys()) - {"files", "threads"}):
        measured(f"{name}, more after the cycles", grown[name] / MIB, "MiB")
        measured(f"{name}, of {LIVE} live contexts", kept[name] / MIB, "MiB")

    assert seen["drawn"] == ["right"]
    # A number may fall: what an earlier context has left is given back then.
    assert (max(0, grown["files"]), max(0, grown["threads"])) == (0, 0)
    assert too_much(grown, kept) == {}
    if "GPU memory" not in grown:
        tells_memory(nvml)
        pytest.fail("NVML tells how much of a GPU's memory is used, and it is not known of ours")
    if kept.get(judged_by(grown, kept), 0) <= 0:
        pytest.skip(f"{LIVE} live contexts do not show in what NVML tells of the GPU's memory")


def judged_by(grown: dict[str, int], kept: dict[str, int]) -> str:
    """The figure of the GPU's memory that says something of this process."""
    own = "GPU memory of this process"
    # What others use says nothing where its own part is known; live contexts must show in that.
    return own if own in grown and kept.get(own, 0) > 0 else "GPU memory"


def too_much(grown: dict[str, int], kept: dict[str, int]) -> dict[str, int]:
    """What there is more of in memory than contexts that are gone may leave, in bytes."""
    judged = {"resident": "resident", "GPU memory": judged_by(grown, kept)}
    return {
        name: grown[name]
        for kind, name in judged.items()
        if name in grown and grown[name] > max(PART * kept.get(name, 0), NOISE[kind])
    }


def tells_memory(nvml: _nvml.Answer) -> None:
    """Skip where NVML says nothing of a GPU's memory."""
    if nvml.error is not None or any(None in (gpu.uuid, gpu.memory_total) for gpu in nvml.gpus):
        pytest.skip(f"NVML does not tell how much of the GPU's memory is used: {nvml}")


@pytest.mark.usefixtures("egl")
def test_two_hundred_contexts_by_egl_leave_little(
    program: Program, measured: Measured, nvml: _nvml.Answer, quick: bool
) -> None:
    """200 contexts by EGL, one after the other drawn with and released, leave no file, no thread,
    of the GPU's memory no more than half of what 8 live ones take or 16 MiB, and of the process's
    no more than half of what these take or 64 MiB; the figures are what they left.
    """
    leaves_little(program, measured, nvml, "egl", quick)


@pytest.mark.usefixtures("glx")
def test_two_hundred_contexts_by_glx_leave_little(
    program: Program, measured: Measured, nvml: _nvml.Answer, quick: bool
) -> None:
    """200 contexts by GLX, one after the other drawn with and released, leave no file, no thread,
    of the GPU's memory no more than half of what 8 live ones take or 16 MiB, and of the process's
    no more than half of what these take or 64 MiB; the figures are what they left.
    """
    leaves_little(program, measured, nvml, "glx", quick)


@pytest.mark.usefixtures("egl")
def test_what_is_drawn_into_is_seen_in_the_gpus_memory(
    program: Program, measured: Measured, nvml: _nvml.Answer, version: str, quick: bool
) -> None:
    """describe() names the GPU and its driver, and textures of 512 MiB that are drawn into show in
    what NVML says of its memory.
    """
    tells_memory(nvml)
    textures = 2 if quick else TEXTURES
    seen = program("memory", textures)

    assert seen["drawn"] == ["ff0066"]
    assert seen["gpu"]["driver"] == version
    assert None not in seen["gpu"].values()
    before, during, after = (seen[when] for when in ("before", "during", "after"))
    measured("GPU memory before", before["used"] / MIB, "MiB")
    measured("GPU memory with the textures", during["used"] / MIB, "MiB")
    measured("GPU memory after their release", after["used"] / MIB, "MiB")
    own = during["used_by_process"]
    measured("NVML tells this process's share", own is not None)
    # Of what was in use before, the driver may have given some back.
    least = 0.9 * textures * 64 * MIB
    assert during["used"] - before["used"] > least
    if own is not None:
        measured("of this process, with the textures", own / MIB, "MiB")
        assert own > least
