"""``python -m moderngl_colab``: the doctor's command line, by real processes."""

from __future__ import annotations

import importlib.resources
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import PLATFORM, without_noise

from rig import machines

COMMAND = (sys.executable, "-P", "-W", "error", "-m", "moderngl_colab")
SCHEMA = json.loads(
    importlib.resources.files("moderngl_colab.diagnostics")
    .joinpath("report.schema.json")
    .read_text()
)
Doctor = Callable[..., machines.Finished]


@pytest.fixture(scope="module")
def doctor(python: Callable[..., machines.Finished]) -> Doctor:
    """Run a program, by default the command line, in a simulated machine.

    It depends on the fixture that says whether there can be any.
    """

    def run(
        machine: str,
        *arguments: str,
        command: Sequence[str] = COMMAND,
        env: dict[str, str] | None = None,
        uid: int | None = None,
    ) -> machines.Finished:
        what = machines.MACHINES[machine]
        result = machines.run(
            what, [*command, *arguments], env=PLATFORM | {"COLUMNS": "100"} | (env or {}), uid=uid
        )
        assert result.survivors == ()
        return result

    return run


def here(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line on the machine that the tests run on, for what asks no driver."""
    env = os.environ | {"COLUMNS": "100"} | settings.pop("env", {})
    run = [*COMMAND, *arguments]
    return subprocess.run(run, capture_output=True, text=True, check=False, env=env, **settings)


def shown(result: machines.Finished) -> str:
    """A report without what differs between runs, and between the machines that tests run on."""
    assert without_noise(result.stderr) == ""
    text = re.sub(r"\d+\.\d\d s", "SECONDS", result.stdout)
    text = re.sub(r"llvmpipe \(LLVM [^)]*\)", "llvmpipe", text)
    text = re.sub(r"\((Mesa[^)]*)\), OpenGL .*", "(Mesa), OpenGL VERSION", text)
    text = re.sub(r"(?m)^  (system|Python|packages) +.*\n", "", text)
    return re.sub(r"/\S*/(lib(EGL|GL)\.so\.1)\.\S+", r"\1", text)


def test_a_healthy_machine_has_a_gpu_and_no_findings(doctor: Doctor) -> None:
    result = doctor("package")

    assert (
        shown(result)
        == """\
GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation) by egl, proven by pixels

machine
  platform       kubernetes
  kernel module  550.54.15 (/proc/driver/nvidia/version)
  userland       550.54.15 in /lib/x86_64-linux-gnu: EGL and GLX, chosen
  NVML           550.54.15
  versions       agree: kernel module 550.54.15, userland 550.54.15, NVML 550.54.15
  GLX over Xvfb  known to work from 535 on, refused by 418; this is 550.54.15
  device nodes   /dev/nvidiactl, /dev/nvidia-modeset, /dev/nvidia0
  libEGL         libEGL.so.1
  libGL          libGL.so.1
  EGL vendors    /usr/share/glvnd/egl_vendor.d/10_nvidia.json: libEGL_nvidia.so.0, \
/lib/x86_64-linux-gnu/libEGL_nvidia.so.0
                 /usr/share/glvnd/egl_vendor.d/50_mesa.json: libEGL_mesa.so.0, \
/lib/x86_64-linux-gnu/libEGL_mesa.so.0
  Xvfb           /usr/bin/Xvfb
  variables      KUBERNETES_SERVICE_HOST=10.0.0.1

GPUs
  0  NVIDIA Stand-in GPU 0, 15.0 GiB, driver 550.54.15, MIG off, EGL device 0, cuda:0, \
pci:0000:00:04.0, GPU-<uuid>

strategies
  egl   GPU, pixels right, SECONDS: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation), \
OpenGL 3.3.0 NVIDIA 550.54.15
  glx   GPU, pixels right, SECONDS: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation), \
OpenGL 3.3.0 NVIDIA 550.54.15
  mesa  CPU, pixels right, SECONDS: llvmpipe (Mesa), OpenGL VERSION

findings
  none

GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation) by egl, proven by pixels
"""
    )
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("machine", "status", "verdict", "why"),
    [
        (
            "no-nvidia",
            1,
            "software only: llvmpipe, on the CPU",
            "cause: driver-absent: no NVIDIA GPU is given to this machine: there is no "
            "/dev/nvidiactl, and no kernel module is loaded",
        ),
        (
            "no-gl",
            2,
            "no OpenGL context can be made",
            "cause: dispatch-absent: the loader says: libEGL.so.1: cannot open shared object "
            "file: No such file or directory",
        ),
    ],
)
def test_the_cause_follows_the_verdict_and_the_status_says_it_too(
    doctor: Doctor, machine: str, status: int, verdict: str, why: str
) -> None:
    result = doctor(machine)
    lines = shown(result).splitlines()

    assert (lines[0], lines[1], lines[-1]) == (verdict, why, verdict)
    assert result.returncode == status


def test_a_driver_that_crashes_is_the_cause_although_another_way_serves(doctor: Doctor) -> None:
    result = doctor("package", env={"STANDIN_FAULT": "crash"})
    lines = shown(result).splitlines()

    verdict = "GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation) by glx, proven by pixels"
    assert (lines[0], lines[-1]) == (verdict, verdict)
    assert (
        lines[1] == "cause: driver-crash: egl: the process that tried it was ended by SIGSEGV (11)"
    )
    assert "  egl   failed: the process that tried it was ended by SIGSEGV (11)" in lines
    assert result.returncode == 0


def test_json_is_by_the_schema_and_tells_the_same(doctor: Doctor) -> None:
    result = doctor("package", "--json", "--strategy", "egl", "--strategy", "mesa")
    data = json.loads(result.stdout)

    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert (data["verdict"], data["exit_status"], result.returncode) == ("gpu", 0, 0)
    assert [attempt["strategy"] for attempt in data["attempts"]] == ["egl", "mesa"]
    assert data["findings"] == []
    assert data["driver"]["compatible"] is True


@pytest.mark.parametrize(
    ("machine", "verdict"),
    [
        ("package", "not tried: nothing seen keeps the GPU away"),
        ("compute-only", "not tried: 1 finding keeps the GPU away"),
    ],
)
def test_looking_only_renders_nothing_and_is_status_3(
    doctor: Doctor, machine: str, verdict: str
) -> None:
    result = doctor(machine, "--no-try")
    lines = result.stdout.splitlines()

    assert (lines[0], lines[-1]) == (verdict, verdict)
    assert "  none tried" in lines
    assert (result.returncode, result.stderr) == (3, "")


COMMANDS = ["doctor", "env", "run", "bench", "install-driver"]
USAGE = """\
usage: moderngl-colab doctor [-h] [--json] [--strategy NAME] [--save FILE.png] [--no-try] [--full]
                             [--timeout SECONDS]
