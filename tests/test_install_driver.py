"""The command: what it says and asks, and that a machine without a GL half is on the GPU by it.

The server is NVIDIA's on loopback, and the archives are real ones of the stand-in driver; see
rig/archive.py.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from conftest import PROGRAMS, without_noise

from moderngl_colab.installer import place, store
from rig import archive, driver, machines

VERSION, MACHINE = driver.VERSION, archive.MACHINE
OTHER, THIRD = "535.104.05", "525.85.12"
LICENCE = "https://www.nvidia.com/en-us/drivers/nvidia-license/linux/"
ERROR = "moderngl-colab install-driver: error: "
COMMAND = [sys.executable, "-P", "-W", "error", "-m", "moderngl_colab", "install-driver"]
NVIDIA = ("--version", VERSION, "--from", "nvidia")


@pytest.fixture
def server() -> Iterator[archive.Server]:
    """NVIDIA's server, which has one version."""
    with archive.serve() as started:
        started.publish(archive.runfile())
        yield started


@pytest.fixture
def environ(server: archive.Server, folder: Path) -> dict[str, str]:
    """The environment of a user who installs."""
    proxies = re.compile("(?i)(https?|all|no)_proxy")
    own = {name: value for name, value in os.environ.items() if not proxies.fullmatch(name)}
    (folder / "data").mkdir()
    return own | {
        "MODERNGL_COLAB_DRIVER_URL": server.url,
        "XDG_DATA_HOME": str(folder / "data"),
        "TERM": "xterm",
        "COLUMNS": "50",
    }


