"""What libraries say when they are opened and asked: kept up to the question that was the last."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from rig import driver, machines

Examined = Callable[..., dict[str, Any]]

PROGRAM = """
import json, os, sys
from moderngl_colab import survey
from moderngl_colab.diagnostics.examine import examine
before = len(os.listdir("/proc/self/fd"))
examined = examine(survey.look(), float(sys.argv[1])).examined
assert len(os.listdir("/proc/self/fd")) == before
answer = examined._asdict()
if examined.nvml is not None:
    answer["nvml"] = examined.nvml._asdict() | {"says": str(examined.nvml)}
print(json.dumps(answer))
"""
LIB = str(driver.multiarch())
CACHED = LIB.removeprefix("/usr")  # as the loader's cache spells it
MEMORY = 15 << 30
UUID = "GPU-57a2d10{0}-0c01-4ab0-9e11-00005eed000{0}"
BY_NAME = ("libEGL.so.1", "libGL.so.1", "libX11.so.6", "libXext.so.6", "libstdc++.so.6")


def gpu(number: int) -> list[Any]:
    name, uuid = f"NVIDIA Stand-in GPU {number}", UUID.format(number)
    return [name, False, MEMORY + (number << 20), uuid, f"0000:0{number}:04.0"]


@pytest.fixture
def examined(python: Callable[..., machines.Finished]) -> Examined:
    """What examine() says of a simulated machine."""

    def call(
        machine: str | machines.Machine, timeout: float = 60, **arguments: Any
    ) -> dict[str, Any]:
        result = python(machine, PROGRAM, str(timeout), **arguments)
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    return call


def test_a_healthy_machine_answers_every_question(examined: Examined) -> None:
    report = examined("package", env={"STANDIN_GPUS": "2", "STANDIN_DRM": "1"})

    assert set(report["opened"].values()) == {None}
    assert {*BY_NAME, "libEGL_nvidia.so.0", "libEGL_mesa.so.0"} <= set(report["opened"])
    assert report["mapped"]["libEGL_nvidia.so.0"] == f"{LIB}/libEGL_nvidia.so.550.54.15"
    assert all(os.path.isabs(path) for path in report["mapped"].values())
    assert report["nvml"] == {
        "error": None,
        "driver": "550.54.15",
        "gpus": [gpu(0), gpu(1)],
        "code": None,
        "says": "NVML lists NVIDIA Stand-in GPU 0, NVIDIA Stand-in GPU 1",
    }
    assert report["devices"] == [
        [0, True, 0, UUID.format(0), "/dev/dri/renderD128", "0000:00:04.0"],
        [1, True, 1, UUID.format(1), "/dev/dri/renderD129", "0000:01:04.0"],
        [2, False, None, None, None, None],
    ]
    assert (report["unanswered"], report["stderr"], report["glibcxx"]) == ({}, [], {})


def test_egls_order_and_cudas_are_told_apart(examined: Examined) -> None:
    settings = {"STANDIN_GPUS": "3", "STANDIN_ORDER": "reverse", "CUDA_VISIBLE_DEVICES": "2,0"}

    report = examined("colab", env=settings)

    assert [device[:4] for device in report["devices"]][:3] == [
        [0, True, 0, UUID.format(2)],
        [1, True, None, UUID.format(1)],
        [2, True, 1, UUID.format(0)],
    ]


def test_a_hidden_gpu_is_not_asked_what_would_crash_the_driver(examined: Examined) -> None:
    settings = {"STANDIN_GPUS": "2", "STANDIN_FAULT": "hidden-attrib-crash"}
    settings["CUDA_VISIBLE_DEVICES"] = "0"

    report = examined("colab", env=settings)

    assert report["devices"][:2] == [
        [0, True, 0, UUID.format(0), None, None],
        [1, True, None, UUID.format(1), None, None],
    ]
    assert report["unanswered"] == {}


def test_nonsense_of_the_driver_is_no_answer(examined: Examined) -> None:
    report = examined("colab", env={"STANDIN_FAULT": "nonsense,nvml-nonsense", "STANDIN_DRM": "1"})

    assert report["devices"][0] == [0, True, None, None, None, None]
    assert report["nvml"] == {
        "error": None,
        "driver": None,
        "gpus": [["GPU without a name", False, None, None, None]],
        "code": None,
        "says": "NVML lists GPU without a name",
    }


def test_what_nvml_refuses_of_a_gpu_is_left_out(examined: Examined) -> None:
    report = examined("colab", env={"STANDIN_FAULT": "nvml-refuses"})

    assert report["nvml"]["gpus"] == [["GPU without a name", False, None, None, None]]
    assert (report["nvml"]["error"], report["nvml"]["code"]) == (None, None)


def test_every_code_of_nvml_is_an_answer(python: Callable[..., machines.Finished]) -> None:
    code = (
        "import json, os\n"
        "from moderngl_colab import _driver, _nvml\n"
        "said = {}\n"
        "for number in [*range(1, 31), 999, 12345, 2**31 - 1]:\n"
        "    os.environ['STANDIN_NVML'] = str(number)\n"
        "    said[number] = _nvml.ask(_driver.find().nvml)\n"
        "print(json.dumps(said))\n"
    )

    said = json.loads(python("colab", code).stdout)

    assert {number: answer[1:] for number, answer in said.items()} == {
        number: [None, [], int(number)] for number in said
    }
    assert said["18"][0] == "NVML: RM has detected an NVML/RM version mismatch. (18)"
    assert said["12"][0] == "NVML: NVML Shared Library Not Found (12)"
    assert said["999"][0] == "NVML: Unknown Error (999)"
    assert said["12345"][0] == "NVML: Unknown Error (12345)"


@pytest.mark.parametrize("value", ["nonsense", "-1", "0x12", ""])
def test_a_code_that_is_none_does_not_end_the_question(examined: Examined, value: str) -> None:
    report = examined("colab", env={"STANDIN_NVML": value})

    assert report["unanswered"] == {}
    assert report["nvml"]["code"] == (-1 if value == "-1" else None)


def test_without_nvml_its_absence_is_its_answer(examined: Examined) -> None:
    report = examined("no-nvidia")

    assert report["nvml"]["says"] == "NVML: NVML Shared Library Not Found (12)"
    assert report["nvml"]["code"] == 12
    assert report["devices"] == [[0, False, None, None, None, None]]


def test_a_mig_slice_is_told_by_nvml(examined: Examined) -> None:
    report = examined("mig")

    assert [each[1] for each in report["nvml"]["gpus"]] == [True]
    assert report["devices"] == [[0, False, None, None, None, None]]


@pytest.mark.parametrize(
    ("fault", "question"),
    [("nvml-{}", "NVML"), ("query-{}", "libEGL's devices")],
)
@pytest.mark.parametrize(("ending", "timeout"), [("crash", 60), ("hang", 8)])
def test_a_question_that_has_no_answer_is_named_and_the_rest_is_asked(
    examined: Examined, fault: str, question: str, ending: str, timeout: float
) -> None:
    report = examined("colab", timeout, env={"STANDIN_FAULT": fault.format(ending)})

    ends = {"hang": "did not answer in time", "crash": "was ended by SIGABRT (6)"}
    assert report["unanswered"] == {question: ends[ending]}
    assert {*BY_NAME, "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15"} <= set(report["opened"])
    assert (report["nvml"] is None) is (question == "NVML")
    assert (report["devices"] is None) is (question != "NVML")


def test_the_loaders_words_are_kept(examined: Examined) -> None:
    report = examined("no-gl")

    missing = "{}: cannot open shared object file: No such file or directory"
    for name in ("libEGL.so.1", "libGL.so.1"):
        assert report["opened"][name] == missing.format(name)
        assert name not in report["mapped"]
    assert report["opened"]["libX11.so.6"] is None
    assert report["devices"] is None


def test_vendors_are_opened_as_libglvnd_would(examined: Examined) -> None:
    missing = "{}: cannot open shared object file: No such file or directory"

    dangling = examined("icd-dangling")
    split = examined("split")
    fifo = examined("icd-fifo")

    name = "libEGL_nvidia.so.0"
    assert dangling["opened"][name] == missing.format(name)
    # Opened whole, as ours are, though the loader alone finds only half of it.
    assert split["opened"][f"{CACHED}/libEGL_nvidia.so.550.54.15"] is None
    assert split["devices"][0][1] is True
    assert fifo["unanswered"] == {}


def test_a_driver_of_another_version_is_opened_and_lists_nothing(examined: Examined) -> None:
    report = examined("mismatch")

    assert report["devices"] == [[0, False, None, None, None, None]]
    assert report["nvml"]["code"] == 18


def test_a_library_that_is_no_library_is_told_by_the_loader(examined: Examined) -> None:
    icd = '{"file_format_version": "1.0.0", "ICD": {"library_path": "/usr/lib/broken.so"}}'
    machine = dataclasses.replace(
        machines.MACHINES["no-nvidia"],
        items=(
            machines.Item("/usr/lib/broken.so", "\x7fELF and no more"),
            machines.Item("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", icd),
        ),
    )

    report = examined(machine)

    assert report["opened"]["/usr/lib/broken.so"] == "/usr/lib/broken.so: file too short"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        # These two are in no path, and so is no library of that name asked for.
        ("a\\u0000b", None),
        ("/a\\ud800", None),
        ("{}", "{}: cannot open shared object file: No such file or directory"),
    ],
)
def test_an_icd_that_names_no_path_does_not_end_the_questions(
    examined: Examined, text: str, error: str | None
) -> None:
    icd = f'{{"file_format_version": "1.0.0", "ICD": {{"library_path": "{text}"}}}}'
    machine = dataclasses.replace(
        machines.MACHINES["no-nvidia"],
        items=(machines.Item("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", icd),),
    )

    report = examined(machine)

    assert report["opened"].get(text) == error
    assert report["unanswered"] == {}
    assert report["devices"] is not None


def test_an_older_libstdcxx_than_mesas_is_told_by_both_versions(examined: Examined) -> None:
    needed = "GLIBCXX_3.4.5 GLIBCXX_3.4.99 GLIBCXX_3.4.9"
    machine = dataclasses.replace(
        machines.MACHINES["no-nvidia"],
        items=(machines.Item("{lib}/libgallium-99.so", needed),),
    )

    report = examined(machine)

    assert report["opened"][f"{LIB}/libgallium-99.so"] is not None
    assert report["glibcxx"][f"{LIB}/libgallium-99.so"] == "3.4.99"
    assert report["glibcxx"]["libstdc++.so.6"].startswith("3.4.")


def test_nothing_at_all_can_be_started_and_nothing_is_said(
    python: Callable[..., machines.Finished],
) -> None:
    code = (
        "import sys\n"
        "from moderngl_colab import survey\n"
        "from moderngl_colab.diagnostics.examine import examine\n"
        "sys.executable = None\n"
        "examined = examine(survey.look()).examined\n"
        "print(examined.opened, examined.nvml, examined.devices, examined.stderr)\n"
    )
    assert python("colab", code).stdout == (
        "{} None None ('no process: sys.executable names no program',)\n"
    )
