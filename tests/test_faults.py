"""Drivers, servers and files that misbehave: the next strategy serves, and the reason is right."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import path_with_xvfb

from rig import machines, remedies

Chain = Callable[..., dict[str, Any]]

STATES = ("clean", "raw", "raw-current")
LISTED = "NVML lists NVIDIA Stand-in GPU 0"
MESA_SEEN = "GL_VENDOR is '{}', GL_RENDERER is '{}'; the vendor asked for is NVIDIA"

EGL_FAULTS = {
    "init": f"EGL device 0: eglInitialize failed: EGL_NOT_INITIALIZED (0x3001); {LISTED}",
    "context": "EGL device 0: OpenGL 3.3: eglCreateContext failed: EGL_BAD_ALLOC (0x3003); "
    + LISTED,
    "makecurrent": f"EGL device 0: eglMakeCurrent failed: EGL_BAD_ACCESS (0x3002); {LISTED}",
    "no-configs": f"EGL device 0: eglChooseConfig failed: EGL_BAD_CONFIG (0x3005); {LISTED}",
}
GLX_FAULTS = {
    "no-fbconfig": "glXChooseFBConfig gave no config",
    "refuse-screen": "glXChooseFBConfig gave no config",
    "glx-context": "glXCreateContextAttribsARB: no context",
    "glx-badvalue": "glXCreateContextAttribsARB: X error BadValue (integer parameter out of range "
    "for operation) (2)",
}


def attempt(report: dict[str, Any], strategy: str) -> tuple[str, str | None, str, str | None]:
    """Outcome, cause, reason and remedy of a strategy."""
    found = next(a for a in report["attempts"] if a["strategy"] == strategy)
    return found["outcome"], found["cause"], found["reason"], found["remedy"]


def assert_nothing_left(report: dict[str, Any]) -> None:
    """A strategy that failed leaves nothing; one over Xvfb that served keeps four files."""
    served_over_xvfb = report.get("strategy") == "glx"
    assert report["changed"] == []
    assert report["new_files"] == (4 if served_over_xvfb else 0)
    assert report["children"] == (["Xvfb"] if served_over_xvfb else [])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fault", EGL_FAULTS)
def test_where_egl_refuses_glx_serves(chain: Chain, fault: str, state: str) -> None:
    report = chain("container-graphics", state, env={"STANDIN_FAULT": fault})

    assert attempt(report, "egl") == ("failed", "driver-refused", EGL_FAULTS[fault], remedies.SMI)
    assert (report["strategy"], report["pixel"]) == ("glx", "ff0000")
    assert_nothing_left(report)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fault", ["no-devices", "query-fails"])
def test_where_egl_lists_no_device_glx_serves(chain: Chain, fault: str, state: str) -> None:
    report = chain("colab", state, env={"STANDIN_FAULT": fault})

    outcome, cause, reason, remedy = attempt(report, "egl")
    # The driver is whole: another copy would be ignored.
    assert (outcome, cause, remedy) == ("unavailable", "driver-refused", remedies.SMI)
    assert reason == (
        "libEGL lists no NVIDIA device, though /usr/lib64-nvidia/libEGL_nvidia.so.550.54.15 is "
        f"there; {LISTED}"
    )
    assert (report["strategy"], report["pixel"]) == ("glx", "ff0000")
    assert_nothing_left(report)


@pytest.mark.parametrize("state", STATES)
def test_a_context_of_another_vendor_is_rejected_and_released(
    chain: Chain, mesa: str, state: str
) -> None:
    report = chain("colab", state, env={"STANDIN_FAULT": "mesa-vendor"})

    outcome, _, reason, _ = attempt(report, "egl")
    assert outcome == "rejected"
    assert reason == MESA_SEEN.format(mesa, reason.split("'")[3])
    assert "llvmpipe" in reason
    assert (report["strategy"], report["pixel"]) == ("glx", "ff0000")
    assert_nothing_left(report)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fault", GLX_FAULTS)
def test_where_glx_refuses_mesa_serves_and_no_server_stays(
    chain: Chain, fault: str, state: str
) -> None:
    report = chain("glx-only", state, env={"STANDIN_FAULT": fault})

    reason = f"GLX over Xvfb: OpenGL 3.3: {GLX_FAULTS[fault]}; {LISTED}"
    assert attempt(report, "glx") == ("failed", "glx-refused", reason, remedies.SMI)
    assert (report["strategy"], report["software"], report["pixel"]) == ("mesa", True, "ff0000")
    assert_nothing_left(report)


@pytest.mark.parametrize("state", STATES)
def test_a_glx_context_of_another_vendor_is_rejected_and_its_server_stopped(
    chain: Chain, state: str
) -> None:
    report = chain("glx-only", state, env={"STANDIN_FAULT": "glx-mesa-vendor"})

    assert attempt(report, "glx")[0] == "rejected"
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert_nothing_left(report)


def test_python_without_assertions_rejects_the_same(chain: Chain) -> None:
    fault = {"STANDIN_FAULT": "mesa-vendor,glx-mesa-vendor"}

    plain = chain("container-graphics", env=fault)
    optimised = chain("container-graphics", env=fault, options=["-O"])

    assert optimised == plain
    assert [a["outcome"] for a in plain["attempts"]] == ["rejected", "rejected", "selected"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("18", "NVML: RM has detected an NVML/RM version mismatch. (18)"),
        ("999", "NVML: Unknown Error (999)"),
        ("4", "NVML: Insufficient Permissions (4)"),
    ],
)
def test_what_nvml_says_goes_with_the_refusal(chain: Chain, code: str, said: str) -> None:
    report = chain("colab", env={"STANDIN_FAULT": "init", "STANDIN_NVML": code})

    assert attempt(report, "egl")[2] == (
        f"EGL device 0: eglInitialize failed: EGL_NOT_INITIALIZED (0x3001); {said}"
    )


def test_what_every_gpu_answers_is_told(chain: Chain) -> None:
    report = chain("colab", env={"STANDIN_GPUS": "2"}, require=990)

    outcome, _, reason, remedy = attempt(report, "egl")
    assert outcome == "failed"
    assert reason.startswith("EGL device 0: OpenGL 9.9: eglCreateContext failed: EGL_BAD_MATCH")
    assert "; EGL device 1: OpenGL 9.9: eglCreateContext failed" in reason
    assert remedy == "ask for less: require=330"


def test_a_version_that_the_driver_refuses_is_named_with_its_answer(chain: Chain) -> None:
    report = chain("no-nvidia", require=460)

    assert attempt(report, "mesa") == (
        "failed",
        None,
        "EGL device 0: OpenGL 4.6: eglCreateContext failed: EGL_BAD_MATCH (0x3009)",
        "ask for less: require=330",
    )
    assert report["error"].startswith("GPUContextError: no OpenGL 4.6 context could be made:\n")


@pytest.mark.parametrize("state", STATES)
def test_an_xvfb_that_ends_at_once_is_quoted(chain: Chain, folder: Path, state: str) -> None:
    xvfb = path_with_xvfb(folder, 'exec /usr/bin/Xvfb "$@" -no-such-option')

    report = chain("glx-only", state, env=xvfb)

    assert attempt(report, "glx") == (
        "failed",
        "xvfb-start",
        "Xvfb ended at once with status 1; it said: Unrecognized option: -no-such-option",
        remedies.XKB,
    )
    assert report["strategy"] == "mesa"
    assert_nothing_left(report)


def test_an_xvfb_without_its_keyboard_compiler_is_quoted(chain: Chain) -> None:
    machine = machines.MACHINES["glx-only"]
    machine = dataclasses.replace(machine, removed=("/usr/bin/xkbcomp",))

    report = chain(machine)

    outcome, cause, reason, remedy = attempt(report, "glx")
    assert (outcome, cause, remedy) == ("failed", "xvfb-start", remedies.XKB)
    assert reason.startswith("Xvfb ended at once with status ")
    assert "; it said: Failed to activate virtual core keyboard" in reason
    assert_nothing_left(report)


def test_an_xvfb_that_does_not_answer_is_ended(chain: Chain, folder: Path) -> None:
    env = {"MODERNGL_COLAB_TIMEOUT": "4"} | path_with_xvfb(folder, "exec sleep 60")
    report = chain("glx-only", env=env)

    # Half of the time is for Mesa, which comes after it.
    assert re.fullmatch(r"Xvfb did not answer within (1\.\d|2) s", attempt(report, "glx")[2])
    assert report["strategy"] == "mesa"
    assert_nothing_left(report)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", [":/usr/lib64-nvidia::", "::/nowhere:/usr/lib64-nvidia", "::"])
def test_empty_entries_of_the_library_path_are_passed_over(
    chain: Chain, path: str, state: str
) -> None:
    report = chain("colab", state, env={"LD_LIBRARY_PATH": path})

    assert (report["strategy"], report["pixel"]) == ("egl", "ff0000")


def test_an_icd_fifo_in_the_users_own_list_does_not_hang(chain: Chain, folder: Path) -> None:
    fifo = folder / "10_nvidia.json"
    os.mkfifo(fifo)
    mesa = "/usr/share/glvnd/egl_vendor.d/50_mesa.json"

    report = chain("no-nvidia", env={"__EGL_VENDOR_LIBRARY_FILENAMES": f"{fifo}:{mesa}"})

    assert (report["strategy"], report["pixel"], report["changed"]) == ("mesa", "ff0000", [])


@pytest.mark.parametrize("state", STATES)
def test_an_icd_fifo_on_a_machine_without_a_driver_does_not_hang(chain: Chain, state: str) -> None:
    machine = dataclasses.replace(
        machines.MACHINES["no-nvidia"],
        items=(machines.Item("/etc/glvnd/egl_vendor.d/00.json", kind="fifo"),),
    )

    report = chain(machine, state)

    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")


def test_the_second_gpu_serves_where_the_first_refuses(chain: Chain) -> None:
    report = chain("colab", env={"STANDIN_GPUS": "2", "STANDIN_FAULT": "init-first"})

    assert (report["strategy"], report["egl_device"]) == ("egl", 1)
    assert report["renderer"] == "NVIDIA Stand-in GPU 1/PCIe/SSE2"