moderngl-colab doctor: error: """


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jsn"], "unrecognized arguments: --jsn"),
        (["--js"], "unrecognized arguments: --js"),
        (["doctor", "now"], "unrecognized arguments: now"),
        (["--strategy", "vulkan"], "argument --strategy: 'vulkan' is none of egl, glx, mesa"),
        (["--strategy", ""], "argument --strategy: '' is none of egl, glx, mesa"),
        (["--strategy"], "argument --strategy: expected one argument"),
        *(
            (
                [f"--timeout={text}"],
                f"argument --timeout: {text!r} is no number of seconds above 0, and 86400 at most",
            )
            for text in ("soon", "0", "-1", "nan", "inf", "1e9", "")
        ),
        (
            ["--save", "picture.jpg"],
            "argument --save: 'picture.jpg' does not end in .png, and a PNG it would be",
        ),
        (
            ["--save", "a.png", "--no-try"],
            "argument --save: with --no-try nothing is rendered; leave out one",
        ),
        (
            ["--no-try", "--strategy", "egl"],
            "argument --strategy: with --no-try nothing is rendered; leave out one",
        ),
    ],
)
def test_wrong_usage_is_told_in_a_line_and_is_status_64(arguments: list[str], words: str) -> None:
    result = here(*arguments)

    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr == f"{USAGE}{words}\n"


@pytest.mark.parametrize("word", ["dokter", "", "Doctor", "commands"])
def test_an_unknown_command_is_told_with_those_that_are_possible(word: str) -> None:
    result = here(word)

    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr == (
        f"usage: moderngl-colab [{' | '.join(COMMANDS)}] ...\n"
        f"moderngl-colab: error: {word!r} is no command; possible: {', '.join(COMMANDS)}\n"
    )


def test_where_the_system_gives_contexts_itself_the_doctor_says_so() -> None:
    code = (
        "import sys; sys.platform = 'darwin'\n"
        "from moderngl_colab.__main__ import main; sys.exit(main([]))\n"
    )
    run = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[:2] == [
        "no OpenGL context can be made",
        "cause: not-linux: moderngl_colab serves Linux; on darwin the system itself gives GPU "
        "contexts",
    ]
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag: str) -> None:
    result = here(flag)

    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"(?m)^  (\S+) +\S", result.stdout) == COMMANDS
    assert here("doctor", flag).stdout.startswith("usage: moderngl-colab doctor")


def test_the_version_is_told_and_nothing_else_is_loaded() -> None:
    code = (
        "import sys; from moderngl_colab.__main__ import main; print(main(['--version']))\n"
        "print({'moderngl', 'pynvml', 'rich', 'scooby', 'json'} & set(sys.modules))\n"
        "print([name for name in sys.modules if name.startswith('moderngl_colab.')])\n"
    )
    run = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)

    assert done.stdout == (
        "moderngl_colab 0.1.0\n0\nset()\n['moderngl_colab.commands', 'moderngl_colab.__main__']\n"
    )


def test_the_doctor_itself_loads_neither_opengl_nor_what_only_some_have() -> None:
    code = (
        "import sys; from moderngl_colab.__main__ import main; print(main(['--no-try']))\n"
        "print({'moderngl', 'pynvml', 'rich', 'scooby', 'xvfbwrapper'} & set(sys.modules))\n"
    )
    run = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-2:] == ["3", "set()"]


def test_the_picture_is_saved(doctor: Doctor, tmp_path: Path) -> None:
    from PIL import Image

    target = tmp_path / "odd näme.png"
    target.write_text("what was there before")
    result = doctor("no-nvidia", "--strategy=mesa", "--save", str(target))

    assert (result.returncode, without_noise(result.stderr)) == (1, "")
    with Image.open(target) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (256, 256), "RGB")
        assert len(picture.getcolors(256 * 256) or ()) > 100
    assert os.listdir(tmp_path) == [target.name]
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    before = os.umask(0o022)
    os.umask(before)
    return before


def test_a_picture_that_cannot_be_saved_is_told_after_the_report(
    doctor: Doctor, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "full.png").symlink_to("/dev/full")
    (tmp_path / "file").touch()
    for name, words in {
        "none/a.png": "No such file or directory",
        "file/a.png": "Not a directory",
        "folder.png": "is there, and is no regular file",
        "full.png": "is there, and is no regular file",
        f"{'x' * 300}.png": "File name too long",
    }.items():
        path = f"{tmp_path}/{name}"
        result = doctor("no-nvidia", "--strategy=mesa", "--save", path)
        assert result.stdout.startswith("software only: llvmpipe")
        said = f"moderngl-colab doctor: error: --save {path}: {words}\n"
        assert (result.returncode, without_noise(result.stderr)) == (73, said)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png", "full.png"]


def test_a_folder_of_somebody_else_takes_no_picture(doctor: Doctor, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    path = tmp_path / "a.png"
    result = doctor("no-nvidia", "--strategy=mesa", "--save", str(path), uid=65534)

    said = f"moderngl-colab doctor: error: --save {path}: Permission denied\n"
    assert (result.returncode, without_noise(result.stderr)) == (73, said)
    assert os.listdir(tmp_path) == []


def test_where_nothing_is_rendered_there_is_no_picture(doctor: Doctor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    result = doctor("no-gl", "--save", str(path))

    assert result.stdout.startswith("no OpenGL context can be made\n")
    assert (result.returncode, result.stderr) == (
        73,
        f"moderngl-colab doctor: error: --save {path}: there is no picture, for nothing was "
        "rendered as it must be\n",
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments", ["--no-try", "--no-try --json", "--help", "doctor --help"])
@pytest.mark.parametrize(
    ("redirection", "status", "words"),
    [
        ("| true", 141, ""),
        (">/dev/full", 74, "moderngl-colab: error: stdout: No space left on device\n"),
        (">&-", None, ""),
    ],
)
def test_a_stdout_that_takes_nothing_is_no_traceback(
    arguments: str, redirection: str, status: int | None, words: str
) -> None:
    # The pipe's reader is gone before the first word.
    inner = f"{' '.join(COMMAND)} {arguments}"
    if redirection == "| true":
        inner = f"{{ sleep 0.3; {inner}; echo $? >&3; }} {redirection}"
    else:
        inner = f"{inner} {redirection}; echo $? >&3"
    shell = ["bash", "-c", f"exec 3>&1; {inner}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)

    assert done.stderr == words
    expected = status if status is not None else (0 if "help" in arguments else 3)
    assert done.stdout == f"{expected}\n"


INTERRUPT = """
import os, signal, subprocess, sys, time
from pathlib import Path

