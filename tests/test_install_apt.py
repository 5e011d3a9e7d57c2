"""The driver from apt: exactly the version that is wanted, with the system left as it was."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS

from rig import driver, machines, repository, writes
from rig.repository import Package

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("apt-get", "apt-cache", "dpkg-deb")),
    reason="this is no system of Debian's kind",
)

VERSION = driver.VERSION
UBUNTU = repository.ubuntu(VERSION)
UNCHANGED: dict[str, Any] = {"left": [], "changed": []}
ORDINARY = 12345
HALF = sorted(f"{name}.so.{VERSION}" for name in repository.HALF)
USERS = [
    None,
    pytest.param(ORDINARY, marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root")),
]


def system(sources: str, *items: machines.Item) -> machines.Machine:
    """A compute-only machine whose apt knows these sources and no others."""
    return dataclasses.replace(
        machines.MACHINES["compute-only"],
        items=(machines.Item("/etc/apt/sources.list", sources), *items),
        removed=("/etc/apt/sources.list.d/*",),
    )


@pytest.fixture
def archive(folder: Path) -> Callable[..., str]:
    """Make an archive of packages; its line for sources.list."""
    return lambda *packages: repository.make(folder / "archive", packages)


@pytest.fixture
def ask(python: Callable[..., machines.Finished], folder: Path) -> Callable[..., dict[str, Any]]:
    """Ask apt for a driver on a machine with these sources."""

    def run(
        sources: str | machines.Machine, *, uid: int | None = None, env: Any = None, **job: Any
    ) -> dict[str, Any]:
        machine = system(sources) if isinstance(sources, str) else sources
        # The folder is named, so that it is open to the other user.
        arguments = json.dumps({"version": VERSION} | job), str(folder)
        done = python(machine, PROGRAMS / "install_apt.py", *arguments, uid=uid, env=env)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


Ask = Callable[..., dict[str, Any]]
Archive = Callable[..., str]


# ---- what is offered -----------------------------------------------------------------------------


@pytest.mark.parametrize("uid", USERS)
def test_the_exact_version_is_fetched_and_the_system_is_as_it_was(
    ask: Ask, archive: Archive, folder: Path, uid: int | None
) -> None:
    answer = ask(archive(UBUNTU, repository.ubuntu("550.54.14")), uid=uid, watch=True)

    size = (folder / "archive" / UBUNTU.file).stat().st_size
    assert answer == UNCHANGED | {
        "source": "apt",
        "what": "libnvidia-gl-550=550.54.15-0ubuntu1",
        "nvidias": False,
        "download": size,
        "progress": ["downloading", size, size],
        "files": HALF,
    }


def test_root_writes_into_folders_of_its_own_alone(
    python: Callable[..., machines.Finished], archive: Archive, folder: Path
) -> None:
    log, own = folder / "log", folder / "own"
    own.mkdir()
    program = [sys.executable, "-P", "-B", str(PROGRAMS / "install_apt.py")]
    command = writes.traced(log, [*program, json.dumps({"version": VERSION})])
    start = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"

    python(system(archive(UBUNTU)), start, *command, env={"TMPDIR": str(own)}, timeout=180)

    written = writes.written(log)
    assert written != set()
    assert [path for path in written if not path.startswith(f"{own}/")] == []


def test_debians_packages_come_with_what_they_depend_on(ask: Ask, archive: Archive) -> None:
    older, newer = repository.debian(VERSION, "1"), repository.debian(VERSION, "2")

    answer = ask(archive(*older, *newer))

    assert sorted(answer["what"].split()) == [
        "libegl-nvidia0=550.54.15-2",
        "libglx-nvidia0=550.54.15-2",
        "libnvidia-eglcore=550.54.15-2",
        "libnvidia-glcore=550.54.15-2",
        "libnvidia-gpucomp=550.54.15-2",
    ]
    assert answer["files"] == HALF


def test_where_the_compiler_has_a_package_of_its_own_it_comes_too(
    ask: Ask, archive: Archive
) -> None:
    gpucomp = Package("libnvidia-gpucomp-550", UBUNTU.version, frozenset({"libnvidia-gpucomp"}))
    rest = dataclasses.replace(
        UBUNTU,
        libraries=UBUNTU.libraries - gpucomp.libraries,
        depends=f"{UBUNTU.depends}, libnvidia-gpucomp-550 (= {UBUNTU.version})",
    )

    answer = ask(archive(rest, gpucomp))

    assert answer["what"] == f"libnvidia-gl-550={rest.version} {gpucomp.name}={rest.version}"
    assert answer["files"] == HALF


def test_a_server_package_serves_where_the_other_is_a_stub(ask: Ask, archive: Archive) -> None:
    stub = Package("libnvidia-gl-550", UBUNTU.version, depends="libnvidia-gl-580")
    server = repository.ubuntu(VERSION, "-server", "0ubuntu0.22.04.1")

    answer = ask(archive(stub, server))

    assert answer["what"] == "libnvidia-gl-550-server=550.54.15-0ubuntu0.22.04.1"
    assert answer["files"] == HALF


def test_packages_for_another_machine_are_its_own(ask: Ask, archive: Archive) -> None:
    there = {"x86_64": ("amd64", "0intel1"), "aarch64": ("arm64", "0arm1")}
    sources = archive(
        *(
            dataclasses.replace(UBUNTU, version=f"{VERSION}-{revision}", architecture=architecture)
            for architecture, revision in there.values()
        )
    )

    for machine, (_, revision) in there.items():
        answer = ask(sources, fetch=False, machine=machine)
        assert answer["what"] == f"libnvidia-gl-550={VERSION}-{revision}"


def test_the_users_own_settings_of_apt_are_respected(
    ask: Ask, archive: Archive, folder: Path
) -> None:
    (folder / "sources.list").write_text(archive(UBUNTU))
    (folder / "apt.conf").write_text(f'Dir::Etc::sourcelist "{folder}/sources.list";\n')

    answer = ask("", env={"APT_CONFIG": str(folder / "apt.conf")}, fetch=False)

    assert answer["what"] == "libnvidia-gl-550=550.54.15-0ubuntu1"


def test_hooks_of_the_systems_apt_are_not_run(ask: Ask, archive: Archive, folder: Path) -> None:
    hook = f"touch {folder}/hook-was-run"
    kinds = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
    hooks = "".join(f'APT::Update::{kind} {{ "{hook}"; }};\n' for kind in kinds)

    answer = ask(system(archive(UBUNTU), machines.Item("/etc/apt/apt.conf.d/99hooks", hooks)))

    assert answer["files"] == HALF
    assert not (folder / "hook-was-run").exists()


INSTALLED = """
import os, shutil, sys, tempfile
import moderngl_colab
from moderngl_colab.installer.install import install_driver

