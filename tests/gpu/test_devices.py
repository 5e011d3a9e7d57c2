"""What tells GPUs apart: EGL's UUIDs are NVML's, and EGL's ordinals are CUDA's."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gpu.conftest import Measured, Program
from moderngl_colab import _nvml

pytestmark = pytest.mark.usefixtures("egl")

VISIBLE = "CUDA_VISIBLE_DEVICES"
CASES = ("unset", "0", "a UUID", "empty")
NO_UUID = "the driver has no EGL_EXT_device_persistent_id: which GPU it is cannot be told"


@pytest.fixture
def uuid(nvml: _nvml.Answer) -> str:
    """The UUID of the last of NVML's GPUs that has graphics."""
    told = [gpu.uuid for gpu in nvml.gpus if not gpu.mig and gpu.uuid is not None]
    if not told:
        pytest.skip(f"NVML tells no UUID: {nvml}")
    if VISIBLE in os.environ and len(nvml.gpus) > 1:
        pytest.skip(f"{VISIBLE} is set: the other GPUs are not given to this test")
    return told[-1]


def visible(case: str, uuid: str) -> dict[str, str | None]:
    """The environment of a case."""
    return {VISIBLE: {"unset": None, "a UUID": uuid, "empty": ""}.get(case, case)}


def test_egls_uuids_are_nvmls(
    program: Program, measured: Measured, nvml: _nvml.Answer, uuid: str
) -> None:
    """EGL_DEVICE_UUID_EXT of every device is the UUID of a GPU that NVML lists, each another."""
    devices: list[Any] = program("devices", env={VISIBLE: None})
    telling = [device for device in devices if device["can tell UUID"]]
    measured("devices of NVIDIA", len(devices), "devices")
    measured("devices with EGL_EXT_device_persistent_id", len(telling), "devices")
    measured("devices that name a render node", sum(d["render node"] for d in devices), "devices")
    assert devices
    if len(telling) < len(devices):
        pytest.skip(NO_UUID)

    told = [device["uuid"] for device in telling]

    assert None not in told
    assert len(set(told)) == len(told)
    assert set(told) <= {gpu.uuid for gpu in nvml.gpus}


@pytest.mark.parametrize("case", CASES)
def test_egls_ordinals_follow_the_variable(
    program: Program, measured: Measured, uuid: str, case: str
) -> None:
    """EGL_CUDA_DEVICE_NV counts the GPUs that CUDA_VISIBLE_DEVICES leaves, and no others."""
    devices: list[Any] = program("devices", env=visible(case, uuid))
    asked = [device for device in devices if device["has ordinal"]]
    told = [device["cuda"] for device in asked if device["cuda"] is not None]
    measured("devices that can be asked", len(asked), "devices")
    measured("devices with an ordinal", len(told), "devices")

    if case == "empty":
        assert told == []
    elif case == "unset":
        assert sorted(told) == list(range(len(devices)))
    else:
        assert told == [0]
    if case == "a UUID":
        assert [d["uuid"] for d in devices if d["cuda"] == 0] in ([uuid], [None])


@pytest.mark.parametrize("case", ["unset", "0", "a UUID"])  # Of none there is nothing to compare.
def test_egls_ordinals_are_cudas(
    program: Program, measured: Measured, uuid: str, case: str
) -> None:
    """The device to which EGL gives an ordinal has the UUID that libcuda gives for it."""
    env = visible(case, uuid)
    if (uuids := program("cuda", env=env)) is None:
        pytest.skip("there is no libcuda.so.1 to ask")
    asked = [device for device in program("devices", env=env) if device["cuda"] is not None]
    measured("devices of CUDA", len(uuids), "devices")
    measured("devices with an ordinal", len(asked), "devices")
    if not asked and not uuids:
        pytest.skip("neither CUDA nor EGL counts a device: there is nothing to compare")
    if any(device["uuid"] is None for device in asked):
        pytest.skip(NO_UUID)

    assert {d["cuda"]: d["uuid"] for d in asked} == dict(enumerate(uuids))


@pytest.mark.parametrize("case", CASES)
def test_a_context_is_on_the_gpu_that_the_variable_gives(
    program: Program, measured: Measured, uuid: str, case: str
) -> None:
    """A context is on CUDA's first GPU of those which CUDA_VISIBLE_DEVICES leaves, or on none."""
    env = visible(case, uuid)
    if case == "empty":
        assert program("refused", env=env)["causes"][0] == "gpu-hidden"
        return

    seen = program("context", "egl", env=env)

    assert seen["cuda_device"] == 0
    assert seen["pixel"] == "right"
    assert "NVIDIA" in seen["vendor"]
    measured("renderer", seen["renderer"])
    if case == "a UUID":
        if not any(device["can tell UUID"] for device in program("devices", env=env)):
            pytest.skip(NO_UUID)
        assert seen["gpu_uuid"] == uuid