def sized(steps: str) -> str:
    """The steps without the size of the compiled stand-in."""
    return re.sub(r"(?<=to fetch: )[\d.]+", "N", steps)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(environ: dict[str, str]) -> Command:
    """Run it in a log, as it were: its status, and what it wrote to stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*COMMAND, *arguments], env=environ, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, sized(done.stderr)

    return run


def driver_in(environ: dict[str, str], version: str = VERSION) -> Path:
    """Where a version is installed."""
    return Path(environ["XDG_DATA_HOME"], "moderngl_colab/driver", f"{version}-{MACHINE}")


STEPS = f"""\
asking nvidia
to fetch: N MB
NVIDIA-Linux-{MACHINE}-{VERSION}.run
checking its sha256
unpacking NVIDIA-Linux-{MACHINE}-{VERSION}.run
"""


def test_a_driver_is_installed_listed_and_removed(
    command: Command, environ: dict[str, str], server: archive.Server
) -> None:
    text = (
        f"{VERSION} for {MACHINE}: {driver_in(environ)} (0 MB, from {server.url}{archive.path()})\n"
    )

    assert command("--list") == (0, "nothing is installed\n", "")
    assert command(*NVIDIA, "--accept-license") == (0, f"installed: {text}", STEPS)
    assert command(*NVIDIA) == (0, f"already there: {text}", "")
    assert command("--list") == (0, text, "")
    assert command("--remove", VERSION) == (0, f"removed {text}", "")
    assert command("--list") == (0, "nothing is installed\n", "")
    assert os.listdir(driver_in(environ).parent) == []


def test_several_are_removed_whatever_became_of_them(
    command: Command, environ: dict[str, str]
) -> None:
    at, other, third = (driver_in(environ, version) for version in (VERSION, OTHER, THIRD))
    at.mkdir(parents=True)
    other.write_text("no folder")
    third.symlink_to("nowhere")
    said = {path: f"{path.name.replace('-', ' for ')}: {path} (damaged)\n" for path in (third, at)}

    assert command("--remove", THIRD, VERSION) == (
        0, f"removed {said[third]}removed {said[at]}", "",
    )  # fmt: skip
    assert command("--remove", OTHER, "1.2") == (
        69,
        f"removed {OTHER} for {MACHINE}: {other} (damaged)\n",
        f"{ERROR}'1.2' is not installed for {MACHINE}; what is: nothing\n",
    )
    assert os.listdir(at.parent) == []


def test_what_a_removed_drivers_installation_left_does_not_bring_it_back(
    command: Command, environ: dict[str, str]
) -> None:
    command(*NVIDIA, "--accept-license")
    at = driver_in(environ)
    scratch = at.parent / f".{at.name}.moderngl_colab"
    scratch.mkdir(mode=0o700)
    shutil.copytree(at, scratch / "old", symlinks=True)  # As of one that died between two renames.

    assert [line.rpartition(" ")[0] for line in command("--list")[1].splitlines()] == [
        f"{VERSION} for {MACHINE}: {at} (0 MB, from",
        f"{VERSION} for {MACHINE}: an installation that is not finished, 0 MB in",
    ]
    assert command("--remove", VERSION)[0] == 0
    assert command("--list") == (0, "nothing is installed\n", "")
    assert os.listdir(at.parent) == []


def test_what_a_broken_download_left_is_listed_and_removed(
    command: Command, environ: dict[str, str], server: archive.Server, folder: Path
) -> None:
    content = bytes(700_000)
    server.publish(content)
    server.on(".run", archive.truncate(200_000))
    at = driver_in(environ)
    scratch = at.parent / f".{at.name}.moderngl_colab"
    text = f"{VERSION} for {MACHINE}: an installation that is not finished, 1 MB in {scratch}\n"

    status, _, err = command(*NVIDIA, "--accept-license")

    assert (status, err.splitlines()[-2]) == (
        69,
        f"  1. nvidia: the connection broke after 600000 of {len(content)} bytes; what came is "
        f"kept in {scratch}, and the same command goes on there",
    )
    assert command("--list") == (0, text, "")
    assert command("--remove", VERSION) == (0, f"removed {text}", "")
    assert command("--list") == (0, "nothing is installed\n", "")
    assert os.listdir(at.parent) == []
    dest = folder / "own"
    assert (
        f"; what came is kept in {folder}/.own.moderngl_colab, and the same command goes on there\n"
        in command(*NVIDIA, "--accept-license", "--dest", str(dest))[2]
    )


@pytest.mark.parametrize("own", [True, False])
def test_an_interrupt_says_where_the_download_is_that_goes_on(
    environ: dict[str, str], server: archive.Server, folder: Path, own: bool
) -> None:
    server.publish(bytes(700_000))
    server.on(".run", archive.hang(server, after=200_000))
    at = folder / "own" if own else driver_in(environ)
    scratch = at.parent / f".{at.name}.moderngl_colab"
    process = subprocess.Popen(
        [*COMMAND, *NVIDIA, "--accept-license", *(("--dest", str(at)) if own else ())],
        env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not any(part.stat().st_size for part in scratch.glob("download.*.part")):
        assert time.monotonic() < until
        time.sleep(0.01)

    process.send_signal(signal.SIGINT)

    err = process.communicate(timeout=30)[1]
    assert (process.returncode, sized(err)) == (
        130,
        f"asking nvidia\nto fetch: N MB\nNVIDIA-Linux-{MACHINE}-{VERSION}.run\n"
        f"moderngl-colab install-driver: what came is kept in {scratch}, and the same command "
        "goes on there\n",
    )


def test_a_dry_run_says_what_each_source_has_and_fetches_nothing(
    command: Command, environ: dict[str, str], server: archive.Server
) -> None:
    environ["PATH"] = "/nowhere"
    url = f"{server.url}{archive.path()}"

    assert command("--dry-run", "--version", VERSION) == (
        0,
        f"apt     apt-get is not on the PATH\nnvidia  {url} (0 MB to fetch)\n",
        "",
    )
    assert f"GET {archive.path()}" not in server.asked
    assert not driver_in(environ).parent.exists()


def test_a_folder_of_the_users_choice_is_named_as_a_shell_takes_it(
    command: Command, environ: dict[str, str], folder: Path, server: archive.Server
) -> None:
    dest = folder / "a b's"

    status, out, _ = command(*NVIDIA, "--accept-license", "--dest", str(dest))

    installed, use = out.splitlines()
    assert (status, installed) == (
        0,
        f"installed: {VERSION} for {MACHINE}: {dest} (0 MB, from {server.url}{archive.path()})",
    )
    line = f'{use.removeprefix("to use it: ")}; echo "$MODERNGL_COLAB_DRIVER_DIR"'
    assert subprocess.check_output(["sh", "-c", line], text=True) == f"{dest}\n"
    assert command(*NVIDIA, "--dest", "") == (69, "", f"{ERROR}'' is no folder to install to\n")
    assert not driver_in(environ).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--list", "--dest", "x"), "argument --list: it takes no other flag beside it"),
        (
            ("--remove", VERSION, "--accept-license"),
            "argument --remove: it takes no other flag beside it",
        ),
        (("--list", "--dry-run"), "argument --dry-run: not allowed with argument --list"),
        (("--remove",), "argument --remove: expected at least one argument"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    command: Command, arguments: tuple[str, ...], why: str
) -> None:
    status, out, err = command(*arguments)

    assert (status, out, err.splitlines()[-1]) == (64, "", f"{ERROR}{why}")


# ---- the question --------------------------------------------------------------------------------


def test_where_nobody_sits_the_licence_is_not_accepted(
    command: Command, environ: dict[str, str], server: archive.Server
) -> None:
    status, out, err = command(*NVIDIA)

    assert (status, out) == (69, "")
    assert err.splitlines()[2] == (
        f"  1. nvidia: {server.url}{archive.path()} is there, but NVIDIA's licence was not "
        f"accepted ({LICENCE}): pass accept_license=True (--accept-license)"
    )
    assert os.listdir(driver_in(environ).parent) == []


class Terminal:
    """A command at a terminal."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *NVIDIA], env=environ, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        with self.process:
            self.process.kill()

    def read(self, until: str = "", quiet: float = 30.0) -> str:
        """What it shows until then, or until it is quiet for so many seconds, or ends."""
        shown = b""
        while select.select([self._ours], [], [], quiet)[0]:
            try:
                shown += os.read(self._ours, 10_000)
            except OSError:  # It ended.
                break
            if until and shown.decode().endswith(until):
                break
        return shown.decode()

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{text}\n".encode())