process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
while not children.read_text():
    time.sleep(0.02)
time.sleep(1)  # The driver hangs in that child.
process.send_signal(signal.SIGINT)
print(*process.communicate(), process.returncode)
"""


def test_an_interrupt_ends_it_quietly_and_leaves_nothing_running(doctor: Doctor) -> None:
    command = (sys.executable, "-P", "-c", INTERRUPT, *COMMAND)
    result = doctor("colab", command=command, env={"STANDIN_FAULT": "hang"})

    assert (result.stdout, result.stderr) == ("  130\n", "")


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    env = {"PYTHONIOENCODING": "ascii", "EGL_PLATFORM": "é\x1b[31m"}
    result = here("--no-try", env=env)

    assert (result.returncode, result.stderr) == (3, "")
    assert "EGL_PLATFORM=\\xe9\\x1b[31m" in result.stdout


def on_a_terminal(*arguments: str, **env: str) -> str:
    """What the command line writes to a terminal of its own, wide enough for every line."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env=os.environ | {"COLUMNS": "1000", "TERM": "xterm-256color"} | env,
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # EIO: the last of those who had the terminal open is gone.
        pass
    finally:
        os.close(ours)
        process.wait()
    return written.decode()


def test_on_a_terminal_rich_adds_colour_and_a_table_and_no_word() -> None:
    arguments = ("--strategy", "mesa")
    coloured = on_a_terminal(*arguments)
    plain = on_a_terminal(*arguments, NO_COLOR="1")

    assert "\x1b[1;33msoftware only: " in coloured
    assert "┌─" in coloured
    assert "\x1b" not in plain
    bare = re.sub(r"[┌─┬┐│└┴┘]", " ", re.sub(r"\x1b\[[0-9;]*m", "", coloured))
    without_seconds = [re.sub(r"\d\.\d\d s", "SECONDS", text) for text in (bare, plain)]
    assert without_seconds[0].split() == without_seconds[1].split()


def test_without_rich_a_terminal_gets_plain_text(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.machinery, sys\n"
        "class Without:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'rich':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without)\n"
    )
    text = on_a_terminal("--no-try", PYTHONPATH=str(tmp_path))

    assert "\x1b" not in text
    assert text.startswith("not tried: ")


def test_scooby_shows_the_report(doctor: Doctor) -> None:
    command = (sys.executable, "-P", "-m", "scooby", "-r", "moderngl_colab")
    scooby = doctor("no-gl", command=command)

    assert scooby.returncode == 0
    assert shown(scooby) == shown(doctor("no-gl"))


def test_diagnose_leaves_the_process_as_it_was(python: Callable[..., machines.Finished]) -> None:
    code = """
import os, threading
from pathlib import Path
import moderngl_colab

def state():
    return [dict(os.environ), sorted(os.listdir("/proc/self/fd")), threading.active_count(),
            Path(f"/proc/self/task/{os.getpid()}/children").read_text()]

moderngl_colab.Report  # loads it
before = state()
report = moderngl_colab.diagnose(strategies="egl,mesa")
assert state() == before
maps = Path("/proc/self/maps").read_text()
print(report.verdict, [trial.strategy for trial in report.attempts], "libEGL" in maps)
print(report.picture[:8])
"""
    result = python("colab", code)

    assert result.stdout == "gpu ['egl', 'mesa'] False\nb'\\x89PNG\\r\\n\\x1a\\n'\n"


def test_the_console_script_is_the_same() -> None:
    script = Path(sys.executable).parent / "moderngl-colab"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)

    assert done.stdout == here("--version").stdout
