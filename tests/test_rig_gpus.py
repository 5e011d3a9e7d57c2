"""What the stand-in driver says of four GPUs, asked as any program would ask it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from rig import machines

FOUR = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse"}
UUID = "GPU-57a2d10{0}-0c01-4ab0-9e11-00005eed000{0}"

# What each EGL device of NVIDIA's says under each of the environments given, in one process.
# With "hidden" it is asked for the attribute whether or not it lists the extension.
PROGRAM = """
import ctypes, json, os, sys
from ctypes import byref, c_char_p, c_int, c_ssize_t, c_uint, c_void_p
lib = ctypes.CDLL("libEGL.so.1")
lib.eglGetProcAddress.restype = c_void_p
def function(name, result, *types):
    return ctypes.CFUNCTYPE(result, *types)(lib.eglGetProcAddress(name.encode()))
devices = function("eglQueryDevicesEXT", c_uint, c_int, c_void_p, c_void_p)
string = function("eglQueryDeviceStringEXT", c_char_p, c_void_p, c_int)
attrib = function("eglQueryDeviceAttribEXT", c_uint, c_void_p, c_int, c_void_p)
binary = function("eglQueryDeviceBinaryEXT", c_uint, c_void_p, c_int, c_int, c_void_p, c_void_p)
handles, count = (c_void_p * 16)(), c_int()
assert devices(16, handles, byref(count)) and count.value == 5  # the last is Mesa's
def answers(device):
    text = lambda name: None if (said := string(device, name)) is None else said.decode()
    extensions = text(0x3055).split()
    asked = "EGL_NV_device_cuda" in extensions or "hidden" in sys.argv
    ordinal, uuid, size = c_ssize_t(), (ctypes.c_ubyte * 16)(), c_int()
    return {
        "extensions": extensions,
        "cuda": ordinal.value if asked and attrib(device, 0x323A, byref(ordinal)) else None,
        "uuid": bytes(uuid).hex() if binary(device, 0x335C, 16, uuid, byref(size)) else None,
        "vendor": text(0x3053),
        "renderer": text(0x335F),
        "device file": text(0x3233),
        "render node": text(0x3377),
    }
for settings in json.loads(sys.argv[1]):
    os.environ.update(settings)
    print(json.dumps([answers(handle) for handle in handles[:4]]))
    for name in settings:
        del os.environ[name]
