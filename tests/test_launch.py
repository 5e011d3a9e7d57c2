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
print(json.dumps(launch.prepare_environment(*map(int, sys.argv[1:]))))
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
        "ValueError: device=2: of NVIDIA GPUs there are none"
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


def test_nothing_is_changed_in_this_process(python: Python, cache: Path) -> None:
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
    said = python("colab-no-path", program, env={"XDG_CACHE_HOME": str(cache)}).stdout
    assert said == "as before\n"


# ---- devices -------------------------------------------------------------------------------------


def test_a_device_is_named_for_each_program_that_takes_one(
    prepare: Callable[..., dict[str, str]],
) -> None:
    assert prepare("colab", "1", STANDIN_GPUS="2", GLCONTEXT_DEVICE_INDEX="0") == {
        "__EGL_VENDOR_LIBRARY_FILENAMES": "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15",
        "__GLX_VENDOR_LIBRARY_NAME": "nvidia",
        "MUJOCO_GL": "egl",
        "MUJOCO_EGL_DEVICE_ID": "1",
        "VTK_DEFAULT_EGL_DEVICE_INDEX": "1",
        "PYGLET_HEADLESS_DEVICE": "1",
        "GLCONTEXT_DEVICE_INDEX": "1",
        "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow",
    }


DEVICES = """
import moderngl_colab.launch as launch
for device in (2, -1, True, "0", 1.0):
    try:
        print(launch.prepare_environment(device))
    except (launch.GPUContextError, TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_device_that_is_not_there_is_an_error_that_says_which_are(
    python: Python, cache: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(cache), "STANDIN_GPUS": "2"}
    assert python("colab", DEVICES, env=env).stdout.splitlines() == [
        "ValueError: device=2: of NVIDIA GPUs there are 2, of index 0 to 1",
        "ValueError: device=-1: of NVIDIA GPUs there are 2, of index 0 to 1",
        "TypeError: device=True: an int is needed",
        "TypeError: device='0': an int is needed",
        "TypeError: device=1.0: an int is needed",
    ]


def test_a_device_cannot_be_had_over_glx(python: Python) -> None:
    program = DEVICES.replace('(2, -1, True, "0", 1.0)', "(0,)")
    assert python("glx-only", program).stdout == (
        "GPUContextError: device=0 names an EGL device, and here only GLX serves, which chooses "
        "its own\n  fix: leave the device out\n"
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


@pytest.mark.parametrize(
    "program", ["mujoco_context", "pyglet_headless", "vtk_off_screen", "glcontext_egl"]
)
def test_a_program_is_on_the_gpu_that_was_asked_for(
    program: str, neighbour: Callable[..., Any]
) -> None:
    how = RUN.replace("'run', ", "'run', '--device', '1', ")
    assert neighbour("colab-no-path", how, program, STANDIN_GPUS="2") == (
        NVIDIA.replace("GPU 0", "GPU 1"),
        0,
    )


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
