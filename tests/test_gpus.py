"""With four GPUs that EGL lists in an order of its own, a context is on the GPU that is meant."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rig import machines

FOUR = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse", "STANDIN_NAMES": "Tesla T4"}
UUID = "GPU-57a2d10{0}-0c01-4ab0-9e11-00005eed000{0}"
NO_NVML = {"STANDIN_NVML": "12"}

# What the driver tells of its GPUs, and what it does not.
DRIVERS = {
    "whole": {"STANDIN_DRM": "1"},
    "no DRM": {},
    "no UUID": {"STANDIN_FAULT": "no-uuid", "STANDIN_DRM": "1"},
    "no UUID, no render node": {"STANDIN_FAULT": "no-uuid,no-render-node", "STANDIN_DRM": "1"},
    "ordinals alone": {"STANDIN_FAULT": "no-uuid"},
    "UUIDs alone": {"STANDIN_FAULT": "no-cuda-attrib"},
    "heedless": {"STANDIN_FAULT": "ignores-visible"},
    "heedless, ordinals alone": {"STANDIN_FAULT": "ignores-visible,no-uuid"},
    "CUDA's order is not PCI's": {"STANDIN_FASTEST": "2,0,3,1"},
    "unlike GPUs": {"STANDIN_NAMES": "A,B,C,D", "STANDIN_FASTEST": "2,0,3,1"},
    "unlike GPUs, ordinals alone": {
        "STANDIN_NAMES": "A,B,C,D",
        "STANDIN_FASTEST": "2,0,3,1",
        "STANDIN_FAULT": "no-uuid",
    },
    "unlike GPUs in PCI's order": {
        "STANDIN_NAMES": "A,B,C,D",
        "STANDIN_FASTEST": "2,0,3,1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    },
    "no NVML": NO_NVML,
    "no NVML, ordinals alone": NO_NVML | {"STANDIN_FAULT": "no-uuid"},
}

EVERY = """
import ctypes, json, os, sys
import moderngl_colab
from moderngl_colab import _nvml

def drawn(ctx):
    framebuffer = ctx.simple_framebuffer((2, 2))
    framebuffer.clear(1, 0, 0)
    return framebuffer.read()[:3].hex()

seen = {}
for value in json.loads(sys.argv[1]):
    os.environ["CUDA_VISIBLE_DEVICES"] = value
    ctx = moderngl_colab.get_gpu_context(allow_software=False)
    info = moderngl_colab.describe(ctx)
    seen[value] = [info.egl_device, info.cuda_device, drawn(ctx)]
    ctx.release()
print(json.dumps(seen))
"""


def gpu_of(egl_device: int) -> int:
    """The GPU by NVML's number, where EGL lists four in the opposite order."""
    return 3 - egl_device


@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
def test_every_gpu_is_reached_by_the_variable_that_gives_it(
    python: Any, driver: dict[str, str]
) -> None:
    fastest = driver.get("STANDIN_FASTEST", "0,1,2,3").split(",")
    if "CUDA_DEVICE_ORDER" in driver:
        fastest = ["0", "1", "2", "3"]
    by_number = {str(position): int(gpu) for position, gpu in enumerate(fastest)}
    by_uuid = {UUID.format(gpu)[:length]: gpu for gpu, length in enumerate((12, 12, 20, 40))}
    wanted = {**by_number, "3,1": int(fastest[3]), " 2gpu,7": int(fastest[2]), **by_uuid}

    done = python("container-graphics", EVERY, json.dumps([*wanted]), env=FOUR | driver)

    seen = json.loads(done.stdout)
    assert {value: gpu_of(device) for value, (device, *_) in seen.items()} == wanted
    assert {tuple(rest) for _, *rest in seen.values()} == {(0, "ff0000")}


@pytest.mark.parametrize("value", ["0", "1", "2", "3", UUID.format(2)])
@pytest.mark.parametrize("more", ["", ",no-uuid", ",no-uuid,no-query-name"])
def test_a_hidden_gpu_is_not_asked_for_what_would_crash_the_driver(
    chain: Callable[..., dict[str, Any]], more: str, value: str
) -> None:
    env = FOUR | {"STANDIN_FAULT": f"hidden-attrib-crash{more}", "CUDA_VISIBLE_DEVICES": value}

    report = chain("container-graphics", env=env, allow_software=False)

    assert gpu_of(report["egl_device"]) == int(value[11] if "-" in value else value)
    assert (report["strategy"], report["pixel"]) == ("egl", "ff0000")