with tempfile.TemporaryDirectory() as home:
    os.environ["XDG_DATA_HOME"] = home
    installed = install_driver(source="apt")
    shutil.copytree(sys.argv[1], installed.folder, dirs_exist_ok=True)
    ctx = moderngl_colab.get_gpu_context()
    framebuffer = ctx.simple_framebuffer((4, 4))
    framebuffer.use()
    ctx.clear(1, 0, 0)
    info = moderngl_colab.describe(ctx)
    print(installed.version, info.strategy, ctx.info["GL_VENDOR"], framebuffer.read()[:3].hex())
    ctx.release()
"""


@pytest.mark.parametrize("uid", USERS)
def test_what_is_installed_so_is_on_the_gpu(
    python: Callable[..., machines.Finished], archive: Archive, folder: Path, uid: int | None
) -> None:
    stub = Package("libnvidia-gl-550-server", "580.178.04-0ubuntu1")
    machine = system(archive(stub, UBUNTU))
    # The stand-in renders by a copy of Mesa's beside it, which is no part of NVIDIA's driver.
    (folder / "mesa").mkdir()
    for path in driver.files(only=repository.HALF):
        if "_nvms." in path.name:
            shutil.copy(path, folder / "mesa")

    done = python(machine, INSTALLED, str(folder / "mesa"), uid=uid, timeout=120)

    assert done.stdout == f"{VERSION} egl NVIDIA Corporation ff0000\n"


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "a stub of another version": (
        (Package("libnvidia-gl-550", "580.178.04-0ubuntu0.22.04.1"),),
        "apt has no package of 550.54.15; it has libnvidia-gl-550=580.178.04-0ubuntu0.22.04.1 "
        "(a stub that brings 580.178.04)",
    ),
    "a stub of the same version": (
        (Package("libnvidia-gl-550", UBUNTU.version, depends="libnvidia-gl-580"),),
        "apt has no package of 550.54.15; it has libnvidia-gl-550=550.54.15-0ubuntu1 "
        "(a stub in place of libnvidia-gl-580)",
    ),
    "other versions": (
        tuple(
            Package("libnvidia-gl-550", f"550.{minor}-0ubuntu1")
            for minor in ("54.1", "54", "54.150", "163.01")
        ),
        "apt has no package of 550.54.15; it has libnvidia-gl-550=550.163.01-0ubuntu1",
    ),
    "half of it": (
        (Package("libegl-nvidia0", "550.54.15-1"), Package("libglx-nvidia0", "535.261.03-1")),
        "apt has no package of 550.54.15; it has libegl-nvidia0=550.54.15-1, "
        "libglx-nvidia0=535.261.03-1",
    ),
    "nothing": (
        (Package("libnvidia-cfg1-550", UBUNTU.version),),
        "no archive that apt knows has a package like libnvidia-gl-550",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_that_version_is_refused(ask: Ask, archive: Archive, case: str) -> None:
    packages, reason = REFUSED[case]

    assert ask(archive(*packages)) == UNCHANGED | {"not offered": reason}


def test_a_package_of_that_version_without_libraries_is_named(ask: Ask, archive: Archive) -> None:
    answer = ask(archive(Package("libnvidia-gl-550", UBUNTU.version)))

    assert answer == UNCHANGED | {
        "not fetched": "libnvidia-gl-550=550.54.15-0ubuntu1: there is no library of the driver in "
        "it"
    }


def test_a_package_that_was_changed_is_refused(ask: Ask, archive: Archive, folder: Path) -> None:
    sources = archive(UBUNTU)
    path = folder / "archive" / UBUNTU.file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    answer = ask(sources)

    assert answer["not fetched"].startswith("apt-get download: Failed to fetch ")
    assert "Hash Sum mismatch" in answer["not fetched"]
    assert answer["left"] == []


def test_an_archive_without_a_signature_is_not_trusted(ask: Ask, archive: Archive) -> None:
    sources = archive(UBUNTU).replace("[trusted=yes] ", "")
    (where,) = sources.split()[1:2]

    reason = f"apt-get update: The repository '{where} ./ Release' is not signed."
    assert ask(sources) == UNCHANGED | {"not offered": reason}


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ("", "apt has no sources of packages"),
        (
            "nonsense\n",
            "apt-get update: Malformed line 1 in source list /etc/apt/sources.list (type)",
        ),
        (
            "deb [trusted=yes] file:/nowhere ./\n",
            "apt-get update: Failed to fetch file:/nowhere/./Packages File not found - "
            "/nowhere/./Packages (2: No such file or directory)",
        ),
    ],
)
def test_where_apt_knows_no_archive_it_says_why(ask: Ask, sources: str, reason: str) -> None:
    assert ask(sources) == UNCHANGED | {"not offered": reason}


def test_other_systems_have_no_apt(ask: Ask, folder: Path) -> None:
    nothing = {"PATH": str(folder)}
    assert ask("", env=nothing) == UNCHANGED | {"not offered": "apt-get is not on the PATH"}

    answer = ask("", machine="riscv64")
    assert answer["not offered"] == "NVIDIA's driver has no packages for riscv64"


# ---- archives in trouble -------------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[str]:
    """An archive whose server takes every request and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"deb [trusted=yes] http://127.0.0.1:{server.getsockname()[1]} ./\n"


