"""``env`` and ``run`` by the command line: what they print, how they end, what they leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PROGRAMS, without_noise

from rig import driver, machines, remedies
from rig.layout import Placed

Python = Callable[..., machines.Finished]
Command = Callable[..., machines.Finished]

LIBRARY = "/usr/lib64-nvidia/libEGL_nvidia.so.550.54.15"
# The name has the digest of the content.
ICD = "moderngl_colab/10_nvidia_b31e5df5d6162a8a.json"


@pytest.fixture
def command(python: Python, tmp_path: Path) -> Command:
    """Call ``python -m moderngl_colab`` in a simulated machine."""

    def call(machine: str | machines.Machine, *words: str, **options: object) -> machines.Finished:
        env = {"XDG_CACHE_HOME": str(tmp_path), **options.pop("env", {})}  # type: ignore[dict-item]
        # The fixture runs a program, and this one is that.
        program = "import runpy; runpy.run_module('moderngl_colab', run_name='__main__')"
        done = python(machine, program, *words, env=env, check=False, **options)
        if done.survivors:
            pytest.fail(f"left {done.survivors}\n{done.stdout}\n{done.stderr}")
        return done

    return call


def result(done: machines.Finished) -> tuple[int, str, str]:
    return done.returncode, done.stdout, without_noise(done.stderr)


# ---- env -----------------------------------------------------------------------------------------


def test_a_process_that_was_given_the_variables_still_falls_back_to_the_cpu(
    command: Command,
) -> None:
    program = (
        "import warnings, moderngl_colab as m; warnings.simplefilter('ignore')\n"
        "ctx = m.get_gpu_context(); print(m.describe(ctx).strategy)"
    )
    fault = {"STANDIN_FAULT": "init,glx-context"}

    done = command(
        "container-graphics", "run", "--", sys.executable, "-P", "-c", program, env=fault
    )

    assert (done.returncode, done.stdout) == (0, "mesa\n")


def test_env_given_twice_says_the_same(command: Command, tmp_path: Path) -> None:
    first = json.loads(command("colab-no-path", "env", "--format", "json").stdout)
    again = json.loads(command("colab-no-path", "env", "--format", "json", env=first).stdout)
    name = "__EGL_VENDOR_LIBRARY_FILENAMES"

    assert again[name] == first[name]
    docker = command("colab-no-path", "env", "--format", "docker").stdout
    assert command("colab-no-path", "env", "--format", "docker", env=first).stdout == docker
    assert command("colab", "env", "--format", "docker").stdout == docker


def test_no_device_may_be_named_where_cudas_variable_leaves_none(command: Command) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    text = (
        "moderngl-colab env: error: no OpenGL program can get the GPU here: CUDA_VISIBLE_DEVICES "
        'is "", and that leaves this process no GPU\n  fix: unset CUDA_VISIBLE_DEVICES\n'
    )

    assert result(command("package", "env", env=hidden)) == (69, "", text)
    assert result(command("package", "env", "--device", "0", env=hidden)) == (69, "", text)


def test_on_wsl2_mesa_kept_from_the_gpu_is_said(command: Command) -> None:
    assert result(command("wsl2", "run", "--", "true", env={"LIBGL_ALWAYS_SOFTWARE": "1"})) == (
        69,
        "",
        "moderngl-colab run: error: no OpenGL program can get the GPU here: LIBGL_ALWAYS_SOFTWARE "
        "is set to 1, and that keeps Mesa on the CPU\n  fix: unset LIBGL_ALWAYS_SOFTWARE\n",
    )


def test_a_display_of_an_impossible_name_is_not_used(command: Command) -> None:
    done = command("package", "run", "--", "true", env={"DISPLAY": ":" + "9" * 150})

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_env_prints_lines_for_a_shell(command: Command, tmp_path: Path) -> None:
    assert result(command("colab-no-path", "env")) == (
        0,
        f"export __EGL_VENDOR_LIBRARY_FILENAMES={tmp_path}/{ICD}\n"
        "export __GLX_VENDOR_LIBRARY_NAME=nvidia\n"
        "export MUJOCO_GL=egl\n"
        "export LD_LIBRARY_PATH=/usr/lib64-nvidia\n",
        "",
    )


def test_env_prints_an_object(command: Command, tmp_path: Path) -> None:
    status, said, errors = result(command("colab-no-path", "env", "--format", "json"))
    assert (status, errors) == (0, "")
    assert said == (
        "{\n"
        f'  "__EGL_VENDOR_LIBRARY_FILENAMES": "{tmp_path}/{ICD}",\n'
        '  "__GLX_VENDOR_LIBRARY_NAME": "nvidia",\n'
        '  "MUJOCO_GL": "egl",\n'
        '  "LD_LIBRARY_PATH": "/usr/lib64-nvidia"\n'
        "}\n"
    )
    assert json.loads((tmp_path / ICD).read_text()) == {
        "file_format_version": "1.0.0",
        "ICD": {"library_path": LIBRARY},
    }


DOCKERFILE = """\
ENV NVIDIA_VISIBLE_DEVICES="all"
ENV NVIDIA_DRIVER_CAPABILITIES="all"
ENV __GLX_VENDOR_LIBRARY_NAME="nvidia"
ENV MUJOCO_GL="{}"
{}RUN mkdir -p /etc/glvnd/egl_vendor.d && echo '{{"file_format_version": "1.0.0", "ICD": \
{{"library_path": "libEGL_nvidia.so.0"}}}}' >/etc/glvnd/egl_vendor.d/10_nvidia.json
"""


def test_env_prints_lines_for_a_dockerfile_and_writes_no_file(
    command: Command, tmp_path: Path
) -> None:
    done = command("colab-no-path", "env", "--format", "docker")
    path = 'ENV LD_LIBRARY_PATH="/usr/lib64-nvidia"\n'
    assert result(done) == (0, DOCKERFILE.format("egl", path), "")
    assert list(tmp_path.iterdir()) == []


KEPT = f"/usr/local/share/moderngl_colab/driver/{{}}-{os.uname().machine}"
OF_NEW, OF_OLD = KEPT.format("550.54.15"), KEPT.format(machines.OLD)
FETCHED = replace(
    machines.MACHINES["compute-only"],
    libraries=(
        Placed("{lib}", driver.NVML),
        Placed(OF_NEW),
        Placed(OF_OLD, version=machines.OLD),
    ),
)
DATA = {"XDG_DATA_HOME": "/usr/local/share"}


def test_an_image_is_not_given_the_path_of_what_was_fetched_for_this_user(
    command: Command,
) -> None:
    done = command(FETCHED, "env", "--format", "docker", env=DATA)

    assert result(done) == (
        0,
        DOCKERFILE.format("egl", ""),
        "moderngl-colab env: what install-driver fetched here is in no image: its containers need "
        "the OpenGL half of their host's driver\n",
    )
    assert f"LD_LIBRARY_PATH={OF_NEW}\n" in command(FETCHED, "env", env=DATA).stdout


def test_the_variables_of_a_kernel_module_that_was_replaced_lead_nobody_astray(
    command: Command,
) -> None:
    stale = DATA | {"LD_LIBRARY_PATH": OF_OLD, "__GLX_VENDOR_LIBRARY_NAME": "nvidia"}

    path = f"export LD_LIBRARY_PATH={OF_NEW}:{OF_OLD}\n"
    assert path in command(FETCHED, "env", env=stale).stdout
    raw = ("run", "--", sys.executable, "-P", str(PROGRAMS / "raw.py"))
    assert result(command(FETCHED, *raw, env=stale)) == (0, "NVIDIA Corporation 00ff00\n", "")
    only_old = replace(FETCHED, libraries=(FETCHED.libraries[0], FETCHED.libraries[2]))
    report = json.loads(command(only_old, "doctor", "--json", "--no-try", env=stale).stdout)
    assert [finding["code"] for finding in report["findings"]] == [
        "userland-absent",
        "userland-outdated",
    ]


BUILD = """
import subprocess, sys
env = [sys.executable, "-P", "-m", "moderngl_colab", "env", "--format", "docker"]
said = subprocess.run(env, capture_output=True, text=True, check=True).stdout
(line,) = [line for line in said.splitlines() if line.startswith("RUN ")]
subprocess.run(["sh", "-c", line.removeprefix("RUN ")], check=True)
subprocess.run([sys.executable, "-P", sys.argv[1]], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build an image so")
def test_an_image_that_was_built_with_these_lines_is_on_the_gpu(python: Python) -> None:
    raw = str(PROGRAMS / "raw.py")
    assert python("container-graphics", BUILD, raw).stdout == "NVIDIA Corporation 00ff00\n"


def _odd(folder: Path) -> machines.Machine:
    driver.build(folder)
    return machines.Machine("odd", "the driver in an odd place", kernel=machines.KERNEL)


def test_a_dockerfile_reads_odd_characters_back_as_they_are(
    command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / 'o\'dd "$HOME" `x` \\'
    env = {"MODERNGL_COLAB_DRIVER_DIR": str(folder)}
    done = command(_odd(folder), "env", "--format", "docker", env=env)
    path = f'ENV LD_LIBRARY_PATH="{tmp_path}/o\'dd \\"\\$HOME\\" `x` \\\\"\n'
    assert result(done) == (0, DOCKERFILE.format("egl", path), "")


def test_a_line_break_that_no_dockerfile_can_hold_is_said(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a\nb"
    env = {"MODERNGL_COLAB_DRIVER_DIR": str(folder)}
    done = command(_odd(folder), "env", "--format", "docker", env=env)
    assert result(done) == (
        73,
        "",
        f"moderngl-colab env: error: LD_LIBRARY_PATH='{tmp_path}/a\\nb': no Dockerfile can hold a "
        "line break\n",
    )


def test_env_says_that_a_display_is_needed_where_glx_alone_serves(command: Command) -> None:
    printed = (
        "export __EGL_VENDOR_LIBRARY_FILENAMES=/dev/null\n"
        "export __GLX_VENDOR_LIBRARY_NAME=nvidia\n"
        "export MUJOCO_GL=glfw\n"
    )
    said = "moderngl-colab env: programs need a display here: `moderngl-colab run` gives them one\n"
    assert result(command("glx-only", "env")) == (0, printed, said)
    done = command("glx-only", "env", env={"DISPLAY": "elsewhere:10.0"})
    assert result(done) == (0, printed, said)


EGL_ONLY = machines.Machine(
    "egl-only",
    "the EGL half of the driver",
    libraries=(Placed("{lib}", driver.ALL - {"libGLX_nvidia", "libnvidia-glcore"}),),
    kernel=machines.KERNEL,
)


def test_that_programs_which_use_glx_are_not_on_the_gpu_is_said_where_they_have_a_display(
    command: Command, screen: str
) -> None:
    text = (
        ": programs that use GLX are not on the GPU here: an NVIDIA GPU is there (kernel module "
        "550.54.15), but libGLX_nvidia.so.0 of version 550.54.15 is in none of the directories "
        "searched\n"
    )
    done = command(EGL_ONLY, "run", "--", "true", env={"DISPLAY": screen})
    assert result(done) == (0, "", f"moderngl-colab run{text}")
    done = command(EGL_ONLY, "env", env={"DISPLAY": screen})
    assert (done.returncode, done.stderr) == (0, f"moderngl-colab env{text}")
    assert command(EGL_ONLY, "env").stderr == ""
    # What the user chose he need not be told.
    chosen = {"DISPLAY": screen, "__GLX_FORCE_VENDOR_LIBRARY_0": "mesa"}
    assert command("colab", "env", env=chosen).stderr == ""


CLOSED = 'exec 2>&-; printf "[%s]" "$("$0" -P -m moderngl_colab "$@")"'


@pytest.mark.parametrize("words", [["env"], ["run", "--", "true"], ["run"]])
def test_without_stderr_nothing_is_said_on_stdout(words: list[str], python: Python) -> None:
    program = (
        "import os, sys; os.execvp('sh', ['sh', '-c', sys.argv[1], sys.executable, *sys.argv[2:]])"
    )
    assert python("no-nvidia", program, CLOSED, *words).stdout == "[]"


def test_in_a_program_env_prints_to_whatever_stdout_is(python: Python, tmp_path: Path) -> None:
    program = """
import contextlib, io
from moderngl_colab.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as said:
    status = main(["env"])
print(status, said.getvalue().splitlines()[1:])
"""
    done = python("colab", program, env={"XDG_CACHE_HOME": str(tmp_path)})
    assert done.stdout == (
        "0 ['export __GLX_VENDOR_LIBRARY_NAME=nvidia', 'export MUJOCO_GL=egl']\n"
    )


FOREIGN = """
import os, signal, sys
import shutil, subprocess  # They look at what the system is.
for name in ("resource", "fcntl", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("geteuid", "getuid", "getegid", "getgid", "uname", "memfd_create", "EX_UNAVAILABLE",
             "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_PATH", "posix_spawnp"):
    delattr(os, name)
for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCHLD"):
    delattr(signal, name)
sys.platform = "win32"
import moderngl_colab
from moderngl_colab.__main__ import main
print(main(["env"]), main(["run", "--", "true"]), main(["bench"]), main(["install-driver"]))
print(main(["--help"]))
from moderngl_colab import *
for refused in (moderngl_colab.prepare_environment, install_driver):
    try:
        refused()
    except GPUContextError as error:
        print(error)
"""


def test_on_another_system_it_is_said_what_serves_there(python: Python) -> None:
    text = (
        "moderngl_colab serves Linux; on win32 the system itself gives GPU contexts: "
        "moderngl.create_context(standalone=True)\n"
    )
    names = ("env", "run", "bench", "install-driver")
    status, output, errors = result(python("no-nvidia", FOREIGN, check=False))
    first, *helped, one, other = output.splitlines(keepends=True)

    assert (status, first, one, other) == (0, "69 69 69 69\n", text, text)
    assert errors == "".join(f"moderngl-colab {name}: error: {text}" for name in names)
    assert helped[0].startswith("usage: ")


TWO = {"STANDIN_GPUS": "2", "STANDIN_ORDER": "reverse"}


def test_env_names_the_device_to_every_program(command: Command, tmp_path: Path) -> None:
    done = command("colab", "env", "--device", "0", env=TWO)
    assert result(done) == (
        0,
        f"export __EGL_VENDOR_LIBRARY_FILENAMES={tmp_path}/{ICD}\n"
        "export __GLX_VENDOR_LIBRARY_NAME=nvidia\n"
        "export MUJOCO_GL=egl\n"
        "export MODERNGL_COLAB_DEVICE=cuda:0\n"
        "export MUJOCO_EGL_DEVICE_ID=0\n"
        "export VTK_DEFAULT_EGL_DEVICE_INDEX=1\n"
        "export PYGLET_HEADLESS_DEVICE=1\n"
        "export GLCONTEXT_DEVICE_INDEX=1\n"
        "export VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow\n",
        "",
    )


def test_of_the_gpus_of_this_machine_a_dockerfile_names_none_by_itself(command: Command) -> None:
    env = {**TWO, "MODERNGL_COLAB_DEVICE": "1", "CUDA_VISIBLE_DEVICES": "1"}
    path = 'ENV LD_LIBRARY_PATH="/usr/lib64-nvidia"\n'
    done = command("colab-no-path", "env", "--format", "docker", env=env)
    assert result(done) == (0, DOCKERFILE.format("egl", path), "")
    done = command("colab-no-path", "env", "--format", "docker", "--device", "1", env=TWO)
    assert 'ENV PYGLET_HEADLESS_DEVICE="0"\n' in done.stdout


@pytest.mark.parametrize(
    ("machine", "cure"), [("glx-only", remedies.GRAPHICS), ("no-libegl", remedies.DISPATCH)]
)
def test_what_gives_egl_is_said_where_glx_cannot_choose_the_gpu(
    command: Command, machine: str, cure: str
) -> None:
    done = command(machine, "run", "--device", "1", "--", "true", env=TWO)

    assert result(done) == (
        69,
        "",
        "moderngl-colab run: error: no OpenGL program can get the GPU here: device='cuda:1' names "
        f"a certain GPU, and only GLX serves, which chooses its own\n  fix: {cure}\n",
    )


def test_that_programs_choose_a_gpu_by_themselves_is_said(command: Command) -> None:
    done = command("colab", "env", env={**TWO, "STANDIN_FAULT": "query-crash"})
    assert (done.returncode, done.stderr) == (
        0,
        "moderngl-colab env: programs choose one of several GPUs by themselves: the process that "
        "asked libEGL was ended by SIGABRT (6)\n",
    )


ODD = 'o\'dd "$HOME" `x` \\ \u00e9\n'


def test_a_shell_reads_odd_characters_back_as_they_are(
    command: Command, python: Python, tmp_path: Path
) -> None:
    # A byte that is no UTF-8 goes with them.
    home = os.fsencode(tmp_path) + b"/" + os.fsencode(ODD) + b"\xff"
    library = tmp_path / ODD / "driver"
    driver.build(library)
    machine = machines.Machine("odd", "the driver in an odd place", kernel=machines.KERNEL)
    env = {"XDG_CACHE_HOME": os.fsdecode(home), "MODERNGL_COLAB_DRIVER_DIR": str(library)}
    program = (
        "import os, subprocess, sys\n"
        'script = \'eval "$("$0" -m moderngl_colab env)" && env -0\'\n'
        "done = subprocess.run(['sh', '-c', script, sys.executable], stdout=subprocess.PIPE)\n"
        "lines = dict(line.partition(b'=')[::2] for line in done.stdout.split(b'\\0'))\n"
        "print(ascii(lines[b'__EGL_VENDOR_LIBRARY_FILENAMES'].rpartition(b'/')[0]))\n"
        "print(ascii(lines[b'LD_LIBRARY_PATH']))\n"
    )
    assert python(machine, program, env=env).stdout.splitlines() == [
        ascii(home + b"/moderngl_colab"),
        ascii(os.fsencode(library)),
    ]
    pyglet = str(PROGRAMS / "neighbours" / "pyglet_headless.py")
    done = command(machine, "run", "--", sys.executable, "-P", pyglet, env=env)
    assert done.stdout == "NVIDIA Corporation\nNVIDIA Stand-in GPU 0/PCIe/SSE2\n"


# ---- errors --------------------------------------------------------------------------------------

NO_GPU = (
    "no OpenGL program can get the GPU here: no NVIDIA GPU is given to this machine: there is no "
    "/dev/nvidiactl, and no kernel module is loaded\n"
    '  fix: add "nvidia.com/gpu: 1" to the container\'s resources.limits\n'
)
POSSIBLE = (
    'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") and a '
    'PCI address ("pci:0000:0f:00.0")'
)
GPU = "NVIDIA Stand-in GPU 0  GPU-57a2d100-0c01-4ab0-9e11-00005eed0000  pci:0000:00:04.0"


@pytest.mark.parametrize(
    ("machine", "words", "status", "text"),
    [
        ("no-nvidia", ["env"], 69, f"moderngl-colab env: error: {NO_GPU}"),
        ("no-nvidia", ["run", "--", "true"], 69, f"moderngl-colab run: error: {NO_GPU}"),
        (
            "colab",
            ["env", "--device", "1"],
            64,
            "moderngl-colab env: error: device='cuda:1': this process has no such GPU; it has 1:\n"
            f"  cuda:0  {GPU}\n",
        ),
        (
            "colab",
            ["run", "--device", "-1", "--", "true"],
            64,
            f"moderngl-colab run: error: device='-1': {POSSIBLE}; of GPUs there are 1:\n  {GPU}\n",
        ),
        (
            "colab",
            ["run"],
            64,
            "moderngl-colab run: error: no program is named: moderngl-colab run -- CMD ...\n",
        ),
        (
            "colab",
            ["run", "--", ""],
            64,
            "moderngl-colab run: error: no program is named: moderngl-colab run -- CMD ...\n",
        ),
        (
            "colab",
            ["run", "--fast", "--", "true"],
            64,
            "usage: moderngl-colab run [-h] [--device D] ...\n"
            "moderngl-colab run: error: unrecognized arguments: --fast\n",
        ),
        (
            "colab",
            ["env", "--device", "one"],
            64,
            f"moderngl-colab env: error: device='one': {POSSIBLE}; of GPUs there are 1:\n  {GPU}\n",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    machine: str, words: list[str], status: int, text: str, command: Command
) -> None:
    assert result(command(machine, *words)) == (status, "", text)


# With a display of ours the program is a child of this one; without, it takes its place.
# Where GLX is not NVIDIA's by the user's own choice, no display is given.
WAYS = {"on our display": {}, "in place": {"__GLX_VENDOR_LIBRARY_NAME": "mesa"}}


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("no-such-program", 127, "No such file or directory"),
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_started_ends_as_in_a_shell(
    name: str, status: int, why: str, env: dict[str, str], command: Command
) -> None:
    assert result(command("colab", "run", "--", name, env=env)) == (
        status,
        "",
        f"moderngl-colab run: error: {name}: {why}\n",
    )


def unwritable(folder: str, why: str) -> str:
    return (
        f"moderngl-colab env: error: no ICD can be written to '{folder}/moderngl_colab' ({why}): "
        "set XDG_CACHE_HOME to a folder of your own\n"
    )


def test_a_cache_that_is_no_folder_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("colab", "env", env={"XDG_CACHE_HOME": f"{tmp_path}/file"})
    why = f"{tmp_path}/file is no folder"
    assert result(done) == (73, "", unwritable(f"{tmp_path}/file", why))
    done = command("colab", "run", "--", "true", env={"XDG_CACHE_HOME": f"{tmp_path}/file"})
    assert done.returncode == 73


WITHOUT_HOME = """
import os, sys
del os.environ["HOME"], os.environ["XDG_CACHE_HOME"]
from moderngl_colab.__main__ import main
sys.exit(main(["env"]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("uid", "folder", "why"),
    [
        (65534, "/nonexistent/.cache", "Permission denied"),
        (54321, "~/.cache", "this user has no home folder"),
    ],
)
def test_a_user_without_a_home_is_told_what_to_set(
    uid: int, folder: str, why: str, python: Python
) -> None:
    done = python("colab", WITHOUT_HOME, uid=uid, env={"XDG_CACHE_HOME": ""}, check=False)
    assert result(done) == (73, "", unwritable(folder, why))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_has_a_cache_of_its_own(python: Python, tmp_path: Path) -> None:
    program = WITHOUT_HOME.replace(
        'os.environ["XDG_CACHE_HOME"]\n',
        'os.environ["XDG_CACHE_HOME"]\n'
        "import tempfile\n"
        "folder = tempfile.TemporaryDirectory(); os.environ['XDG_CACHE_HOME'] = folder.name\n",
    )
    done = python("colab", program, uid=65534, env={"XDG_CACHE_HOME": ""}, check=False)
    assert done.returncode == 0, done.stderr


# ---- run: how it ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -SEGV $$", -signal.SIGSEGV),
        ("kill -INT $$", -signal.SIGINT),
        ("kill -PIPE $$", -signal.SIGPIPE),
    ],
)
def test_it_ends_as_the_program_did(
    script: str, status: int, env: dict[str, str], command: Command
) -> None:
    assert result(command("colab", "run", "--", "sh", "-c", script, env=env)) == (status, "", "")


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
def test_the_program_has_its_arguments_streams_and_signals_as_without_run(
    env: dict[str, str], command: Command
) -> None:
    script = 'grep -E "SigBlk|SigIgn" /proc/self/status; echo "$@" >&2; ls /proc/self/fd | wc -l'
    done = command("colab", "run", "--", "sh", "-c", script, "sh", "--", "--device", "9", env=env)
    blocked, ignored, descriptors = done.stdout.splitlines()
    assert int(blocked.split()[1], 16) == 0
    # Its own signals 32 and 33 glibc ignores on behalf of what posix_spawn(3) starts.
    assert int(ignored.split()[1], 16) & ~(3 << 31) == 0
    assert (int(descriptors), done.stderr) == (4, "-- --device 9\n")


def servers() -> set[str]:
    """What X servers leave in /tmp."""
    return {str(p) for pattern in (".X*-lock", ".X11-unix/X*") for p in Path("/tmp").glob(pattern)}


def of_display(name: str) -> set[str]:
    number = name.strip().removeprefix(":")
    return {f"/tmp/.X{number}-lock", f"/tmp/.X11-unix/X{number}"}


def test_no_display_is_left(command: Command) -> None:
    done = command("glx-only", "run", "--", "sh", "-c", "echo $DISPLAY; ls /tmp/.X*-lock")
    name, *locks = done.stdout.splitlines()
    assert f"/tmp/.X{name[1:]}-lock" in locks
    assert not of_display(name) & servers()


@pytest.fixture
def screen() -> Iterator[str]:
    """A display on which something answers; of a server no more is needed."""
    with socket.socket(socket.AF_UNIX) as server:
        number = 60000 + os.getpid() % 5000
        server.bind(f"\0/tmp/.X11-unix/X{number}")
        server.listen()
        yield f":{number}"


def test_a_display_of_the_users_is_used(command: Command, screen: str) -> None:
    done = command("colab", "run", "--", "sh", "-c", "echo $DISPLAY", env={"DISPLAY": screen})
    assert result(done) == (0, f"{screen}\n", "")


@pytest.mark.parametrize(
    ("display", "why"),
    [
        ("elsewhere:10.0", "it is a server of another machine"),
        ("localhost:10.0", "it is a server of another machine"),
        ("[::1]:0", "it is a server of another machine"),
        (":65000", "nobody answers on it"),
        ("unix:65000.0", "nobody answers on it"),
        ("nonsense", "it names no display"),
    ],
)
def test_a_display_on_which_nothing_renders_here_is_not_used(
    display: str, why: str, command: Command
) -> None:
    words = (
        "run",
        "--",
        "sh",
        "-c",
        'glxinfo -B | grep "vendor string"; echo "${DISPLAY%%[0-9]*}"',
    )
    done = command("colab", *words, env={"DISPLAY": display})
    text = f"moderngl-colab run: DISPLAY={display} is not used: {why}\n"
    assert result(done) == (0, "OpenGL vendor string: NVIDIA Corporation\n:\n", text)


def test_without_xvfb_such_a_display_is_as_none(command: Command) -> None:
    env = {"DISPLAY": "localhost:10.0"}
    assert result(command("no-xvfb", "run", "--", "true", env=env)) == (
        69,
        "",
        "moderngl-colab run: error: no OpenGL program can get the GPU here: there is no Xvfb on "
        f"the PATH\n  fix: {remedies.XVFB}\n",
    )


def test_where_the_user_chose_other_egl_vendors_glx_is_on_the_gpu(command: Command) -> None:
    mesa = "/usr/share/glvnd/egl_vendor.d/50_mesa.json"
    script = 'glxinfo -B | grep "vendor string"; echo $__EGL_VENDOR_LIBRARY_FILENAMES'
    env = {"__EGL_VENDOR_LIBRARY_FILENAMES": mesa}
    assert result(command("container-graphics", "run", "--", "sh", "-c", script, env=env)) == (
        0,
        f"OpenGL vendor string: NVIDIA Corporation\n{mesa}\n",
        "moderngl-colab run: programs that use EGL are left to your own choice: "
        f"__EGL_VENDOR_LIBRARY_FILENAMES is set to {mesa}, and that leaves NVIDIA's vendor library "
        "out\n",
    )


SIZE = """
import ctypes
x11 = ctypes.CDLL("libX11.so.6")
x11.XOpenDisplay.restype = ctypes.c_void_p
display = ctypes.c_void_p(x11.XOpenDisplay(None))
print(x11.XDisplayWidth(display, 0), x11.XDisplayHeight(display, 0))
"""


def test_the_display_has_room_for_a_window(command: Command) -> None:
    done = command("glx-only", "run", "--", sys.executable, "-c", SIZE)
    assert result(done) == (0, "1280 1024\n", "")


# What a library does when it is opened.
OPENED = """
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void opened(void) {%s}
"""
CRASH = "raise(SIGSEGV);"
HANG = 'close(creat(getenv("HANGS"), 0600)); for (;;) pause();'
SHOW = ("run", "--", "sh", "-c", 'echo "[$DISPLAY]"')


def test_a_display_that_refuses_glx_is_not_given_where_egl_serves(command: Command) -> None:
    text = "moderngl-colab run: EGL serves, GLX does not: "
    done = command("colab", *SHOW, env={"STANDIN_FAULT": "glx-context"})
    refused = "glXCreateContextAttribsARB: no context\n"
    assert result(done) == (0, "[]\n", text + refused)
    # Where there is no other way it is for the program to say what is wrong.
    done = command("glx-only", *SHOW, env={"STANDIN_FAULT": "glx-context"})
    assert (done.stdout[:2], done.stderr) == ("[:", "")


def _with_glx_that(does: str, folder: Path) -> machines.Machine:
    """A machine whose driver, in the folder, does that when its GLX half is opened."""
    driver.build(folder)
    core = folder / f"libnvidia-glcore.so.{driver.VERSION}"
    core.unlink()
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{core.name}", "-o", core, "-xc", "-"],
        input=OPENED % does, text=True, check=True,
    )  # fmt: skip
    return machines.Machine("odd-glx", "a driver whose GLX half fails", kernel=machines.KERNEL)


def test_a_display_on_which_the_driver_crashes_is_not_given_where_egl_serves(
    command: Command, tmp_path: Path
) -> None:
    machine = _with_glx_that(CRASH, tmp_path)
    done = command(machine, *SHOW, env={"MODERNGL_COLAB_DRIVER_DIR": str(tmp_path)})
    assert result(done) == (
        0,
        "[]\n",
        "moderngl-colab run: EGL serves, GLX does not: the process that tried it was ended by "
        "signal 11\n",
    )


def test_a_display_on_which_mesa_would_serve_instead_is_not_given(command: Command) -> None:
    machine = machines.Machine(
        "no-libxext",
        "a library of X11's that NVIDIA's GLX needs is not installed",
        libraries=(Placed("{lib}"),),
        removed=("{lib}/libXext.so*",),
        kernel=machines.KERNEL,
    )
    assert result(command(machine, *SHOW)) == (
        0,
        "[]\n",
        "moderngl-colab run: EGL serves, GLX does not: libXext.so.6: cannot open shared object "
        "file: No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (["--device", "0"], TWO, "none/1"),
        ([], {**TWO, "CUDA_VISIBLE_DEVICES": "1"}, "none/0"),
        ([], TWO, "one/1"),
        (["--device", "0"], {}, "one/0"),
        ([], {"CUDA_VISIBLE_DEVICES": "0"}, "one/"),
    ],
)
def test_a_certain_one_of_several_gpus_is_not_lost_over_glx(
    words: list[str], env: dict[str, str], said: str, command: Command
) -> None:
    script = 'test "$DISPLAY" && screen=one; echo "${screen:-none}/$PYGLET_HEADLESS_DEVICE"'
    done = command("colab", "run", *words, "--", "sh", "-c", script, env=env)
    assert result(done) == (0, f"{said}\n", "")


@pytest.mark.parametrize(
    ("machine", "status", "text"),
    [
        ("colab", 0, "moderngl-colab run: EGL serves, GLX does not: "),
        ("glx-only", 69, "moderngl-colab run: error: the program has no display: "),
    ],
)
def test_a_display_that_does_not_come_up_matters_where_nothing_else_serves(
    machine: str, status: int, text: str, command: Command, tmp_path: Path
) -> None:
    server = tmp_path / "Xvfb"
    server.write_text("#!/bin/sh\necho no fonts, no keyboard >&2\nexit 3\n")
    server.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = command(machine, "run", "--", "sh", "-c", "echo $DISPLAY", env=env)
    text += "Xvfb ended at once with status 3; it said: no fonts, no keyboard\n"
    text += "" if status == 0 else f"  fix: {remedies.XKB}\n"
    assert result(done) == (status, "\n" if status == 0 else "", text)


# ---- run: signals --------------------------------------------------------------------------------

# A program that counts signals until one of them has come, and a moment more.
COUNTER = """
import signal, sys, time
from collections import Counter
seen = Counter()
numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH]
for number in numbers:
    signal.signal(number, lambda n, frame: seen.update([signal.Signals(n).name]))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.3)
print(dict(seen), flush=True)
sys.exit(9)
"""
START = """
import atexit, os, pty, signal, subprocess, sys
def start(program, *, group=None):
    run = subprocess.Popen(
        [sys.executable, "-m", "moderngl_colab", "run", "--", sys.executable, "-c", program],
        stdout=subprocess.PIPE, text=True, process_group=group)
    atexit.register(run.stdout.close)
    return run
"""
SENT = (
    START
    + """
run = start(sys.argv[1])
run.stdout.readline()
run.send_signal(int(sys.argv[2]))
print(run.stdout.read().strip(), run.wait())
"""
)


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_that_is_sent_reaches_the_program_once(
    name: str, env: dict[str, str], python: Python, tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path), **env}
    done = python("colab", SENT, COUNTER, str(int(signal.Signals[name])), env=env)
    assert done.stdout == f"{{'{name}': 1}} 9\n"


TERMINAL = (
    START
    + """
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "moderngl_colab", "run", "--",
                              sys.executable, "-c", sys.argv[1]])
text = b""
while b"ready\\r\\n" not in text:  # Ctrl-C throws away what nobody has read yet.
    text += os.read(terminal, 1000)
os.write(terminal, b"\\x03")
try:
    while chunk := os.read(terminal, 1000):
        text += chunk
except OSError:  # The other end is closed.
    pass
# The terminal echoes what is typed, somewhere in between.
print(text.decode().replace("^C", "").split("\\r\\n")[1:],
      os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
)


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
def test_control_c_reaches_the_program_once(
    env: dict[str, str], python: Python, tmp_path: Path
) -> None:
    done = python("colab", TERMINAL, COUNTER, env={"XDG_CACHE_HOME": str(tmp_path), **env})
    assert done.stdout == "[\"{'SIGINT': 1}\", ''] 9\n"


STOPPED = (
    START
    + """
run = start("import time; print('ready', flush=True); time.sleep(1)", group=0)
run.stdout.readline()
for number in map(int, sys.argv[1:]):
    run.send_signal(number)
    _, status = os.waitpid(run.pid, os.WUNTRACED)
    print(os.WIFSTOPPED(status), signal.Signals(os.WSTOPSIG(status)).name)
    run.send_signal(signal.SIGCONT)
print(run.wait())
"""
)


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
def test_it_stops_and_goes_on_with_the_program(
    env: dict[str, str], python: Python, tmp_path: Path
) -> None:
    numbers = [str(int(n)) for n in (signal.SIGTSTP, signal.SIGTTIN)]
    env = {"XDG_CACHE_HOME": str(tmp_path), **env}
    assert python("colab", STOPPED, *numbers, env=env).stdout == ("True SIGTSTP\nTrue SIGTTIN\n0\n")


STOPPED_ALONE = (
    START
    + """
import time
run = start("import os, time; print(os.getpid(), flush=True); time.sleep(1)", group=0)
child = int(run.stdout.readline())
def state(pid):
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0]
os.kill(child, signal.SIGSTOP)
while state(child) != "T":
    pass
time.sleep(0.3)  # It may well have stopped by now, too.
os.kill(child, signal.SIGCONT)
print(run.wait())
"""
)


def test_a_program_that_somebody_stops_and_continues_does_not_leave_it_stopped(
    python: Python, tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    assert python("colab", STOPPED_ALONE, env=env).stdout == "0\n"


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", ["script", "./script"])
def test_a_script_without_a_first_line_that_names_a_shell_is_run_as_by_one(
    name: str, env: dict[str, str], command: Command, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\nexit 7\n')
    script.chmod(0o755)
    there = f'cd {tmp_path} && exec {sys.executable} -P -m moderngl_colab run -- {name} "a b"'
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **env}
    done = command("colab", "run", "--", "sh", "-c", there, env=env)
    path = name if "/" in name else str(script)
    assert result(done) == (7, f"{path} a b\n", "")


@pytest.mark.parametrize("env", WAYS.values(), ids=WAYS)
def test_a_program_of_another_machine_is_no_script(
    env: dict[str, str], command: Command, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    header = bytearray(Path(sys.executable).read_bytes()[:64])
    header[18:20] = b"\x08\x00"  # EM_MIPS
    foreign.write_bytes(header)
    foreign.chmod(0o755)
    assert result(command("colab", "run", "--", str(foreign), env=env)) == (
        126,
        "",
        f"moderngl-colab run: error: {foreign}: Exec format error\n",
    )


SLOW = """#!/bin/sh
echo started >{}
trap '' INT HUP QUIT
exec sleep 60
"""
EARLY = (
    START
    + """
import time
run = start("print('never')")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
run.send_signal(int(sys.argv[2]))
print(run.stdout.read(), run.wait())
"""
)


def test_a_signal_while_glx_is_tried_ends_all(python: Python, tmp_path: Path) -> None:
    hangs = str(tmp_path / "hangs")
    machine = _with_glx_that(HANG, tmp_path / "driver")
    env = {"HANGS": hangs, "MODERNGL_COLAB_DRIVER_DIR": str(tmp_path / "driver")}
    env |= {"XDG_CACHE_HOME": str(tmp_path)}
    done = python(machine, EARLY, hangs, str(int(signal.SIGTERM)), env=env)
    assert done.stdout == f" {-signal.SIGTERM}\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"])
def test_a_signal_while_the_display_starts_ends_both(
    name: str, python: Python, tmp_path: Path
) -> None:
    server = tmp_path / "Xvfb"
    server.write_text(SLOW.format(tmp_path / "started"))
    server.chmod(0o755)
    env = {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    number = signal.Signals[name]
    # The fixture fails where a process is left.
    done = python("glx-only", EARLY, str(tmp_path / "started"), str(int(number)), env=env)
    assert done.stdout == f" {-number}\n"


IN_THE_MAKING = """
import os, signal, sys
number = int(sys.argv.pop(1))
def interrupt(event, arguments):
    if event == "subprocess.Popen" and "Xvfb" in arguments[1]:
        os.kill(os.getpid(), number)
sys.addaudithook(interrupt)
from moderngl_colab.__main__ import main
sys.exit(main(["run", "--", "true"]))
"""


@pytest.mark.parametrize("machine", ["glx-only", "colab"])
def test_a_signal_while_the_displays_process_is_made_ends_both(
    machine: str, python: Python, tmp_path: Path
) -> None:
    server = tmp_path / "Xvfb"
    server.write_text("#!/bin/sh\nexec sleep 60\n")
    server.chmod(0o755)
    env = {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = python(machine, IN_THE_MAKING, str(int(signal.SIGQUIT)), env=env, check=False)
    assert result(done) == (-signal.SIGQUIT, "", "")
    assert not done.survivors


OWN_GROUP = """
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: print("one", flush=True))
os.kill(0, signal.SIGUSR1)
os.kill(0, signal.SIGUSR1)
"""


def test_what_the_program_sends_to_its_group_does_not_come_back(
    python: Python, tmp_path: Path
) -> None:
    program = START + "run = start(sys.argv[1], group=0); print(run.stdout.read(), run.wait())"
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    assert python("colab", program, OWN_GROUP, env=env).stdout == "one\none\n 0\n"


KILLED = (
    START
    + """
run = start('''
import os, time
print(os.environ["DISPLAY"], os.getpid(), flush=True)
time.sleep(60)
''')
name, child = run.stdout.readline().split()
run.kill()
run.wait()
os.kill(int(child), 0)
os.kill(int(child), signal.SIGKILL)
print(name)
"""
)


def test_when_it_is_killed_the_display_goes_by_itself(python: Python, tmp_path: Path) -> None:
    name = python("glx-only", KILLED, env={"XDG_CACHE_HOME": str(tmp_path)}).stdout
    end = time.monotonic() + 10
    while of_display(name) & servers() and time.monotonic() < end:
        time.sleep(0.01)
    assert not of_display(name) & servers()