@pytest.mark.parametrize("more", ["", ",no-query-name"])
def test_a_hidden_gpu_is_not_taken_for_one_of_mesas(
    chain: Callable[..., dict[str, Any]], more: str, mesa: str
) -> None:
    env = FOUR | {"STANDIN_FAULT": f"hidden-attrib-crash{more}", "CUDA_VISIBLE_DEVICES": ""}

    report = chain("package", env=env, strategies=["egl", "mesa"])

    assert (report["vendor"], report["egl_device"]) == (mesa, 4)


DEVICES = """
import json, sys
import moderngl_colab

class TorchDevice:
    def __str__(self):
        return "cuda:1"

seen = []
for device in [*json.loads(sys.argv[1]), TorchDevice()]:
    try:
        ctx = moderngl_colab.get_gpu_context(device=device)
    except ValueError as error:
        seen.append(str(error))
        continue
    info = moderngl_colab.describe(ctx)
    seen.append([info.cuda_device, *(info.gpu or ())])
    ctx.release()
print(json.dumps(seen))
"""


def test_a_device_is_named_in_every_way_that_cuda_pytorch_and_the_system_know(python: Any) -> None:
    names = [2, "3", "cuda:1", "cuda", UUID.format(3), UUID.format(0)[:12], "pci:0000:01:04.0"]

    done = python("container-graphics", DEVICES, json.dumps(names), env=FOUR)

    def gpu(number: int) -> list[object]:
        memory = (15 << 30) + (number << 20)
        pci = f"0000:0{number}:04.0"
        return [number, "Tesla T4", UUID.format(number), pci, memory, "550.54.15"]

    assert json.loads(done.stdout) == [gpu(number) for number in (2, 3, 1, 0, 3, 0, 1, 1)]


def test_what_is_no_device_of_this_process_is_told_with_those_that_are(python: Any) -> None:
    names = [7, "cuda:x", "GPU-57a2", UUID.format(1), "pci:0000:0f:00.0", "MIG-89c850dc"]
    env = FOUR | {"CUDA_VISIBLE_DEVICES": "2,0"}

    said = json.loads(python("container-graphics", DEVICES, json.dumps(names), env=env).stdout)

    has = '; it has 2, for CUDA_VISIBLE_DEVICES is "2,0":' + "".join(
        f"\n  cuda:{ordinal}  Tesla T4  {UUID.format(gpu)}  pci:0000:0{gpu}:04.0"
        for ordinal, gpu in enumerate((2, 0))
    )
    possible = (
        'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") '
        'and a PCI address ("pci:0000:0f:00.0"); of GPUs there are 4:'
    ) + "".join(f"\n  Tesla T4  {UUID.format(gpu)}  pci:0000:0{gpu}:04.0" for gpu in range(4))
    assert said[:-1] == [
        f"device='cuda:7': this process has no such GPU{has}",
        f"device='cuda:x': {possible}",
        f"device='GPU-57a2': 2 GPUs of this process begin so{has}",
        f"device='{UUID.format(1)}': this process has no such GPU{has}",
        f"device='pci:0000:0f:00.0': this process has no such GPU{has}",
        f"device='MIG-89c850dc': a MIG slice has no graphics; {possible}",
    ]
    assert said[-1][:3] == [1, "Tesla T4", UUID.format(0)]


