"""What tells GPUs apart: EGL's UUIDs are NVML's, and EGL's ordinals are CUDA's."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.conftest import Measured, Program
from moderngl_colab import _nvml

pytestmark = pytest.mark.usefixtures("egl")

VISIBLE = "CUDA_VISIBLE_DEVICES"
CASES = ("unset", "0", "a UUID", "empty")


@pytest.fixture
def uuid(nvml: _nvml.Answer) -> str:
    """The UUID of NVML's last GPU."""
    if nvml.error is not None or nvml.gpus[-1].uuid is None:
        pytest.skip(f"NVML tells no UUID: {nvml}")
    return nvml.gpus[-1].uuid


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
    if not telling:
        pytest.skip("the driver has no EGL_EXT_device_persistent_id")

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
    if case == "a UUID":
        assert seen["gpu_uuid"] == uuid
    measured("renderer", seen["renderer"])