@contextmanager
def served(folder: Path, wrong: Sequence[str] = (), slow: float = 0) -> Iterator[str]:
    """An archive by HTTP.

    Of files whose names end as one of `wrong` it sends half, and then no more; after each eighth of
    a package it waits for so many seconds.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def copyfile(self, source: Any, output: Any) -> None:
            content = source.read()
            if self.path.endswith(tuple(wrong)):
                content = content[: len(content) // 2]
            size = -(-len(content) // 8)
            for at in range(0, len(content), size):
                output.write(content[at : at + size])
                time.sleep(slow if self.path.endswith(".deb") else 0)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"deb [trusted=yes] http://127.0.0.1:{server.server_port} ./\n"
        finally:
            server.shutdown()
            thread.join()


def test_an_archive_that_is_broken_does_not_keep_another_from_serving(
    ask: Ask, archive: Archive
) -> None:
    with silent() as hanging:
        broken = "deb [trusted=yes] file:/nowhere ./\ndeb file:/nowhere/else ./\n"
        answer = ask(f"{broken}{hanging}{archive(UBUNTU)}", patience=8)

    assert answer["files"] == HALF


def test_a_server_that_says_nothing_is_not_waited_for(ask: Ask) -> None:
    with silent() as sources:
        answer = ask(sources, patience=1)

    assert answer == UNCHANGED | {"not offered": "apt-get update did not end within 1 s"}


def test_an_archive_by_http_serves(ask: Ask, archive: Archive, folder: Path) -> None:
    archive(UBUNTU)
    with served(folder / "archive") as sources:
        assert ask(sources)["files"] == HALF


def test_half_a_package_is_none(ask: Ask, archive: Archive, folder: Path) -> None:
    archive(UBUNTU)
    with served(folder / "archive", wrong=[".deb"]) as sources:
        answer = ask(sources)

    assert answer["not fetched"].startswith("apt-get download: Failed to fetch http://127.0.0.1:")
    assert answer["left"] == []


# ---- apt in trouble ------------------------------------------------------------------------------


@pytest.fixture
def instead(folder: Path) -> Callable[..., dict[str, str]]:
    """A PATH on which a tool of apt's does something else for one of its commands."""

    def put(tool: str, command: str, script: str) -> dict[str, str]:
        path = folder / "bin" / tool
        path.parent.mkdir()
        path.write_text(
            f'#!/bin/sh\nfor each in "$@"; do\n[ "$each" = {command} ] && {{ {script}; }}\ndone\n'
            f'exec {shutil.which(tool)} "$@"\n'
        )
        path.chmod(0o755)
        return {"PATH": f"{path.parent}:{os.environ['PATH']}"}

    return put


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (("apt-get", "update", "exit 1"), "apt-get update: it ended with status 1"),
        (("apt-get", "update", "kill -9 $$"), "apt-get update: it ended with status -9"),
        (("apt-cache", "show", "exit 1"), "apt-cache show: it ended with status 1"),
        (
            ("apt-cache", "show", "echo E: The cache is broken >&2; exit 100"),
            "apt-cache show: The cache is broken",
        ),
    ],
)
def test_a_tool_that_fails_is_named_with_what_it_says(
    ask: Ask,
    archive: Archive,
    instead: Callable[..., dict[str, str]],
    failing: Sequence[str],
    reason: str,
) -> None:
    answer = ask(archive(UBUNTU), env=instead(*failing))

    assert answer == UNCHANGED | {"not offered": reason}


