"""``env`` and ``run`` by the command line: what they print, how they end, what they leave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROGRAMS

from rig import driver, machines

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
    return done.returncode, done.stdout, done.stderr


# ---- env -----------------------------------------------------------------------------------------


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


def test_env_prints_arguments_for_docker(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    done = command(
        "colab-no-path", "env", "--format", "docker", env={"XDG_CACHE_HOME": str(folder)}
    )
    assert result(done) == (
        0,
        "--gpus all --env NVIDIA_DRIVER_CAPABILITIES=all "
        f"--env '__EGL_VENDOR_LIBRARY_FILENAMES={folder}/{ICD}' "
        "--env __GLX_VENDOR_LIBRARY_NAME=nvidia --env MUJOCO_GL=egl "
        "--env LD_LIBRARY_PATH=/usr/lib64-nvidia "
        f"--volume '{folder}/{ICD}:{folder}/{ICD}:ro'\n",
        "",
    )


def test_env_gives_docker_no_file_where_there_is_none(command: Command) -> None:
    assert result(command("glx-only", "env", "--format", "docker")) == (
        0,
        "--gpus all --env NVIDIA_DRIVER_CAPABILITIES=all --env "
        "__EGL_VENDOR_LIBRARY_FILENAMES=/dev/null --env __GLX_VENDOR_LIBRARY_NAME=nvidia --env "
        "MUJOCO_GL=glfw\n",
        "",
    )


def test_env_names_the_device_to_every_program(command: Command, tmp_path: Path) -> None:
    done = command("colab", "env", "--device", "1", env={"STANDIN_GPUS": "2"})
    assert result(done) == (
        0,
        f"export __EGL_VENDOR_LIBRARY_FILENAMES={tmp_path}/{ICD}\n"
        "export __GLX_VENDOR_LIBRARY_NAME=nvidia\n"
        "export MUJOCO_GL=egl\n"
        "export MUJOCO_EGL_DEVICE_ID=1\n"
        "export VTK_DEFAULT_EGL_DEVICE_INDEX=1\n"
        "export PYGLET_HEADLESS_DEVICE=1\n"
        "export GLCONTEXT_DEVICE_INDEX=1\n"
        "export VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow\n",
        "",
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


@pytest.mark.parametrize(
    ("machine", "words", "status", "text"),
    [
        ("no-nvidia", ["env"], 69, f"moderngl-colab env: error: {NO_GPU}"),
        ("no-nvidia", ["run", "--", "true"], 69, f"moderngl-colab run: error: {NO_GPU}"),
        (
            "colab",
            ["env", "--device", "1"],
            64,
            "moderngl-colab env: error: device=1: of NVIDIA GPUs there are 1, of index 0\n",
        ),
        (
            "colab",
            ["run", "--device", "-1", "--", "true"],
            64,
            "moderngl-colab run: error: device=-1: of NVIDIA GPUs there are 1, of index 0\n",
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
            "usage: moderngl-colab env [-h] [--device D] [--format {sh,json,docker}]\n"
            "moderngl-colab env: error: argument --device: invalid int value: 'one'\n",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    machine: str, words: list[str], status: int, text: str, command: Command
) -> None:
    assert result(command(machine, *words)) == (status, "", text)


# With a display of ours the program is a child of this one; without, it takes its place.
WAYS = {"on our display": {}, "in place": {"DISPLAY": ":99"}}


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
    assert result(done) == (73, "", unwritable(f"{tmp_path}/file", "File exists"))
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


def test_a_display_of_the_users_is_used(command: Command) -> None:
    done = command("colab", "run", "--", "sh", "-c", "echo $DISPLAY", env={"DISPLAY": ":99"})
    assert result(done) == (0, ":99\n", "")


def test_a_device_that_was_asked_for_is_not_lost_over_glx(command: Command) -> None:
    script = 'echo "$DISPLAY/$PYGLET_HEADLESS_DEVICE"'
    done = command("colab", "run", "--device", "0", "--", "sh", "-c", script)
    assert result(done) == (0, "/0\n", "")


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
    said = "Xvfb ended at once with status 3; it said: no fonts, no keyboard\n"
    assert result(done) == (status, "\n" if status == 0 else "", text + said)


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
while b"ready" not in text:
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