"""
EXTENSIONS = [
    "EGL_NV_device_cuda",
    "EGL_EXT_device_drm",
    "EGL_EXT_device_drm_render_node",
    "EGL_EXT_device_query_name",
    "EGL_EXT_device_persistent_id",
]

Environment = dict[str, str]


@pytest.fixture
def asked(python: Callable[..., machines.Finished]) -> Callable[..., list[list[dict[str, Any]]]]:
    """What the four GPUs say in each of the environments, by their numbers."""

    def ask(environments: list[Environment], *arguments: str) -> list[list[dict[str, Any]]]:
        done = python("package", PROGRAM, json.dumps(environments), *arguments, env=FOUR)
        return [json.loads(line)[::-1] for line in done.stdout.splitlines()]

    return ask


# The GPUs that CUDA has, in the order of their ordinals. What PyTorch's tests of its own reading
# of the variable take for granted is among them.
VISIBLE: dict[str | None, list[int]] = {
    None: [0, 1, 2, 3],
    "": [],
    "2": [2],
    "3,1": [3, 1],
    "1gpu2,2ampere": [1, 2],
    "0, 1, 2, -1, 3": [0, 1, 2],
    " \t+1 ,-0,": [1, 0],
    "0,1,2,1": [],
    "1,01": [],
    "-1": [],
    "- 1": [],
    "gpu1": [],
    "4": [],
    "0,4,1": [0],
    "0,,1": [0],
    "99999999999999999999": [],
    "0x2": [0],
    "GPU-57a2d102": [2],
    f"{UUID.format(3)},GPU-57a2d100": [3, 0],
    "GPU-57a2d1,GPU-57a2d100": [],
    "GPU-57a2d103,GPU-57a2d10,GPU-57a2d100": [3],
    "GPU-57a2d103,1": [3],
    "GPU-57a2d103, GPU-57a2d101": [3],
    "GPU-57a2d103,GPU-57a2d109,GPU-57a2d101": [3],
    f"GPU-57a2d101,{UUID.format(1)}": [],
    f"{UUID.format(1)}0": [],
    "GPU-57A2D101": [],
    " GPU-57a2d101": [],
    "1,GPU-57a2d102": [1],
    "MIG-57a2d102": [],
}


def test_cuda_counts_the_gpus_that_its_variable_gives(asked: Callable[..., Any]) -> None:
    environments = [{} if t is None else {"CUDA_VISIBLE_DEVICES": t} for t in VISIBLE]

    answers = asked(environments)

    assert dict(zip(VISIBLE, map(_counted, answers), strict=True)) == VISIBLE


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({}, [2, 0, 1, 3]),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, [2, 0, 1, 3]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0, 1, 2, 3]),
        ({"CUDA_VISIBLE_DEVICES": "3,0"}, [3, 2]),
        ({"CUDA_VISIBLE_DEVICES": "3,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [3, 0]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-57a2d101,GPU-57a2d102"}, [1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "1", "STANDIN_FAULT": "ignores-visible"}, [2, 0, 1, 3]),
    ],
)
def test_cudas_own_order_is_the_fastest_first(
    asked: Callable[..., Any], environment: Environment, gpus: list[int]
) -> None:
    (answers,) = asked([environment | {"STANDIN_FASTEST": "2,0"}])

    assert _counted(answers) == gpus


def _counted(answers: list[dict[str, Any]]) -> list[int]:
    ordinals = {answer["cuda"]: gpu for gpu, answer in enumerate(answers)}
    ordinals.pop(None, None)
    assert sorted(ordinals) == list(range(len(ordinals)))
    return [ordinals[ordinal] for ordinal in sorted(ordinals)]


def _without(*extensions: str) -> list[str]:
    return [extension for extension in EXTENSIONS if extension not in extensions]


def _says(gpu: int, **different: Any) -> dict[str, Any]:
    usual = {
        "extensions": EXTENSIONS,
        "cuda": 0 if gpu == 2 else None,
        "uuid": UUID.format(gpu).removeprefix("GPU-").replace("-", ""),
        "vendor": "NVIDIA",
        "renderer": f"NVIDIA Stand-in GPU {gpu}",
        "device file": "",
        "render node": "",
    }
    return usual | {name.replace("_", " "): value for name, value in different.items()}


_UUIDLESS = {"extensions": _without("EGL_EXT_device_persistent_id"), "uuid": None}
_NAMELESS = {
    "extensions": _without("EGL_EXT_device_query_name"),
    "vendor": None,
    "renderer": None,
}

# How GPU 2, which CUDA_VISIBLE_DEVICES gives, and GPU 1, which it hides, differ from the usual.
VARIANTS: dict[str, tuple[Environment, dict[str, Any], dict[str, Any]]] = {
    "usual": ({}, {}, {}),
    "drm": (
        {"STANDIN_DRM": "1"},
        {"device_file": "/dev/dri/card2", "render_node": "/dev/dri/renderD130"},
        {"device_file": "/dev/dri/card1", "render_node": "/dev/dri/renderD129"},
    ),
    "drm without render nodes": (
        {"STANDIN_DRM": "1", "STANDIN_FAULT": "no-render-node"},
        {
            "extensions": _without("EGL_EXT_device_drm_render_node"),
            "device_file": "/dev/dri/card2",
            "render_node": None,
        },
        {
            "extensions": _without("EGL_EXT_device_drm_render_node"),
            "device_file": "/dev/dri/card1",
            "render_node": None,
        },
    ),
    "no-uuid": ({"STANDIN_FAULT": "no-uuid"}, _UUIDLESS, _UUIDLESS),
    "no-query-name": ({"STANDIN_FAULT": "no-query-name"}, _NAMELESS, _NAMELESS),
    "no-cuda-attrib": ({"STANDIN_FAULT": "no-cuda-attrib"}, {"cuda": None}, {}),
    "ignores-visible": ({"STANDIN_FAULT": "ignores-visible"}, {"cuda": 2}, {"cuda": 1}),
    "hidden-attrib-crash": (
        {"STANDIN_FAULT": "hidden-attrib-crash"},
        {},
        {"extensions": _without("EGL_NV_device_cuda")},
    ),
    "names": (
        {"STANDIN_NAMES": "NVIDIA A100-SXM4-40GB,Tesla T4"},
        {"renderer": "NVIDIA A100-SXM4-40GB"},
        {"renderer": "Tesla T4"},
    ),
}


def test_each_variant_says_no_more_and_no_less_than_it_should(asked: Callable[..., Any]) -> None:
    environments = [env | {"CUDA_VISIBLE_DEVICES": "2"} for env, *_ in VARIANTS.values()]

    answers = asked(environments)

    for (name, (_, given, hidden)), answer in zip(VARIANTS.items(), answers, strict=True):
        assert (name, answer[2]) == (name, _says(2, **given))
        assert (name, answer[1]) == (name, _says(1, **hidden))


def test_a_hidden_gpu_crashes_the_program_that_asks_for_its_attribute(
    python: Callable[..., machines.Finished],
) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "2", "STANDIN_FAULT": "hidden-attrib-crash"}

    done = python("package", PROGRAM, "[{}]", "hidden", env=FOUR | hidden, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSEGV, "", "")


def test_gl_renders_on_the_gpu_of_that_name(python: Callable[..., machines.Finished]) -> None:
    code = (
        "import moderngl\n"
        "for index in range(4):\n"
        "    ctx = moderngl.create_context(standalone=True, backend='egl', device_index=index)\n"
        "    print(ctx.info['GL_RENDERER'])\n"
        "    ctx.release()\n"
    )

    plain = python("package", code, env=FOUR)
    named = python("package", code, env=FOUR | {"STANDIN_NAMES": "Tesla T4,Tesla P4"})

    assert plain.stdout.splitlines() == [
        f"NVIDIA Stand-in GPU {gpu}/PCIe/SSE2" for gpu in (3, 2, 1, 0)
    ]
    assert named.stdout.splitlines() == [
        f"Tesla {model}/PCIe/SSE2" for model in ("P4", "T4", "P4", "T4")
    ]


NVML = """
import json, pynvml
pynvml.nvmlInit()
for number in range(pynvml.nvmlDeviceGetCount()):
    handle = pynvml.nvmlDeviceGetHandleByIndex(number)
    uuid, pci = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetPciInfo(handle)
    same = [
        pynvml.nvmlDeviceGetHandleByUUID(uuid),
        *map(pynvml.nvmlDeviceGetHandleByPciBusId, (pci.busId, pci.busIdLegacy)),
        pynvml.nvmlDeviceGetHandleByPciBusId(pci.busId[-7:].lower()),
    ]
    assert [pynvml.nvmlDeviceGetIndex(other) for other in same] == [number] * 4
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    print(json.dumps([pynvml.nvmlDeviceGetName(handle), uuid, pci.busId, memory.total]))
for text in ("0000:04:04.0", "0001:01:04.0", "0000:01:04.1", "0000:01:05.0", "1", "01:04.0 "):
    try:
        pynvml.nvmlDeviceGetHandleByPciBusId(text)
    except pynvml.NVMLError as error:
        print(error.value)
