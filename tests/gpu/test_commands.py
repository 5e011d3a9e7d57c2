"""The doctor's verdict, other programs, and what the library costs beside raw moderngl."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks import startup
from gpu.conftest import PROGRAMS, Measured, said, start
from moderngl_colab.machine import Machine

pytestmark = pytest.mark.usefixtures("egl")

COMMAND = ["-m", "moderngl_colab"]
RUNS = 5
"""How many processes make a first context on each side."""
SAID = """
from moderngl_colab import describe
print(json.dumps([context.info["GL_VENDOR"], describe(context).strategy]))
"""
"""What a timed program says at last of its context."""


def printed(arguments: list[str], folder: Path, env: dict[str, str | None] | None = None) -> str:
    """What a Python process prints."""
    done = start(arguments, folder, env)
    if done.returncode != 0:
        pytest.fail(f"{arguments[0]} ended with {done.returncode}: {said(done)}", pytrace=False)
    return done.stdout


def test_the_doctor_gives_its_verdict_for_the_gpu(
    tmp_path: Path, measured: Measured, machine: Machine
) -> None:
    """The doctor's verdict is a GPU, proven by pixels, and its exit status 0."""
    done = start([*COMMAND, "doctor", "--json"], tmp_path)
    if not done.stdout:
        pytest.fail(f"doctor ended with {done.returncode}: {said(done)}", pytrace=False)
    report: dict[str, Any] = json.loads(done.stdout)

    measured("verdict", report["verdict"])
    measured("findings", ", ".join(finding["code"] for finding in report["findings"]))
    for attempt in report["attempts"]:
        measured(attempt["strategy"], f"{attempt['outcome']}: {attempt['reason']}")
    assert (report["verdict"], report["exit_status"], done.returncode) == ("gpu", 0, 0)
    by_egl = next(attempt for attempt in report["attempts"] if attempt["strategy"] == "egl")
    assert (by_egl["outcome"], by_egl["pixels"]) == ("selected", True)
    assert "NVIDIA" in by_egl["vendor"]
    if machine.module is not None:  # A sandbox may hide it.
        assert report["driver"]["compatible"] is True


@pytest.mark.usefixtures("raw")
def test_another_program_is_on_the_gpu_under_run(tmp_path: Path, measured: Measured) -> None:
    """Under `moderngl-colab run` a program that knows nothing of this library is on the GPU."""
    words = printed([*COMMAND, "run", "--", sys.executable, "-P", str(PROGRAMS), "other"], tmp_path)

    seen = json.loads(words.splitlines()[-1])
    measured("raw moderngl is on", seen["vendor"])
    assert "NVIDIA" in seen["vendor"]
    assert seen["pixel"] == "right"


@pytest.mark.usefixtures("raw")
def test_contexts_are_timed_beside_raw_ones(
    tmp_path: Path, measured: Measured, quick: bool
) -> None:
    """Beside raw moderngl, which is given the GPU by `moderngl-colab env`, contexts of ours cost
    what the figures say; both sides are on NVIDIA's GPU, and ours by direct EGL.
    """
    given = json.loads(printed([*COMMAND, "env", "--format", "json"], tmp_path))
    # As if installed: both sides have bytecode, which a first round makes.
    given |= {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": None}
    # By LD_LIBRARY_PATH alone glcontext does not find them.
    given = {"GLCONTEXT_LINUX_LIBGL": "libGL.so.1", "GLCONTEXT_LINUX_LIBEGL": "libEGL.so.1"} | given
    seconds: dict[tuple[str, str], list[float]] = {}
    renderers: dict[str, set[str]] = {"ours": set(), "raw": set()}
    told: dict[str, set[tuple[str, str | None]]] = {"ours": set(), "raw": set()}
    for run in range(-1, 1 if quick else RUNS):
        for side, statements in (("ours", startup.OURS), ("raw", startup.RAW)):
            code = startup.FIRST.format(statements=statements) + SAID
            words = printed(["-c", code], tmp_path, given).splitlines()
            (taken, renderer), (vendor, strategy) = map(json.loads, words)
            told[side].add((vendor, strategy))
            seconds.setdefault(("first", side), []).extend([taken] if run >= 0 else [])
            renderers[side].add(renderer)
    later = startup.LATER.format(ours=startup.OURS, raw=startup.RAW)
    later += "".join(f"\ncontext = {side}()\n{SAID}" for side in told)
    blocks, *last = map(json.loads, printed(["-c", later], tmp_path, given).splitlines())
    for side, (vendor, strategy) in zip(told, last, strict=True):
        told[side].add((vendor, strategy))
    for side, block in blocks:
        seconds.setdefault(("later", side), []).extend(taken for taken, _ in block)
        renderers[side] |= {renderer for _, renderer in block}

    assert renderers["ours"] == renderers["raw"]
    assert len(renderers["ours"]) == 1
    for side, strategy in (("ours", "egl"), ("raw", None)):
        ((vendor, by),) = told[side]
        assert "NVIDIA" in vendor
        assert by == strategy
        measured(f"{side} is on", vendor)
    for which in ("first", "later"):
        ours, raw = (1000 * median(seconds[which, side]) for side in ("ours", "raw"))
        measured(f"{which} context, ours", ours, "ms")
        measured(f"{which} context, raw moderngl", raw, "ms")
        measured(f"{which} context, ours by raw", ours / raw, "times")
    measured("renderer", renderers["ours"].pop())