def plain(text: str) -> str:
    """What is on a terminal, without its colours and its cursor's ways."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r\n", "\n")


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize(("answer", "status"), [("Yes", 0), ("", 69), ("\x04", 69)])
def test_at_a_terminal_the_licence_is_asked_for_and_nothing_moves_meanwhile(
    environ: dict[str, str], server: archive.Server, rich: bool, answer: str, status: int
) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        folder = Path(environ["XDG_DATA_HOME"]).parent
        (folder / "rich.py").write_text("raise ImportError('it is not here')\n")
        environ["PYTHONPATH"] = str(folder)
    url = f"{server.url}{archive.path()}"
    question = (
        f"{url} (0 MB to fetch) is NVIDIA's, under its licence: {LICENCE}\n"
        "Do you accept it, and is it to be fetched? [y/N] "
    )

    with Terminal(environ) as terminal:
        asked = terminal.read(until="[y/N] ")
        assert plain(asked).endswith(question)
        assert terminal.read(quiet=0.5) == ""
        assert f"GET {archive.path()}" not in server.asked
        terminal.type(answer)
        after = plain(terminal.read())
        out = terminal.process.communicate(timeout=30)[0]

        assert terminal.process.returncode == status
    if status == 0:
        assert out.startswith(f"installed: {VERSION} for {MACHINE}: {driver_in(environ)} ")
        assert ("unpacking" in after) or rich
        assert driver_in(environ).is_dir()
    else:
        assert out == ""
        assert "NVIDIA's licence was not accepted" in after
        assert os.listdir(driver_in(environ).parent) == []


def test_in_a_log_it_says_whom_it_waits_for(environ: dict[str, str]) -> None:
    at = place.of_store(driver_in(environ).name, environ)
    with store.held(at):
        process = subprocess.Popen(
            [*COMMAND, *NVIDIA, "--accept-license"], env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        first = process.stderr.readline()
        time.sleep(0.5)  # It is said once.

    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert first == f"waiting for process {os.getpid()}, which is at work on {at.name}\n"
    assert sized(rest) == STEPS


def test_a_version_that_is_not_the_kernel_modules_is_named_before_it_is_fetched(
    python: Callable[..., machines.Finished], environ: dict[str, str], server: archive.Server
) -> None:
    server.publish(archive.runfile(OTHER), archive.path(OTHER))
    names = ("XDG_DATA_HOME", "MODERNGL_COLAB_DRIVER_URL")
    env = {name: environ[name] for name in names}
    code = "import sys\nfrom moderngl_colab.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    words = ("install-driver", "--accept-license", "--from", "nvidia", "--version")

    other = python("compute-only", code, *words, OTHER, env=env, check=False)
    same = python("compute-only", code, *words, VERSION, env=env, check=False)

    note = (
        f"moderngl-colab install-driver: {OTHER} is not the kernel module's version ({VERSION}): "
        f"it will not be used until a module of {OTHER} runs\n"
    )
    steps = STEPS.replace(VERSION, OTHER)
    assert sized(without_noise(other.stderr)) == f"{note}{steps}"
    assert other.stdout.startswith(f"installed: {OTHER} for {MACHINE}: ")
    assert sized(without_noise(same.stderr)) == STEPS


def test_where_the_modules_version_is_hidden_the_last_one_that_was_asked_for_is_taken(
    python: Callable[..., machines.Finished], environ: dict[str, str], server: archive.Server
) -> None:
    server.publish(archive.runfile(OTHER), archive.path(OTHER))
    machine = replace(machines.MACHINES["compute-only"], kernel="")
    code = """
import sys, time
from moderngl_colab import _driver, install_driver
for version in sys.argv[1:]:
    done = install_driver(version, "nvidia", accept_license=True)
    print(done.fetched, _driver.find().version)
    time.sleep(0.05)  # A file system's clock is a coarse one.