pynvml.nvmlShutdown()
"""


def test_nvml_finds_each_gpu_by_number_uuid_and_address(
    python: Callable[..., machines.Finished],
) -> None:
    done = python("package", NVML, env=FOUR | {"CUDA_VISIBLE_DEVICES": "1"})

    not_found, invalid = 6, 2
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        *(
            [
                f"NVIDIA Stand-in GPU {gpu}",
                UUID.format(gpu),
                f"00000000:0{gpu}:04.0",
                (15 << 30) + (gpu << 20),
            ]
            for gpu in range(4)
        ),
        *[not_found] * 4,
        *[invalid] * 2,
    ]


@pytest.mark.parametrize(
    ("pids", "graphics", "compute"),
    [
        (None, ["caller"], []),
        ("hidden", ["somebody else"], []),
        ("none", [], []),
        ("both", ["caller"], ["caller"]),
    ],
)
def test_nvml_lists_who_uses_a_gpu(
    python: Callable[..., machines.Finished],
    pids: str | None,
    graphics: list[str],
    compute: list[str],
) -> None:
    code = (
        "import json, os, pynvml\n"
        "pynvml.nvmlInit()\n"
        "handle = pynvml.nvmlDeviceGetHandleByIndex(3)\n"
        "who = lambda pid: 'caller' if pid == os.getpid() else 'somebody else'\n"
        "lists = [\n"
        "    [[who(p.pid), p.usedGpuMemory] for p in ask(handle)]\n"
        "    for ask in (\n"
        "        pynvml.nvmlDeviceGetGraphicsRunningProcesses,\n"
        "        pynvml.nvmlDeviceGetComputeRunningProcesses,\n"
        "    )\n"
        "]\n"
        "print(json.dumps(lists))\n"
        "pynvml.nvmlShutdown()\n"
    )

    done = python("package", code, env=FOUR | ({} if pids is None else {"STANDIN_PIDS": pids}))

    memory = 128 << 20
    assert json.loads(done.stdout) == [
        [[who, memory] for who in graphics],
        [[who, memory] for who in compute],
    ]


@pytest.mark.parametrize("machine", ["package", "colab"])
def test_ray_counts_four_gpus(python: Callable[..., machines.Finished], machine: str) -> None:
    pytest.importorskip("ray")
    code = (
        "from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as nvidia\n"
        "print(nvidia.get_current_node_num_accelerators())\n"
        "print(nvidia.get_current_node_accelerator_type())\n"
    )

    done = python(machine, code, env=FOUR)

    assert done.stdout.splitlines() == ["4", "Stand-in-GPU-0"]


SYSFS = """
import os, pathlib
for card in sorted(pathlib.Path("/sys/class/drm").iterdir()):
    device = card / "device"
    assert device.is_symlink()
    print(card.name, os.path.basename(os.path.realpath(device)), (device / "vendor").read_text())
"""
CARDS = [
    f"{node} 0000:0{gpu}:04.0 0x10de"
    for kind, first in (("card", 0), ("renderD", 128))
    for gpu, node in enumerate(f"{kind}{first + number}" for number in range(4))
]


# The third has a root folder of its own.
@pytest.mark.parametrize("machine", ["package", "colab", "singularity"])
@pytest.mark.parametrize("uid", [None, 65534])
def test_sysfs_has_the_cards_of_a_machine_with_nvidia_drm(
    python: Callable[..., machines.Finished], machine: str, uid: int | None
) -> None:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")

    with_drm = python(machine, SYSFS, env=FOUR | {"STANDIN_DRM": "1"}, uid=uid)
    without = python(machine, SYSFS, env=FOUR, uid=uid)

    assert [line for line in with_drm.stdout.splitlines() if line] == CARDS
    assert without.stdout == ""


def test_a_machine_without_the_kernel_module_has_no_cards(
    python: Callable[..., machines.Finished],
) -> None:
    assert python("no-nvidia", SYSFS, env=FOUR | {"STANDIN_DRM": "1"}).stdout == ""
