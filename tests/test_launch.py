"""The GPU for other programs: the variables, the ICD on disk, and programs we did not write."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS

from moderngl_colab import _cache
from rig import driver, machines, remedies
from rig.layout import Placed

NEIGHBOURS = PROGRAMS / "neighbours"
NVIDIA = "NVIDIA Corporation\nNVIDIA Stand-in GPU 0/PCIe/SSE2\n"
ICDS = "/usr/share/glvnd/egl_vendor.d"
LIBRARY = "/usr/lib64-nvidia/libEGL_nvidia.so.0"
TEXT = '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s"}}'

Python = Callable[..., machines.Finished]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder that is not there yet."""
    return tmp_path / ".cache"


PREPARE = """
import json, sys, moderngl_colab.launch as launch
print(json.dumps(launch.prepare_environment(*sys.argv[1:])))
"""


@pytest.fixture
def prepare(python: Python, cache: Path) -> Callable[..., dict[str, str]]:
    """What prepare_environment() gives in a machine, with the text of the ICD for its path."""

    def call(machine: str | machines.Machine, *device: str, **env: str) -> dict[str, str]:
        env = {"XDG_CACHE_HOME": str(cache), **env}
        given: dict[str, str] = json.loads(python(machine, PREPARE, *device, env=env).stdout)
        path = given.get("__EGL_VENDOR_LIBRARY_FILENAMES", "/dev/null")
        if path != "/dev/null":
            assert Path(path).parent == cache / "moderngl_colab"
            icd = json.loads(Path(path).read_text())
            assert icd["file_format_version"] == "1.0.0"
            given["__EGL_VENDOR_LIBRARY_FILENAMES"] = icd["ICD"]["library_path"]
        return given

    return call


REFUSE = """
import moderngl_colab.launch as launch
try:
    launch.prepare_environment()
except launch.GPUContextError as error:
    print(error)
"""

# ---- the variables -------------------------------------------------------------------------------

LIB = str(driver.multiarch())
EGL_OF_LIB = f"{LIB.removeprefix('/usr')}/libEGL_nvidia.so.550.54.15"
VARIABLES = {
    "colab": {"EGL": "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15"},
    "colab-no-path": {
        "EGL": "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15",
        "LD_LIBRARY_PATH": "/usr/lib64-nvidia",
    },
    "container-graphics": {"EGL": EGL_OF_LIB},
    "package": {"EGL": EGL_OF_LIB},
    "gke": {
        "EGL": "/usr/local/nvidia/lib64/libEGL_nvidia.so.550.54.15",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    },
    "kaggle": {"EGL": "/usr/local/nvidia/lib64/libEGL_nvidia.so.550.54.15"},
    "split": {"EGL": EGL_OF_LIB, "LD_LIBRARY_PATH": f"{LIB}/nvidia/current"},
    "two-copies": {
        "EGL": "/usr/local/nvidia/lib64/libEGL_nvidia.so.550.54.15",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    },
    "glx-only": {"MUJOCO_GL": "glfw", "__EGL_VENDOR_LIBRARY_FILENAMES": "/dev/null"},
    "no-libegl": {"EGL": EGL_OF_LIB, "MUJOCO_GL": "glfw"},
}


@pytest.mark.parametrize("machine", VARIABLES)
def test_a_machine_needs_these_variables(
    machine: str, prepare: Callable[..., dict[str, str]]
) -> None:
    expected = {"__GLX_VENDOR_LIBRARY_NAME": "nvidia", "MUJOCO_GL": "egl", **VARIABLES[machine]}
    if (library := expected.pop("EGL", None)) is not None:
        expected["__EGL_VENDOR_LIBRARY_FILENAMES"] = library
    assert prepare(machine) == expected