def test_a_download_of_which_nothing_comes_is_not_waited_for(
    ask: Ask, archive: Archive, instead: Callable[..., dict[str, str]]
) -> None:
    answer = ask(archive(UBUNTU), env=instead("apt-get", "download", "exec sleep 100"), patience=5)

    assert answer == UNCHANGED | {"not fetched": "apt-get download: nothing came for 5 s"}


def test_a_download_of_which_something_comes_is_waited_for(
    ask: Ask, archive: Archive, folder: Path
) -> None:
    archive(UBUNTU)
    with served(folder / "archive", slow=0.9) as sources:
        answer = ask(sources, patience=5)  # It takes longer than that.

    assert answer["files"] == HALF


def test_the_temporary_folder_may_be_called_almost_anything(
    python: Callable[..., machines.Finished], archive: Archive, tmp_path: Path
) -> None:
    own = tmp_path / "it's a;{b}#c é"
    own.mkdir()

    done = python(system(archive(UBUNTU)), OFFERED, env={"TMPDIR": str(own)})

    assert done.stdout == "1\n1\n"


UNNAMED = """
import json, os, sys, tempfile
from moderngl_colab.installer.apt import Apt
from moderngl_colab.installer.source import NotOffered, Wanted

said = []
for tempfile.tempdir in sys.argv[1:]:
    try:
        Apt().offer(Wanted("550.54.15", os.uname().machine))
    except NotOffered as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_a_temporary_folder_that_apt_cannot_name_is_refused(
    python: Callable[..., machines.Finished], archive: Archive, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ('a"b', "a\nb", "a%41b", "a\\b")]
    for folder in folders:
        folder.mkdir()

    done = python(system(archive(UBUNTU)), UNNAMED, *map(str, folders))

    assert json.loads(done.stdout) == [
        f"apt cannot be asked: the path of a folder in {str(folder)!r} cannot be written in its "
        "settings: set TMPDIR to another one"
        for folder in folders
    ]
    assert [list(folder.iterdir()) for folder in folders] == [[]] * 4


# ---- the end, at any moment ----------------------------------------------------------------------

INTERRUPTED = """
import json, os, signal, sys, tempfile, threading, time
from pathlib import Path
from moderngl_colab.installer.apt import Apt
from moderngl_colab.installer.source import Wanted