"""
    names = ("XDG_DATA_HOME", "MODERNGL_COLAB_DRIVER_URL")
    env = {name: environ[name] for name in names}

    done = python(machine, code, OTHER, VERSION, OTHER, env=env)

    assert done.stdout == f"True {OTHER}\nTrue {VERSION}\nFalse {OTHER}\n"


# ---- from nothing to the GPU ---------------------------------------------------------------------

FROM_NOTHING = """
import json, os, subprocess, sys

def system():
    "What is in the system's folders, without xkb: X servers of other tests come and go there."
    found = {}
    for top in ("/etc", "/usr/lib", "/usr/share/glvnd", "/var/lib", "/var/cache", "/run"):
        for at, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name != "xkb"]
            for name in folders + files:
                status = os.lstat(os.path.join(at, name))
                found[at, name] = status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns
    return found

def run(*command):
    command = [sys.executable, "-P", "-W", "error", "-B", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return done.stdout if done.returncode == 0 else f"status {done.returncode}"

def context(**call):
    return json.loads(run(sys.argv[1], json.dumps({"state": "clean", "call": call})))

told = {"before": context()}
before = system()
told["said"] = run("-m", "moderngl_colab", "install-driver", "--accept-license")
after = system()
told["changed"] = [key for key in before | after if before.get(key) != after.get(key)]
told |= {"after": context(), "over_glx": context(strategies=["glx"]), "user": os.getuid()}
print(json.dumps(told))
"""


@pytest.mark.parametrize("uid", [None, 65534])
def test_a_machine_without_a_gl_half_is_on_the_gpu_by_the_command(
    python: Callable[..., machines.Finished], environ: dict[str, str], uid: int | None
) -> None:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    home = environ["XDG_DATA_HOME"]
    if uid is not None:
        os.chown(home, uid, uid)
    # NVIDIA's archive is the first that has it.
    bare = machines.MACHINES["compute-only"]
    machine = replace(bare, removed=(*bare.removed, "/etc/apt/sources.list*"))
    names = ("XDG_DATA_HOME", "MODERNGL_COLAB_DRIVER_URL")
    env = {name: environ[name] for name in names} | {"STANDIN_MESA": str(driver.cached())}

    done = python(
        machine, FROM_NOTHING, str(PROGRAMS / "chain.py"), home, env=env, uid=uid, timeout=120,
        check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)

    assert (sized(without_noise(done.stderr)), done.survivors) == (
        f"asking apt\nasking nvidia\n{STEPS.partition(chr(10))[2]}", (),
    )  # fmt: skip
    assert report["user"] == (os.geteuid() if uid is None else uid)
    assert report["said"].startswith(f"installed: {VERSION} for {MACHINE}: {driver_in(environ)} ")
    assert report["changed"] == []
    assert "Mesa" in report["before"]["vendor"]
    for name, strategy in (("after", "egl"), ("over_glx", "glx")):
        context = report[name]
        assert (context["vendor"], context["strategy"]) == ("NVIDIA Corporation", strategy)
        assert context["pixel"] == "ff0000"


DAMAGED = """
import glob, os, shlex, subprocess, sys

def run(words):
    done = subprocess.run([sys.executable, "-P", *words], stdout=subprocess.PIPE, text=True)
    return done.stdout

install = ["-m", "moderngl_colab", "install-driver", "--from", "nvidia", "--accept-license"]
assert run(install).startswith("installed")
(path,) = glob.glob(f"{sys.argv[1]}/moderngl_colab/driver/*/libEGL_nvidia.so.*.*")
with open(path, "r+b") as stream:  # As long as before, and by its first bytes what it was.
    stream.seek(64)
    stream.write(bytes(2000))
lines = run(["-m", "moderngl_colab"]).splitlines()
cure = next(line for line in lines if "fix: " in line).partition("fix: ")[2]
print(lines[1], cure, sep="\\n")
python, *words = shlex.split(cure)
print(run([*words, "--from", "nvidia", "--accept-license"]).partition(":")[0])
print(run(["-m", "moderngl_colab"]).splitlines()[0])
"""


def test_what_was_damaged_is_named_by_the_doctor_with_the_cure_that_mends_it(
    python: Callable[..., machines.Finished], environ: dict[str, str]
) -> None:
    names = ("XDG_DATA_HOME", "MODERNGL_COLAB_DRIVER_URL")
    env = {name: environ[name] for name in names} | {"VAST_CONTAINERLABEL": "C.1"}
    env["STANDIN_MESA"] = str(driver.cached())

    done = python("compute-only", DAMAGED, env["XDG_DATA_HOME"], env=env, timeout=120, check=False)

    library = f"{driver_in(environ)}/libEGL_nvidia.so.{VERSION}"
    assert done.stdout.splitlines() == [
        f"warning: userland-partial: the loader says: {library}: object file has no loadable "
        "segments",
        "python -m moderngl_colab install-driver",
        "installed",
        "GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation) by egl, proven by pixels",
    ]