def reasons(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {a["strategy"]: (a["reason"], a["cause"]) for a in report["attempts"]}


def test_the_variable_of_ours_names_a_device_and_the_argument_wins(
    chain: Callable[..., dict[str, Any]],
) -> None:
    env = FOUR | {"MODERNGL_COLAB_DEVICE": "cuda:2"}

    assert gpu_of(chain("container-graphics", env=env)["egl_device"]) == 2
    assert gpu_of(chain("container-graphics", env=env, device=1)["egl_device"]) == 1
    assert chain("container-graphics", env=env, device_index=3)["egl_device"] == 3
    wrong = chain("container-graphics", env=FOUR | {"MODERNGL_COLAB_DEVICE": "second"})
    assert wrong["error"].startswith("ValueError: MODERNGL_COLAB_DEVICE='second': possible are")


def test_a_device_and_an_index_together_are_an_error(chain: Callable[..., dict[str, Any]]) -> None:
    assert chain("colab", device="cuda:0", device_index=0)["error"] == (
        "ValueError: device='cuda:0' and device_index=0: a GPU is named by one of them"
    )


def test_an_index_is_egls_own_and_takes_no_notice_of_the_variable(
    chain: Callable[..., dict[str, Any]],
) -> None:
    report = chain("container-graphics", env=FOUR | {"CUDA_VISIBLE_DEVICES": "2"}, device_index=0)

    assert (report["egl_device"], report["renderer"]) == (0, "Tesla T4/PCIe/SSE2")


def test_glx_is_passed_over_where_one_of_several_gpus_is_meant(
    chain: Callable[..., dict[str, Any]],
) -> None:
    asked = chain("glx-only", env=FOUR, device="cuda:1")
    given = chain("glx-only", env=FOUR | {"CUDA_VISIBLE_DEVICES": "1"})
    neither = chain("glx-only", env=FOUR)

    assert asked["error"].startswith("GPUContextError: no OpenGL 3.3 context could be made:")
    assert reasons(asked)["glx"] == (
        "device='cuda:1' names a certain one of several GPUs, and GLX chooses its own",
        "gpu-other",
    )
    assert reasons(asked)["mesa"] == (
        "device='cuda:1' names an NVIDIA GPU, and Mesa drives none",
        None,
    )
    assert (given["strategy"], reasons(given)["glx"][0]) == (
        "mesa",
        "CUDA_VISIBLE_DEVICES gives a certain one of several GPUs, and GLX chooses its own",
    )
    assert neither["strategy"] == "glx"


def test_glx_serves_a_device_that_is_the_only_one(chain: Callable[..., dict[str, Any]]) -> None:
    for device in ("cuda:0", UUID.format(0), "pci:0000:00:04.0"):
        assert chain("glx-only", device=device)["strategy"] == "glx"
    said = chain("glx-only", device="cuda:1")["error"]
    assert said == (
        "ValueError: device='cuda:1': this process has no such GPU; it has 1:\n"
        f"  cuda:0  NVIDIA Stand-in GPU 0  {UUID.format(0)}  pci:0000:00:04.0"
    )


@pytest.mark.parametrize("value", ["", "-1", "4", "GPU-57a2d1", "GPU-ffff", "0,0", "nonsense"])
@pytest.mark.parametrize("machine", ["container-graphics", "glx-only"])
def test_no_gpu_is_taken_from_a_process_that_was_given_none(
    chain: Callable[..., dict[str, Any]], machine: str, value: str, mesa: str
) -> None:
    env = FOUR | {"CUDA_VISIBLE_DEVICES": value}

    assert chain(machine, env=env)["vendor"] == mesa
    refused = chain(machine, env=env, strategies=["egl", "glx"])
    hidden = (
        f'CUDA_VISIBLE_DEVICES is "{value}", and that leaves this process no GPU',
        "gpu-hidden",
    )
    name = "egl" if machine == "container-graphics" else "glx"
    assert reasons(refused)[name] == hidden


def test_where_nothing_tells_gpus_apart_none_is_taken(chain: Callable[..., dict[str, Any]]) -> None:
    silent = FOUR | {"STANDIN_FAULT": "no-uuid,no-cuda-attrib"}

    error = chain("container-graphics", env=silent)["error"]

    assert error == (
        "UnmatchedError: it cannot be told which EGL device is cuda:0  Tesla T4  "
        f"{UUID.format(0)}  pci:0000:00:04.0: "
        + "; ".join(
            f"EGL device {number} has no ordinal of CUDA, no UUID, no PCI address"
            for number in range(4)
        )
        + "\n  fix: take it as EGL counts, if you know which is yours: device_index=0"
    )


def test_the_next_gpu_that_was_given_serves_where_the_first_refuses(
    chain: Callable[..., dict[str, Any]],
) -> None:
    env = FOUR | {"STANDIN_FAULT": "init-first"}

    assert gpu_of(chain("container-graphics", env=env)["egl_device"]) == 1
    asked = chain("container-graphics", env=env, device=0, strategies=["egl"])
    assert "EGL device 3: eglInitialize failed" in reasons(asked)["egl"][0]


MEMORY = """
import json
import moderngl_colab
info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
print(json.dumps(info.gpu_memory()))
"""


def test_memory_is_that_of_the_contexts_gpu(python: Any) -> None:
    env = FOUR | {"CUDA_VISIBLE_DEVICES": "3"}

    assert json.loads(python("container-graphics", MEMORY, env=env).stdout) == [
        (15 << 30) + (3 << 20),
        512 << 20,
        128 << 20,
    ]


@pytest.mark.parametrize("pids", ["hidden", "none", "both"])
def test_what_a_process_uses_is_not_guessed_where_it_is_not_listed(python: Any, pids: str) -> None:
    code = MEMORY + ("import os; print(os.stat('/proc/self/ns/pid').st_ino == 0xEFFFFFFC)")

    memory, first = python("colab", code, env={"STANDIN_PIDS": pids}).stdout.splitlines()

    own = 128 << 20 if pids == "both" else 0 if first == "True" else None
    assert json.loads(memory)[2] == own


HIDING = """
import os, subprocess, sys
namespaces = "-m" if os.geteuid() == 0 else "-Urm"
hide = 'mount -t tmpfs none /proc/$$/ns && exec "$@"'
program = [sys.executable, "-P", *sys.argv[1:]]
sys.exit(subprocess.call(["unshare", namespaces, "sh", "-c", hide, "sh", *program]))
"""


def test_what_a_process_uses_is_not_guessed_where_its_pid_namespace_is_hidden(python: Any) -> None:
    code = MEMORY + "import os; print(os.listdir('/proc/self/ns'))"

    said = python("colab", HIDING, "-c", code, env={"STANDIN_PIDS": "none"}).stdout.splitlines()

    total, used, own = json.loads(said[0])
    assert (total, used, own, said[1]) == (15 << 30, 512 << 20, None, "[]")


@pytest.mark.parametrize("fault", ["nvml-refuses", "nvml-nonsense"])
def test_without_an_answer_of_nvml_there_is_no_figure(python: Any, fault: str) -> None:
    assert json.loads(python("colab", MEMORY, env={"STANDIN_FAULT": fault}).stdout) is None


VISIBLE = """
import json
import moderngl_colab
print(json.dumps([[gpu.name, gpu.uuid] for gpu in moderngl_colab.visible_gpus()]))
"""


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, [3, 1]),
        ({"CUDA_VISIBLE_DEVICES": "0,7"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        (NO_NVML, [None] * 4),
    ],
)
def test_the_gpus_of_a_process_can_be_asked_for(
    python: Any, env: dict[str, str], expected: list[int | None]
) -> None:
    done = python("colab-no-path", VISIBLE, env=FOUR | env)

    gpus = [[None, None] if n is None else ["Tesla T4", UUID.format(n)] for n in expected]
    assert json.loads(done.stdout) == gpus