def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

def end():
    while not children():
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(os.getpid(), int(sys.argv[1]))

threading.Thread(target=end, daemon=True).start()
try:
    Apt().offer(Wanted("550.54.15", os.uname().machine))
except KeyboardInterrupt:
    print(json.dumps([os.listdir(tempfile.gettempdir()), children()]))
"""


def test_an_interrupt_ends_apt_and_leaves_nothing(
    python: Callable[..., machines.Finished], tmp_path: Path
) -> None:
    with silent() as sources:
        done = python(system(sources), INTERRUPTED, "2", env={"TMPDIR": str(tmp_path)})

    assert json.loads(done.stdout) == [[], []]


def test_apt_ends_with_a_process_that_is_killed(
    python: Callable[..., machines.Finished], tmp_path: Path
) -> None:
    with silent() as sources:
        environ = {"TMPDIR": str(tmp_path)}
        done = python(system(sources), INTERRUPTED, "9", env=environ, check=False)

    assert (done.returncode, done.survivors) == (-9, ())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_process_that_was_killed_left_is_removed_by_the_next_one_and_nothing_else(
    python: Callable[..., machines.Finished],
    archive: Archive,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    environ = {"TMPDIR": str(tmp_path)}
    with silent() as sources:
        python(system(sources), INTERRUPTED, str(int(number)), env=environ, check=False)
    (left,) = os.listdir(tmp_path)
    (tmp_path / "moderngl_colab-other").mkdir()

    with ThreadPoolExecutor() as pool:  # None takes another one's that is at work.
        machine = system(archive(UBUNTU))
        runs = [pool.submit(python, machine, OFFERED_ALONE, env=environ) for _ in range(3)]
        done = [run.result().stdout for run in runs]

    assert left.startswith("moderngl_colab-apt-")
    assert done == ["libnvidia-gl-550=550.54.15-0ubuntu1\n"] * 3
    assert sorted(os.listdir(tmp_path)) == ["archive", "moderngl_colab-other"]


OFFERED_ALONE = """
import os
from moderngl_colab.installer.apt import Apt
from moderngl_colab.installer.source import Wanted

print(Apt().offer(Wanted("550.54.15", os.uname().machine)).what)
"""

OFFERED = """
import os, sys, tempfile
from moderngl_colab.installer.apt import Apt
from moderngl_colab.installer.source import Wanted

offer = Apt().offer(Wanted("550.54.15", os.uname().machine))
print(len(os.listdir(tempfile.gettempdir())), flush=True)
if (pid := os.fork()) == 0:
    sys.exit()
os.waitpid(pid, 0)
print(len(os.listdir(tempfile.gettempdir())), flush=True)
if len(sys.argv) > 1:
    del offer
    print(os.listdir(tempfile.gettempdir()))
"""


@pytest.mark.parametrize("arguments", [(), ("drop",)])
def test_an_offer_that_nobody_takes_is_gone_with_its_process_at_the_latest(
    python: Callable[..., machines.Finished],
    archive: Archive,
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    own = tmp_path / "own"
    own.mkdir()

    done = python(system(archive(UBUNTU)), OFFERED, *arguments, env={"TMPDIR": str(own)})

    assert done.stdout == "1\n1\n" + ("[]\n" if arguments else "")
    assert list(own.iterdir()) == []