def test_what_the_user_set_stays_and_comes_last_on_the_path(
    prepare: Callable[..., dict[str, str]],
) -> None:
    given = prepare(
        "gke",
        LD_LIBRARY_PATH="/opt/one::/opt/two",
        MUJOCO_GL="osmesa",
        __EGL_VENDOR_LIBRARY_DIRS=f"/nowhere:{ICDS}:/usr/local/nvidia/share/glvnd/egl_vendor.d",
        __GLX_VENDOR_LIBRARY_NAME="mesa",
    )
    assert given == {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/opt/one::/opt/two"}


@pytest.mark.parametrize(
    ("machine", "env", "text"),
    [
        (
            "no-nvidia",
            {},
            "no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, and no kernel "
            "module is loaded\n"
            '  fix: add "nvidia.com/gpu: 1" to the container\'s resources.limits',
        ),
        (
            "mismatch",
            {},
            f"NVIDIA's kernel module is 550.54.15, but {LIB.removeprefix('/usr')}/libEGL_nvidia.so."
            "0 is 535.104.05\n"
            f"  fix: {remedies.GRAPHICS}",
        ),
        (
            "no-xvfb",
            {},
            f"there is no Xvfb on the PATH\n  fix: {remedies.XVFB}",
        ),
        (
            "glx-only",
            {"__GLX_VENDOR_LIBRARY_NAME": "mesa"},
            "an NVIDIA GPU is there (kernel module 550.54.15), but libEGL_nvidia.so.0 of version "
            "550.54.15 is in none of the directories searched\n"
            f"  fix: {remedies.GRAPHICS}",
        ),
        (
            "package",
            {
                "__EGL_VENDOR_LIBRARY_FILENAMES": f"{ICDS}/50_mesa.json",
                "__GLX_VENDOR_LIBRARY_NAME": "mesa",
            },
            f"__EGL_VENDOR_LIBRARY_FILENAMES is set to {ICDS}/50_mesa.json, and that leaves "
            "NVIDIA's vendor library out\n  fix: unset __EGL_VENDOR_LIBRARY_FILENAMES",
        ),
        (
            "glx-only",
            {"__GLX_FORCE_VENDOR_LIBRARY_0": "mesa"},
            "an NVIDIA GPU is there (kernel module 550.54.15), but libEGL_nvidia.so.0 of version "
            "550.54.15 is in none of the directories searched\n"
            f"  fix: {remedies.GRAPHICS}",
        ),
        (
            "no-gl",
            {},
            f"the loader finds no libEGL.so.1 and no libGL.so.1\n  fix: {remedies.DISPATCH}",
        ),
        (
            "no-libegl",
            {"__GLX_VENDOR_LIBRARY_NAME": "mesa"},
            f"the loader finds no libEGL.so.1\n  fix: {remedies.DISPATCH}",
        ),
    ],
)
def test_where_no_program_can_get_the_gpu_it_says_why(
    machine: str, env: dict[str, str], text: str, python: Python, cache: Path
) -> None:
    said = python(machine, REFUSE, env={"XDG_CACHE_HOME": str(cache), **env}).stdout
    assert said == f"no OpenGL program can get the GPU here: {text}\n"
    assert not cache.exists()


GLX_ONLY = {"__GLX_VENDOR_LIBRARY_NAME": "nvidia", "MUJOCO_GL": "glfw"}
NOTES = """
import moderngl_colab.launch as launch
print(*launch.prepare().notes, sep="\\n", end="")
"""


def test_a_choice_of_egl_vendors_without_nvidia_leaves_glx(
    prepare: Callable[..., dict[str, str]], python: Python
) -> None:
    env = {"__EGL_VENDOR_LIBRARY_FILENAMES": f"{ICDS}/50_mesa.json"}
    assert prepare("container-graphics", **env) == GLX_ONLY
    assert python("container-graphics", NOTES, env=env).stdout == (
        "programs that use EGL are left to your own choice: __EGL_VENDOR_LIBRARY_FILENAMES is set "
        f"to {ICDS}/50_mesa.json, and that leaves NVIDIA's vendor library out"
    )


def test_a_broken_icd_of_the_users_own_is_not_replaced(
    prepare: Callable[..., dict[str, str]], python: Python, tmp_path: Path
) -> None:
    icd = tmp_path / "own.json"
    icd.write_text(TEXT % "/nowhere/libEGL_nvidia.so.0")
    env = {"__EGL_VENDOR_LIBRARY_FILENAMES": str(icd)}
    assert prepare("container-graphics", **env) == GLX_ONLY
    assert python("container-graphics", NOTES, env=env).stdout == (
        f"programs that use EGL are left to your own choice: {icd} names "
        "/nowhere/libEGL_nvidia.so.0, which the loader does not find"
    )


def test_an_icd_of_ours_is_no_choice_of_the_users(
    prepare: Callable[..., dict[str, str]], cache: Path
) -> None:
    old = icd(cache, "/of/another/driver/libEGL_nvidia.so.0")
    gone = cache / "moderngl_colab" / "10_nvidia_0123456789abcdef.json"
    for named in (str(old), f"{old}:{gone}", str(gone)):
        given = prepare("colab", __EGL_VENDOR_LIBRARY_FILENAMES=named)
        assert given["__EGL_VENDOR_LIBRARY_FILENAMES"] == (
            "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15"
        )
    for named in (f"{old}:{ICDS}/50_mesa.json", str(cache / "10_nvidia_0123456789abcdef.json")):
        assert "__EGL_VENDOR_LIBRARY_FILENAMES" not in prepare(
            "colab", __EGL_VENDOR_LIBRARY_FILENAMES=named
        )


JETSON = machines.Machine(
    "jetson",
    "a driver of Tegra's",
    items=(machines.Item("/etc/nv_tegra_release", "# R36 (release), REVISION: 3.0"),),
)


@pytest.mark.parametrize("machine", [JETSON, machines.MACHINES["wsl2"]], ids=["jetson", "wsl2"])
def test_where_every_program_has_what_it_can_have_nothing_is_set(
    machine: machines.Machine, prepare: Callable[..., dict[str, str]], python: Python
) -> None:
    assert prepare(machine) == {}
    script = 'echo "$DISPLAY $__GLX_VENDOR_LIBRARY_NAME."'
    assert python(machine, RUN, "sh", "-c", script).stdout == " .\n"
    assert python(machine, DEVICES).stdout.splitlines()[0] == (
        "ValueError: device='cuda:2': of NVIDIA's GPUs there are none"
    )


def test_where_libgl_is_absent_no_display_is_given(python: Python, cache: Path) -> None:
    machine = machines.Machine(
        "no-libgl",
        "libglvnd's libGL is not installed",
        libraries=(Placed("{lib}"),),
        removed=("{lib}/libGL.so*",),
        kernel=machines.KERNEL,
    )
    env = {"XDG_CACHE_HOME": str(cache)}
    assert python(machine, RUN, "sh", "-c", 'echo "[$DISPLAY]"', env=env).stdout == "[]\n"


def test_the_libraries_of_this_python_count_for_its_programs(
    prepare: Callable[..., dict[str, str]], tmp_path: Path, python: Python
) -> None:
    for name in ("libEGL.so.1", "libGL.so.1"):
        (tmp_path / "lib").mkdir(exist_ok=True)
        (tmp_path / "lib" / name).symlink_to(sys.executable)
    program = f"import sys; sys.prefix = {str(tmp_path)!r}\n{PREPARE}"
    given = json.loads(python("no-gl", program, env={"XDG_CACHE_HOME": str(tmp_path)}).stdout)
    assert (given["MUJOCO_GL"], given["__GLX_VENDOR_LIBRARY_NAME"]) == ("egl", "nvidia")


def test_an_unused_choice_of_egl_vendors_does_not_matter(
    prepare: Callable[..., dict[str, str]],
) -> None:
    assert prepare("glx-only", __EGL_VENDOR_LIBRARY_FILENAMES="") == {
        "__GLX_VENDOR_LIBRARY_NAME": "nvidia",
        "MUJOCO_GL": "glfw",
    }


def test_a_directory_that_no_path_can_name_is_said(python: Python, tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    driver.build(folder)
    machine = machines.Machine("colon", "the driver below a colon", kernel=machines.KERNEL)
    said = python(machine, REFUSE, env={"MODERNGL_COLAB_DRIVER_DIR": str(folder)}).stdout
    first, _, rest = said.partition(str(folder))
    assert first == (
        "no OpenGL program can get the GPU here: no LD_LIBRARY_PATH lets the loader find "
    )
    assert rest.startswith("/libEGL_nvidia.so.550.54.15 and ")


@pytest.mark.parametrize("gpus", ["1", "4"])
def test_nothing_is_changed_in_this_process(gpus: str, python: Python, cache: Path) -> None:
    program = """
import os, sys
def state():
    with open("/proc/self/maps") as stream:
        maps = stream.read()
    return dict(os.environ), [n for n in ("libEGL", "libGL", "nvidia") if n in maps], [
        os.path.exists(f"/proc/self/fd/{n}") for n in range(3, 30)]
import moderngl_colab.launch as launch
before = state()
launch.prepare_environment()
assert state() == before, (before, state())
print("as before")
"""
    env = {"XDG_CACHE_HOME": str(cache), "STANDIN_GPUS": gpus}
    assert python("colab-no-path", program, env=env).stdout == "as before\n"


# ---- devices -------------------------------------------------------------------------------------


FOUR = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse"}
UUID = "GPU-57a2d10{0}-0c01-4ab0-9e11-00005eed000{0}"
OF_ONE = {
    "__EGL_VENDOR_LIBRARY_FILENAMES": "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15",
    "__GLX_VENDOR_LIBRARY_NAME": "nvidia",
    "MUJOCO_GL": "egl",
}


def named(number: int, mujoco: int) -> dict[str, str]:
    """What names an EGL device to the programs that take one."""
    return {
        "MUJOCO_EGL_DEVICE_ID": str(mujoco),
        "VTK_DEFAULT_EGL_DEVICE_INDEX": str(number),
        "PYGLET_HEADLESS_DEVICE": str(number),
        "GLCONTEXT_DEVICE_INDEX": str(number),
        "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow",
    }


@pytest.mark.parametrize(
    ("device", "text"), [("1", "cuda:1"), ("GPU-57A2D101", "GPU-57a2d101"), ("pci:01:04.0", None)]
)
def test_a_device_is_named_to_each_program_that_takes_one(
    device: str, text: str | None, prepare: Callable[..., dict[str, str]]
) -> None:
    own = {"GLCONTEXT_DEVICE_INDEX": "0", "MODERNGL_COLAB_DEVICE": "cuda:3"}
    asked = {"MODERNGL_COLAB_DEVICE": text or "pci:0000:01:04.0"}
    assert prepare("colab", device, **FOUR, **own) == OF_ONE | asked | named(2, 1)


def test_the_device_of_the_variable_is_named(prepare: Callable[..., dict[str, str]]) -> None:
    asked = {"MODERNGL_COLAB_DEVICE": "cuda:1"}
    given = prepare(
        "colab", **FOUR, **asked, CUDA_VISIBLE_DEVICES="0,3", PYGLET_HEADLESS_DEVICE="2"
    )
    assert given == OF_ONE | asked | named(0, 1)


def test_without_a_device_what_the_user_chose_stays(prepare: Callable[..., dict[str, str]]) -> None:
    own = {"PYGLET_HEADLESS_DEVICE": "0", "VTK_DEFAULT_OPENGL_WINDOW": "vtkXOpenGLRenderWindow"}
    given = prepare("colab", **FOUR, **own)
    assert given == OF_ONE | {n: v for n, v in named(3, 0).items() if n not in own}


def test_with_one_gpu_a_device_is_named_where_the_user_names_it(
    prepare: Callable[..., dict[str, str]],
) -> None:
    by_x = {n: v for n, v in named(0, 0).items() if n != "VTK_DEFAULT_OPENGL_WINDOW"}
    assert prepare("colab", CUDA_VISIBLE_DEVICES="0") == OF_ONE
    asked = {"MODERNGL_COLAB_DEVICE": "cuda:0"}
    assert prepare("colab", "0", PYGLET_HEADLESS_DEVICE="1") == OF_ONE | asked | by_x


def test_among_vendors_of_the_users_own_it_is_the_device_of_that_list(
    prepare: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    nvidia = tmp_path / "nvidia.json"
    nvidia.write_text(TEXT % LIBRARY)
    given = prepare(
        "colab", "1", **FOUR, __EGL_VENDOR_LIBRARY_FILENAMES=f"{ICDS}/50_mesa.json:{nvidia}"
    )
    rest = {n: v for n, v in OF_ONE.items() if not n.startswith("__EGL")}
    assert given == rest | {"MODERNGL_COLAB_DEVICE": "cuda:1"} | named(3, 1)


def test_before_its_version_4_mujoco_takes_the_number_of_egl(
    prepare: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "mujoco-3.17.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 3.17.0\n")
    given = prepare("colab", **FOUR, PYTHONPATH=str(tmp_path), CUDA_VISIBLE_DEVICES="1")
    assert given == OF_ONE | named(2, 2)


EACH = """
import json, os, sys, moderngl_colab.launch as launch
for settings in json.loads(sys.argv[1]):
    os.environ.update(settings)
    given = launch.prepare_environment()
    names = "PYGLET_HEADLESS_DEVICE", "MUJOCO_EGL_DEVICE_ID"
    print(*(given[name] for name in names))
    for name in settings:
        del os.environ[name]
"""

# The first GPU that CUDA has, and what MuJoCo 4.0 is told for it.
VISIBLE = {"2": 2, "3,1": 3, "GPU-57a2d101,GPU-57a2d103": 1}
# What the driver does not tell; whether MuJoCo can be told nothing but EGL's number.
FAULTS = {
    "no-uuid": False,
    "no-cuda-attrib": True,
    "no-query-name,hidden-attrib-crash": False,
    "no-query-name,no-uuid,hidden-attrib-crash": False,
}


@pytest.mark.parametrize(
    "order", [{"STANDIN_NAMES": "Tesla T4"}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}]
)
def test_whatever_the_driver_tells_it_is_the_first_gpu_that_cuda_has(
    order: dict[str, str], python: Python, cache: Path
) -> None:
    settings = [{"CUDA_VISIBLE_DEVICES": v, "STANDIN_FAULT": f} for v in VISIBLE for f in FAULTS]
    env = FOUR | order | {"XDG_CACHE_HOME": str(cache)}
    done = python("colab", EACH, json.dumps(settings), env=env)
    assert [tuple(map(int, line.split())) for line in done.stdout.splitlines()] == [
        (3 - gpu, 3 - gpu if by_number else 0)
        for gpu in VISIBLE.values()
        for by_number in FAULTS.values()
    ]


DEVICES = """
import moderngl_colab.launch as launch
for device in (2, -1, True, "cuda:x", 1.0, "GPU-57a2d1", "pci:07:00.0"):
    try:
        print(launch.prepare_environment(device))
    except (launch.GPUContextError, TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_device_that_is_not_there_is_an_error_that_says_which_are(
    python: Python, cache: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(cache), "STANDIN_GPUS": "2"}
    possible = (
        'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") '
        'and a PCI address ("pci:0000:0f:00.0")'
    )
    gpus = [f"NVIDIA Stand-in GPU {n}  {UUID.format(n)}  pci:0000:0{n}:04.0" for n in range(2)]
    all_of_them = [f"  {gpu}" for gpu in gpus]
    given = [f"  cuda:{n}  {gpu}" for n, gpu in enumerate(gpus)]
    assert python("colab", DEVICES, env=env).stdout.splitlines() == [
        "ValueError: device='cuda:2': this process has no such GPU; it has 2:",
        *given,
        f"ValueError: device='-1': {possible}; of GPUs there are 2:",
        *all_of_them,
        f"TypeError: device=True: {possible}",
        f"ValueError: device='cuda:x': {possible}; of GPUs there are 2:",
        *all_of_them,
        f"ValueError: device='1.0': {possible}; of GPUs there are 2:",
        *all_of_them,
        "ValueError: device='GPU-57a2d1': 2 GPUs of this process begin so; it has 2:",
        *given,
        "ValueError: device='pci:0000:07:00.0': this process has no such GPU; it has 2:",
        *given,
    ]


GLX_CHOOSES = (
    "GPUContextError: no OpenGL program can get the GPU here: {} a certain GPU, and only GLX "
    "serves, which chooses its own\n  fix: {}\n"
)


def test_glx_serves_where_it_has_nothing_to_choose(
    prepare: Callable[..., dict[str, str]], python: Python
) -> None:
    vendors = {"__EGL_VENDOR_LIBRARY_FILENAMES": "/dev/null"}
    assert prepare("glx-only", **FOUR) == GLX_ONLY | vendors
    asked = {"MODERNGL_COLAB_DEVICE": "cuda:0"}
    assert prepare("glx-only", "cuda:0") == GLX_ONLY | vendors | asked
    assert prepare("glx-only", CUDA_VISIBLE_DEVICES="0") == GLX_ONLY | vendors
    program = DEVICES.partition("(")[0] + "(0, None):" + DEVICES.partition("):")[2]
    done = python("glx-only", program, env=FOUR | {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert done.stdout == (
        GLX_CHOOSES.format("device='cuda:0' names", remedies.GRAPHICS)
        + GLX_CHOOSES.format("CUDA_VISIBLE_DEVICES gives", remedies.GRAPHICS)
    )


NOTHING = "no ordinal of CUDA, no UUID, no PCI address"
UNTOLD = {
    "query-crash": "the process that asked libEGL was ended by SIGABRT (6)",
    "query-fails": "libEGL lists no NVIDIA device",
    "no-uuid,no-cuda-attrib": "it cannot be told which EGL device is cuda:0: "
    + "; ".join(f"EGL device {number} has {NOTHING}" for number in range(4)),
}


@pytest.mark.parametrize("fault", UNTOLD)
def test_where_nothing_tells_which_device_it_is_a_certain_gpu_is_an_error_that_says_so(
    fault: str, python: Python
) -> None:
    program = f"""{NOTES}
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
print()
for device in (None, "cuda:0"):
    try:
        print(launch.prepare(device))
    except launch.GPUContextError as error:
        print(error)
"""
    headline = "no OpenGL program can get the GPU here: "
    why = UNTOLD[fault]
    fix = remedies.SMI
    if "no-uuid" in fault:
        fix = "if you know which is yours, start the program by itself and tell it that"
    assert python("package", program, env=FOUR | {"STANDIN_FAULT": fault}).stdout == (
        f"programs choose one of several GPUs by themselves: {why}\n"
        f"{headline}CUDA_VISIBLE_DEVICES gives a certain GPU, and {why}\n"
        f"  fix: {fix}\n"
        f"{headline}device='cuda:0' names a certain GPU, and {why}\n"
        f"  fix: {fix}\n"
    )


def test_a_libegl_that_hangs_is_given_up(python: Python) -> None:
    env = FOUR | {"STANDIN_FAULT": "query-hang", "CUDA_VISIBLE_DEVICES": "1"}
    assert python("package", REFUSE, env=env).stdout == (
        "no OpenGL program can get the GPU here: CUDA_VISIBLE_DEVICES gives a certain GPU, and "
        "libEGL did not answer within 20 s\n"
        f"  fix: {remedies.SMI}\n"
    )


@pytest.mark.parametrize("text", ["", "4", "1,1", "GPU-9"])
def test_a_process_that_is_given_no_gpu_has_none_for_its_programs(
    text: str, python: Python
) -> None:
    program = DEVICES.partition("(")[0] + "(0, None):" + DEVICES.partition("):")[2]
    done = python("package", program, env=FOUR | {"CUDA_VISIBLE_DEVICES": text})
    assert done.stdout == 2 * (
        "GPUContextError: no OpenGL program can get the GPU here: CUDA_VISIBLE_DEVICES is "
        f'"{text}", and that leaves this process no GPU\n  fix: unset CUDA_VISIBLE_DEVICES\n'
    )


# ---- the ICD on disk -----------------------------------------------------------------------------


def icd(cache: Path, library: str = LIBRARY) -> Path:
    return Path(_cache.icd(library, {"XDG_CACHE_HOME": str(cache)}))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_icd_is_whole_private_and_written_once(cache: Path) -> None:
    path = icd(cache)
    assert (path.parent, path.read_text()) == (cache / "moderngl_colab", TEXT % LIBRARY)
    assert [mode(p) for p in (cache, path.parent, path)] == [0o700, 0o700, 0o600]
    written = path.stat().st_ino
    assert icd(cache) == path
    assert path.stat().st_ino == written
    assert icd(cache, "/elsewhere/libEGL_nvidia.so.0") != path
    assert len(list(path.parent.iterdir())) == 2


def test_a_path_is_written_as_json_has_it(cache: Path) -> None:
    library = '/a "b"\\c\n\u00e9/' + os.fsdecode(b"\xff") + "/libEGL_nvidia.so.0"
    content = icd(cache, library).read_bytes()
    assert json.loads(content.decode(errors="surrogateescape"))["ICD"]["library_path"] == library


def test_a_folder_that_is_too_open_is_closed(cache: Path) -> None:
    folder = cache / "moderngl_colab"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    icd(cache)
    assert mode(folder) == 0o700


def _altered(path: Path, cache: Path) -> None:
    path.write_text(TEXT % "/tmp/evil.so")


def _longer(path: Path, cache: Path) -> None:
    path.write_text(path.read_text() + " ")


def _open_to_others(path: Path, cache: Path) -> None:
    path.chmod(0o644)


def _link(path: Path, cache: Path) -> None:
    target = cache / "target"
    path.rename(target)
    path.symlink_to(target)


def _fifo(path: Path, cache: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_altered, _longer, _open_to_others, _link, _fifo])
def test_what_is_not_exactly_the_icd_is_replaced(
    spoil: Callable[[Path, Path], None], cache: Path
) -> None:
    path = icd(cache)
    spoil(path, cache)
    assert icd(cache) == path
    assert path.read_text() == TEXT % LIBRARY
    assert (path.is_symlink(), mode(path)) == (False, 0o600)
    assert list(path.parent.iterdir()) == [path]
    if (target := cache / "target").exists():
        assert target.read_text() == TEXT % LIBRARY


def refusal(cache: Path) -> str:
    with pytest.raises(_cache.CacheError) as caught:
        icd(cache)
    return str(caught.value)


def sentence(cache: Path, why: str) -> str:
    return (
        f"no ICD can be written to {str(cache / 'moderngl_colab')!r} ({why}): "
        "set XDG_CACHE_HOME to a folder of your own"
    )


def test_a_folder_that_is_a_link_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    cache.mkdir(parents=True)
    (cache / "moderngl_colab").symlink_to(tmp_path / "target")
    assert refusal(cache) == sentence(cache, "it is a symbolic link")
    assert not list((tmp_path / "target").iterdir())


def test_a_folder_that_is_a_file_is_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "moderngl_colab").touch()
    assert refusal(cache) == sentence(cache, "it is no folder")


def test_a_cache_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refusal(file) == sentence(file, f"{file} is no folder")
    assert refusal(file / "below") == sentence(file / "below", f"{file} is no folder")
    (tmp_path / "link").symlink_to("nowhere")
    assert refusal(tmp_path / "link") == sentence(
        tmp_path / "link", f"{tmp_path / 'link'} is no folder"
    )


def test_a_cache_folder_that_everybody_may_write_to_is_refused(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert refusal(cache) == sentence(cache, f"{cache} can be written to by everybody")
    assert list(cache.iterdir()) == []
    cache.chmod(0o1777)  # as /tmp is: what is ours nobody else can rename there
    assert icd(cache).parent.parent == cache


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_cache_folder_is_refused(cache: Path) -> None:
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    assert refusal(cache) == sentence(cache, f"{cache} belongs to user 65534")
    assert list(cache.iterdir()) == []


UMASK = """
import os, tempfile
from moderngl_colab import _cache
with tempfile.TemporaryDirectory() as folder:
    home = f"{folder}/a/b"
    os.umask(0o777)
    for mode in (None, 0, 0o100):
        if mode is not None:
            os.chmod(f"{home}/moderngl_colab", mode)
        path = _cache.icd("/driver/libEGL_nvidia.so.0", {"XDG_CACHE_HOME": home})
        print([oct(os.stat(p).st_mode & 0o7777) for p in (home, f"{home}/moderngl_colab", path)])
"""


# Root may enter every folder.
@pytest.mark.parametrize("uid", [65534 if os.geteuid() == 0 else None])
def test_a_folder_that_a_umask_closed_to_its_owner_is_opened(uid: int, python: Python) -> None:
    modes = "['0o700', '0o700', '0o600']\n"
    assert python("no-nvidia", UMASK, uid=uid).stdout == 3 * modes


def test_a_directory_in_the_icds_place_is_refused(cache: Path) -> None:
    path = icd(cache)
    path.unlink()
    path.mkdir()
    assert refusal(cache) == sentence(cache, "Is a directory")
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_with_a_colon_in_its_name_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a:b") == sentence(
        tmp_path / "a:b", "a colon ends a path in __EGL_VENDOR_LIBRARY_FILENAMES"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_folder_is_refused(cache: Path) -> None:
    folder = cache / "moderngl_colab"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    assert refusal(cache) == sentence(cache, "it belongs to user 65534")


WITHOUT_SPACE = """
import os, resource, sys
from moderngl_colab import _cache
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    _cache.icd("/usr/lib64-nvidia/libEGL_nvidia.so.0")
except _cache.CacheError as error:
    os.write(2, str(error).encode())
"""


def alone(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_cannot_be_written_leaves_nothing(cache: Path) -> None:
    assert alone(WITHOUT_SPACE, XDG_CACHE_HOME=str(cache)).stderr == sentence(
        cache, "File too large"
    )
    assert list((cache / "moderngl_colab").iterdir()) == []


def test_a_relative_cache_home_is_ignored(tmp_path: Path) -> None:
    program = f"from moderngl_colab import _cache; print(_cache.icd({LIBRARY!r}))"
    done = alone(program, XDG_CACHE_HOME="relative", HOME=str(tmp_path))
    assert Path(done.stdout.strip()).parent == tmp_path / ".cache" / "moderngl_colab"


def test_twenty_processes_at_once_all_get_a_whole_file(cache: Path) -> None:
    program = (
        "import sys; from moderngl_colab import _cache; sys.stdin.read()\n"
        f"print(open(_cache.icd({LIBRARY!r})).read(), end='')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(20)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert {process.communicate()[0] for process in processes} == {TEXT % LIBRARY}
    assert len(list((cache / "moderngl_colab").iterdir())) == 1


# ---- programs we did not write -------------------------------------------------------------------

ON = ("colab", "colab-no-path", "container-graphics", "gke", "kaggle", "split", "two-copies")
RUN = "import sys, moderngl_colab.__main__ as m; sys.exit(m.main(['run', '--', *sys.argv[1:]]))"
DIRECTLY = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
INSTALL = {
    "eglinfo": "apt-get install -y mesa-utils",
    "glxinfo": "apt-get install -y mesa-utils",
    "mujoco": "pip install mujoco PyOpenGL",
    "OpenGL": "pip install PyOpenGL",
    "pyglet": "pip install pyglet",
    "vtkmodules": "pip install vtk",
}


def needed(name: str) -> None:
    """Fail where a program or package is not installed: what it proves would go unproven."""
    from shutil import which

    if which(name) is None and find_spec(name) is None:
        pytest.fail(f"{name} is not installed: {INSTALL[name]}")


@pytest.fixture
def neighbour(python: Python, cache: Path) -> Callable[..., Any]:
    """What a program of tests/programs/neighbours prints, under `run` or by itself."""

    def call(
        machine: str | machines.Machine, how: str, program: str, **env: str
    ) -> tuple[str, int]:
        needed({"mujoco_context": "mujoco", "vtk_off_screen": "vtkmodules"}.get(program, "pyglet"))
        command = [sys.executable, "-P", "-W", "error", str(NEIGHBOURS / f"{program}.py")]
        env = {"XDG_CACHE_HOME": str(cache), **env}
        done = python(machine, how, *command, env=env, check=False)
        if done.survivors:
            pytest.fail(f"left {done.survivors}")
        if done.returncode:
            print(done.stderr)
        return done.stdout, done.returncode

    return call


@pytest.mark.parametrize("program", ["mujoco_context", "pyglet_headless", "vtk_off_screen"])
@pytest.mark.parametrize("machine", ON)
def test_a_program_is_on_the_gpu_under_run_and_on_mesa_without(
    machine: str, program: str, neighbour: Callable[..., Any], mesa: str
) -> None:
    assert neighbour(machine, RUN, program) == (NVIDIA, 0)
    said, status = neighbour(machine, DIRECTLY, program, MUJOCO_GL="egl")
    assert (said.partition("\n")[0], status) == (mesa, 0)


def test_glx_is_left_out_where_its_name_leads_to_another_driver(
    prepare: Callable[..., dict[str, str]], neighbour: Callable[..., Any]
) -> None:
    folder = "/usr/lib64-nvidia"
    machine = machines.Machine(
        "two-in-one",
        "an older driver over the one that fits the kernel module, in the same folder",
        libraries=(Placed(folder), Placed(folder, version=machines.OLD)),
        kernel=machines.KERNEL,
    )
    assert prepare(machine) == {
        "__EGL_VENDOR_LIBRARY_FILENAMES": f"{folder}/libEGL_nvidia.so.550.54.15",
        "MUJOCO_GL": "egl",
        "LD_LIBRARY_PATH": folder,
    }
    assert neighbour(machine, RUN, "pyglet_headless") == (NVIDIA, 0)


@pytest.mark.parametrize("program", ["mujoco_context", "vtk_off_screen"])
def test_with_the_glx_half_alone_it_is_on_the_gpu_over_a_display(
    program: str, neighbour: Callable[..., Any]
) -> None:
    assert neighbour("glx-only", RUN, program) == (NVIDIA, 0)


def test_a_program_that_prefers_x_is_on_the_gpu_where_glx_is_refused(
    neighbour: Callable[..., Any],
) -> None:
    assert neighbour("colab", RUN, "vtk_off_screen", STANDIN_FAULT="glx-badvalue") == (NVIDIA, 0)


def test_with_the_glx_half_alone_a_program_that_uses_egl_is_not_on_the_cpu(
    neighbour: Callable[..., Any],
) -> None:
    said, status = neighbour("glx-only", RUN, "pyglet_headless")

    assert said == ""
    assert status != 0


def on(gpu: int) -> tuple[str, int]:
    return NVIDIA.replace("GPU 0", f"GPU {gpu}"), 0


@pytest.mark.parametrize(
    "program", ["mujoco_context", "pyglet_headless", "vtk_off_screen", "glcontext_egl"]
)
def test_a_program_is_on_the_gpu_that_was_asked_for(
    program: str, neighbour: Callable[..., Any]
) -> None:
    how = RUN.replace("'run', ", "'run', '--device', '1', ")
    assert neighbour("colab-no-path", how, program, **FOUR) == on(1)


# The GPU that CUDA has first; the one that the program takes by itself.
GIVEN = [
    ("mujoco_context", "3,1", 3, 3),
    ("mujoco_context", "1,2,0", 1, 2),
    ("mujoco_context", UUID.format(1), 1, 1),
    ("pyglet_headless", "2", 2, 3),
    ("vtk_off_screen", "2", 2, 3),
]


@pytest.mark.parametrize(("program", "visible", "gpu", "alone"), GIVEN)
def test_a_program_is_under_run_on_the_gpu_that_it_was_given(
    program: str, visible: str, gpu: int, alone: int, neighbour: Callable[..., Any]
) -> None:
    env = FOUR | {"CUDA_VISIBLE_DEVICES": visible}
    assert neighbour("package", RUN, program, **env) == on(gpu)
    assert neighbour("package", DIRECTLY, program, **env, MUJOCO_GL="egl") == on(alone)


LANDS = """
import json, os, subprocess, sys, moderngl_colab
for visible in (None, *json.loads(sys.argv[1])):
    environ = os.environ | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    os.environ.update(environ)
    for given in ({}, moderngl_colab.prepare_environment()):
        subprocess.run([sys.executable, "-P", sys.argv[2]], env=environ | given, check=True)
"""


def test_a_program_is_on_every_single_gpu_that_it_can_be_given(python: Python, cache: Path) -> None:
    gpus = {"0": 0, "1": 1, "2": 2, "3": 3, UUID.format(1): 1, "3,1": 3}
    program = str(NEIGHBOURS / "glcontext_egl.py")
    env = FOUR | {"XDG_CACHE_HOME": str(cache)}
    done = python("package", LANDS, json.dumps(list(gpus)), program, env=env)
    assert done.stdout == "".join(on(3)[0] + on(gpu)[0] for gpu in (0, *gpus.values()))


OURS = "import moderngl_colab as m; print(m.get_gpu_context().info['GL_RENDERER'])"


def test_a_program_that_uses_this_library_is_on_the_gpu_that_was_asked_for(
    python: Python, cache: Path
) -> None:
    how = RUN.replace("'run', ", "'run', '--device', 'GPU-57a2d101', ")
    env = FOUR | {"XDG_CACHE_HOME": str(cache), "CUDA_VISIBLE_DEVICES": "2,1"}
    done = python("colab", how, sys.executable, "-P", "-c", OURS, env=env)
    assert done.stdout == "NVIDIA Stand-in GPU 1/PCIe/SSE2\n"


@pytest.mark.parametrize("machine", [*ON, "glx-only"])
def test_glxinfo_is_on_the_gpu_under_run_and_has_no_display_without(
    machine: str, python: Python, cache: Path
) -> None:
    needed("glxinfo")
    env = {"XDG_CACHE_HOME": str(cache)}
    said = python(machine, RUN, "glxinfo", "-B", env=env).stdout.splitlines()
    assert "OpenGL vendor string: NVIDIA Corporation" in said
    assert "OpenGL renderer string: NVIDIA Stand-in GPU 0/PCIe/SSE2" in said
    alone = python(machine, DIRECTLY, "glxinfo", "-B", env=env, check=False)
    assert (alone.returncode, alone.stderr) == (255, "Error: unable to open display \n")


@pytest.mark.parametrize("machine", ON)
def test_eglinfo_finds_nvidias_vendor_by_the_icd_on_disk(
    machine: str, python: Python, prepare: Callable[..., dict[str, str]], cache: Path
) -> None:
    needed("eglinfo")
    prepare(machine)
    (path,) = (cache / "moderngl_colab").iterdir()
    vendors = "EGL vendor string: "

    def named(*arguments: str, **env: str) -> list[str]:
        env = {"XDG_CACHE_HOME": str(cache), **env}
        # Its status is the number of platforms that do not serve.
        done = python(machine, *arguments, "eglinfo", "-B", env=env, check=False)
        lines = done.stdout.splitlines()
        return sorted({line.removeprefix(vendors) for line in lines if line.startswith(vendors)})

    assert named(RUN) == ["NVIDIA"]
    # Beside the user's own choice of Mesa, too.
    both = f"{path}:{ICDS}/50_mesa.json"
    assert named(RUN, __EGL_VENDOR_LIBRARY_FILENAMES=both) == ["Mesa Project", "NVIDIA"]
    assert named(DIRECTLY) == ["Mesa Project"]