@pytest.mark.parametrize("fault", ["nvml-crash", "nvml-hang"])
def test_nvmls_faults_are_none_of_a_context_where_egl_tells_enough(
    chain: Callable[..., dict[str, Any]], fault: str
) -> None:
    for value in ("2,0", UUID.format(2)):
        env = FOUR | {"STANDIN_FAULT": fault, "CUDA_VISIBLE_DEVICES": value}
        report = chain("container-graphics", env=env, allow_software=False)
        assert (gpu_of(report["egl_device"]), report["pixel"]) == (2, "ff0000")


ALL = """
import json, sys
import moderngl_colab
try:
    info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
    print(info.egl_device, info.cuda_device, info.gpu.uuid)
except moderngl_colab.GPUContextError as error:
    print(error)
"""


@pytest.mark.parametrize("fault", ["", "ignores-visible"])
@pytest.mark.parametrize("value", ["3,2,1,0", "1,2,0,3"])
def test_all_gpus_in_another_order_are_told_apart_whether_the_driver_heeds_it_or_not(
    python: Any, value: str, fault: str
) -> None:
    env = FOUR | {"STANDIN_FAULT": fault, "CUDA_VISIBLE_DEVICES": value}
    first = int(value[0])

    assert python("container-graphics", ALL, env=env).stdout == (
        f"{3 - first} 0 {UUID.format(first)}\n"
    )
    silent = env | {"STANDIN_FAULT": f"{fault},no-uuid"}
    assert python("container-graphics", ALL, env=silent).stdout.startswith(
        f"it cannot be told which EGL device is cuda:0  Tesla T4  {UUID.format(first)}"
    )


def test_a_slice_that_the_variable_gives_is_no_gpu(python: Any) -> None:
    env = FOUR | {"CUDA_VISIBLE_DEVICES": "MIG-89c850dc"}

    said = python("container-graphics", ALL, env=env).stdout

    assert said.startswith(
        "it cannot be told which EGL device is cuda:0  MIG-89c850dc: EGL device 0"
    )
    assert said.endswith(
        "\n  fix: ask for a whole GPU; a MIG slice of a compute card has no graphics\n"
    )


def test_a_device_that_may_not_be_opened_is_told_as_such(
    chain: Callable[..., dict[str, Any]],
) -> None:
    closed = replace(machines.MACHINES["container-graphics"], node_mode="0600")
    if os.geteuid():
        pytest.skip("needs root, which every node of a machine is open to, to be another user")

    report = chain(closed, uid=4242, device=0)

    assert {cause for _, cause in reasons(report).values()} == {"device-permission", None}
