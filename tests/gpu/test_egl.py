"""Direct EGL: the driver is opened where it is, offered to libglvnd, and asked late if need be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gpu.conftest import Measured, Program
from moderngl_colab.machine import Machine

pytestmark = pytest.mark.usefixtures("egl")

LOADER = "LD_LIBRARY_PATH"
VENDOR = "libEGL_nvidia.so.0"


def with_driver(machine: Machine) -> dict[str, str | None]:
    """A loader's path on which the driver is."""
    folder = str(Path(machine.userland.libraries["EGL"]).parent)
    return {LOADER: ":".join(filter(None, (os.environ.get(LOADER), folder)))}


def without_driver(machine: Machine) -> dict[str, str | None]:
    """A loader's path on which the driver is not."""
    folders = os.environ.get(LOADER, "").split(":")
    kept = [f for f in folders if f and not Path(f, VENDOR).exists()]
    return {LOADER: ":".join(kept) or None}


def on_the_gpu(measured: Measured, seen: Any, version: str) -> None:
    """See that a context is on the GPU by direct EGL, and by which driver."""
    assert (seen["strategy"], seen["pixel"]) == ("egl", "right")
    assert "NVIDIA" in seen["vendor"]
    assert Path(seen["library"]).name == f"libEGL_nvidia.so.{version}"
    measured("first context", seen["seconds"], "s")
    measured("renderer", seen["renderer"])
    measured("version", seen["version"])
    measured("driver's folder", str(Path(seen["library"]).parent))


def test_direct_egl_opens_the_driver_in_its_own_place(
    program: Program, measured: Measured, machine: Machine, version: str
) -> None:
    """Direct EGL reaches the GPU where the loader does not find the driver by its name, by the
    userland of the kernel module's version.
    """
    env = without_driver(machine)
    if not (refusal := program("unopened", VENDOR, env=env)):
        pytest.skip("the loader finds the driver here without LD_LIBRARY_PATH")

    on_the_gpu(measured, program("context", "egl", env=env), version)
    measured("the loader says", refusal[VENDOR])


def test_direct_egl_takes_the_driver_that_the_loader_finds(
    program: Program, measured: Measured, machine: Machine, version: str
) -> None:
    """Direct EGL reaches the GPU where the loader finds the driver by its name, by the userland
    of the kernel module's version.
    """
    env = with_driver(machine)
    if refusal := program("unopened", VENDOR, env=env):
        pytest.skip(f"the loader does not find the driver on LD_LIBRARY_PATH: {refusal[VENDOR]}")

    on_the_gpu(measured, program("context", "egl", env=env), version)


@pytest.mark.usefixtures("raw")
def test_a_missing_icd_is_no_obstacle(program: Program, measured: Measured) -> None:
    """Where libglvnd itself lists no device of NVIDIA's, for want of an ICD, ours is on the GPU."""
    alone = program("alone")
    if alone["devices"]:
        pytest.skip("an ICD is installed here: libglvnd lists NVIDIA's devices by itself")

    seen = program("context", "egl")

    assert "NVIDIA" not in alone["raw"]
    assert "not loaded" not in alone["raw"]
    assert (seen["strategy"], seen["pixel"]) == ("egl", "right")
    assert "NVIDIA" in seen["vendor"]
    measured("raw moderngl is on", alone["raw"])
    measured("ours is on", seen["vendor"])


def test_a_process_that_draws_by_mesa_is_healed(
    program: Program, measured: Measured, mesa: str
) -> None:
    """In a process with a raw context on Mesa ours is on the GPU, and both go on drawing."""
    seen = program("healed", mesa)

    assert "NVIDIA" not in seen["before"]
    assert seen["devices before"] == 0
    assert "NVIDIA" in seen["vendor"]
    drawn = [seen[name] for name in ("pixel", "before, afterwards", "pixel, afterwards")]
    assert drawn == ["right"] * 3
    measured("before", seen["before"])
    measured("afterwards", seen["vendor"])
    measured("context", seen["seconds"], "s")


def test_a_process_whose_libegl_knows_no_vendor_is_healed(
    program: Program, measured: Measured
) -> None:
    """In a process whose libEGL was initialised without any vendor, ours is on the GPU."""
    seen = program("healed", None)

    assert seen["devices before"] == 0
    assert "NVIDIA" in seen["vendor"]
    assert seen["pixel"] == "right"
    measured("context", seen["seconds"], "s")


def test_a_driver_is_tried_in_another_process_first(program: Program, measured: Measured) -> None:
    """With probe=True the driver stands its trial in another process, and serves in this one."""
    trusted, probed = (program("context", "egl", probe) for probe in (False, True))

    assert "NVIDIA" in probed["vendor"]
    assert (probed["strategy"], probed["pixel"]) == ("egl", "right")
    measured("first context", trusted["seconds"], "s")
    measured("first context with probe=True", probed["seconds"], "s")
    measured("ratio", probed["seconds"] / trusted["seconds"], "times")
