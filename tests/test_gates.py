"""What this library never does: told from its source, by traps on its way, and by those who keep
lists of what is vulnerable."""

from __future__ import annotations

import ast
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from conftest import without_noise

from rig import machines

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "moderngl_colab"
SOURCES = {str(p.relative_to(PACKAGE)): p.read_text() for p in sorted(PACKAGE.rglob("*.py"))}

# ---- the source ----------------------------------------------------------------------------------

# What any module may import, beside this library: none of them starts a program, speaks to another
# machine, or makes code of data.
_HARMLESS = frozenset(
    {
        "__future__",
        "argparse",
        "array",
        "atexit",
        "bz2",
        "base64",
        "collections",
        "contextlib",
        "ctypes",
        "enum",
    }
    | {"gzip", "ipaddress", "lzma", "posixpath", "tarfile"}
    | {"errno", "fcntl", "functools", "glob", "grp", "hashlib", "html", "importlib", "io"}
    | {"itertools", "json", "math", "operator", "os", "pathlib", "platform", "pwd", "random", "re"}
    | {"resource", "secrets", "select", "shlex", "shutil", "signal", "stat", "statistics", "struct"}
    | {"sys"}
    | {"textwrap", "threading", "time", "types", "typing", "warnings", "weakref", "zlib"}
    | {"glcontext", "moderngl", "moderngl_colab", "pynvml", "rich"}
)
# What only some may, and why.
_GUARDED = {
    "_typeshed": {"installer/connection.py": "for the type checker alone"},
    "socket": {
        "installer/connection.py": "the type of a connection",
        "_x11.py": "X servers' sockets, all of this machine",
        "_xvfb.py": "the type of the connection to its own server",
        "diagnostics/private.py": "the host's name, to leave it out",
    },
    "subprocess": {
        "_children.py": "waits for a process",
        "_film.py": "starts imageio-ffmpeg's ffmpeg",
        "_leash.py": "starts Xvfb and apt",
        "installer/decompress.py": "starts zstd and dpkg-deb, which write to a pipe",
        "_xvfb.py": "the type of its process",
        "diagnostics/child.py": "starts this Python anew",
        "diagnostics/packages.py": "asks apt-cache",
    },
    "http": {
        "installer/connection.py": "gives up those that do not answer",
        "installer/download.py": "the type of an answer",
        "installer/web.py": "speaks to NVIDIA's server",
    },
    "urllib": {
        "installer/connection.py": "the handlers of such connections",
        "installer/download.py": "takes an address apart",
        "installer/web.py": "speaks to NVIDIA's server",
    },
    "tempfile": {
        "installer/leftovers.py": "apt's own state",
        "installer/private_apt.py": "where that lies",
    },
    "xvfbwrapper": {"_xvfb.py": "its class, whose start is ours"},
    # of extras, where somebody asks for what they are for
    "imageio_ffmpeg": {"_film.py": "where its ffmpeg is"},
    "matplotlib": {"bench/chart.py": "draws it"},
    "moderngl_window": {
        "_window.py": "the window and the timer that ours take the place of",
        "window.py": "runs its configs",
    },
    "numpy": {"bench/chart.py": "matplotlib's arrays"},
    "PIL": {"_film.py": "its pictures", "_window.py": "makes them"},
}
# Their names are always written out, so that what is done by them is seen.
_BY_FULL_NAME = frozenset({"os", "shutil", "socket", "subprocess"})
# Every start of a program, with what is started.
_STARTS = {
    "_film.py": ["subprocess.Popen([get_ffmpeg_exe(), *how.split(), path])"],
    "installer/decompress.py": ["subprocess.Popen(command)"],
    "_leash.py": ["subprocess.Popen(['/bin/sh', '-c', _WAIT_FOR_GO, 'sh', *command])"],
    "_supervise.py": ["os.execvpe(path)", "os.posix_spawnp(path)"],  # run -- PROGRAM
    "diagnostics/child.py": [
        "subprocess.Popen([sys.executable, *flags, '-P', '-W', 'ignore', '-c', _BOOTSTRAP])"
    ],
    "diagnostics/packages.py": ["subprocess.run([program, *_WRITE_NOTHING, 'show', *names])"],
}
_LOOKED_FOR = {
    "installer/deb.py": ["shutil.which('dpkg-deb')"],
    "installer/decompress.py": ["shutil.which(program)"],
    "_supervise.py": ["shutil.which(name)"],
    "diagnostics/packages.py": ["shutil.which('apt-cache')"],
    "installer/apt.py": ["shutil.which(tool)"],
    "installer/private_apt.py": ["shutil.which(tool)"],
    "survey.py": ["shutil.which('Xvfb')"],
}
_SUBPROCESS = frozenset({"DEVNULL", "PIPE", "SubprocessError", "TimeoutExpired"})
# Of the socket module, what a socket of this machine takes; its name is looked up nowhere.
_SOCKET = frozenset(
    {"AF_UNIX", "SHUT_RDWR", "SHUT_WR", "SOCK_CLOEXEC", "SOCK_STREAM", "SOL_SOCKET", "SO_PEERCRED"}
    | {"gethostname", "socket", "socketpair", "timeout"}
)
_BUILTINS = frozenset({"__builtins__", "__import__", "compile", "eval", "exec"})
# Of os, and of the C library by ctypes.
_STARTER = re.compile(r"system|popen|f?exec[lv]p?e?|(posix_)?spawn\w*|v?fork(pty)?")


def forbidden(source: str, module: str = "") -> Iterator[str]:
    """What the source of a module does that it must not, with its line.

    Arguments:
        source: the text.
        module: its path in the package, for what only some may do.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found = [each for a in node.names for each in _imported(a.name, module)]
                found += _renamed(node)
            case ast.ImportFrom(module=str(name), level=0):
                found = [*_imported(name, module), *_renamed(node)]
            case ast.Name(id=name) if name in _BUILTINS:
                found = [name]
            case ast.Call():
                found = [*_called(node, module)]
            case ast.Attribute():
                found = [*_named(node)]
            case _:
                continue
        yield from (f"{node.lineno}: {what}" for what in found)
    seen = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    seen |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}  # a type
    for node in ast.walk(tree):
        if _is_start(node) and id(node) not in seen:  # It gets another name.
            yield f"{node.lineno}: {ast.unparse(node)}"


def _imported(name: str, module: str) -> Iterator[str]:
    top = name.partition(".")[0]
    if top not in _HARMLESS and module not in _GUARDED.get(top, {}):
        yield f"import {name}"


def _renamed(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        named = [node.module] if node.module in _BY_FULL_NAME else []
    else:
        named = [each.name for each in node.names if each.asname and each.name in _BY_FULL_NAME]
    yield from (f"{name} under another name" for name in named)


def _is_start(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether it is a function that starts a program."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return False
    if node.value.id == "os":
        return _STARTER.fullmatch(node.attr) is not None
    return node.value.id == "subprocess" and node.attr in ("Popen", "run")


def _called(node: ast.Call, module: str) -> Iterator[str]:
    yield from (f"{word.arg}=" for word in node.keywords if word.arg in ("shell", "executable"))
    name, given = ast.unparse(node.func), [*map(ast.unparse, (*node.args, *node.keywords))]
    call = f"{name}({', '.join(given[:1])})"
    if _is_start(node.func):
        if call not in _STARTS.get(module, ()):
            yield call
    elif isinstance(node.func, ast.Attribute) and _STARTER.fullmatch(node.func.attr):
        yield call  # of the C library
    if name == "shutil.which" and call not in _LOOKED_FOR.get(module, ()):
        yield call
    ours = ("socket.socket(socket.AF_UNIX)", "socket.socket(fileno=")
    if name == "socket.socket" and not call.startswith(ours):
        yield call


def _named(node: ast.Attribute) -> Iterator[str]:
    of, name = ast.unparse(node.value), node.attr
    if of == "socket" and name not in _SOCKET:
        yield f"{of}.{name}"
    if of == "subprocess" and name not in _SUBPROCESS and not _is_start(node):
        yield f"{of}.{name}"


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_uses_a_shell_the_network_or_code_from_data(module: str) -> None:
    assert list(forbidden(SOURCES[module], module)) == []


def test_nothing_is_allowed_that_is_not_done() -> None:
    for name, modules in _GUARDED.items():
        for module in modules:
            lines = forbidden(SOURCES[module])
            assert name in {line.partition(": import ")[2].partition(".")[0] for line in lines}
    for allowed in (_STARTS, _LOOKED_FOR):
        for module, calls in allowed.items():
            done = {line.partition(": ")[2] for line in forbidden(SOURCES[module])}
            assert set(calls) <= done


@pytest.mark.parametrize(
    "source",
    [
        "import urllib.request",
        "from http.client import HTTPConnection",
        "import json, pickle",
        "import multiprocessing",
        "import builtins",
        "eval('1')",
        "run = exec",
        "__builtins__['eval']('1')",
        "import socket",
        "socket.socket()",
        "socket.socket(socket.AF_INET)",
        "socket.socket(type=socket.SOCK_STREAM)",
        "socket.create_connection(('localhost', 80))",
        "socket.getaddrinfo('localhost', 80)",
        "import subprocess",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(['sh', '-c', 'ls'])",
        "subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
        "subprocess.run(['/usr/bin/apt-get'])",
        "subprocess.Popen(args=['sudo'])",
        "subprocess.check_output(['ls'])",
        "subprocess.getoutput('ls')",
        "start = subprocess.run",
        "os.system('ls')",
        "os.popen('ls')",
        "os.execvp('sudo', ['sudo'])",
        "os.spawnvp(0, 'apt', [])",
        "os.posix_spawn('/usr/bin/apt-get', [], {})",
        "start = os.execvp",
        "from os import system",
        "import os as o",
        "ctypes.CDLL(None).system(b'ls')",
        "libc.execvp(b'sudo', None)",
        "shutil.which('sudo')",
    ],
)
def test_each_of_them_would_be_seen(source: str) -> None:
    assert list(forbidden(source)) != []


@pytest.mark.parametrize("module", ["_x11.py", "_leash.py", "diagnostics/child.py"])
@pytest.mark.parametrize(
    "source",
    [
        "from socket import create_connection",
        "from socket import socket, AF_INET",
        "import socket as s",
        "from subprocess import getoutput",
        "import subprocess as s",
        "subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
        "subprocess.Popen(['/bin/sh', '-c', 'ls'])",
        "subprocess.Popen(command, executable='/bin/sh')",
    ],
)
def test_those_that_may_do_more_may_do_that_alone(module: str, source: str) -> None:
    assert list(forbidden(source, module)) != []


# ---- traps ---------------------------------------------------------------------------------------

# Programs that install, that become somebody else, that compile; and those which others ask.
TRAPS = (
    *("apt", "apt-get", "apt-cache", "aptitude", "dpkg", "dpkg-query", "dnf", "yum", "rpm", "apk"),
    *("pacman", "snap", "pip", "pip3", "conda", "mamba", "uv", "sudo", "su", "doas", "pkexec"),
    *("nvidia-smi", "nvidia-modprobe", "modprobe", "ldconfig", "ld", "gcc", "cc", "g++", "clang"),
    *("make", "curl", "wget", "xauth", "xdpyinfo", "lspci", "ps"),
)


# The same as modules: python -m pip
MODULE_TRAPS = ("conda", "ensurepip", "pip", "uv")
PYTHON_TRAP = "import sys\nopen({!r}, 'a').write('{} ' + repr(sys.argv) + '\\n')\n"


class Traps:
    """Whoever starts one of the programs, on the PATH or in its place, is written down."""

    def __init__(self, folder: Path) -> None:
        self._sprung = folder / "sprung"
        self._sprung.touch()
        self._sprung.chmod(0o666)
        self.texts = {
            name: f'#!/bin/sh\necho "{name} $*" >>{self._sprung}\nexit 1\n' for name in TRAPS
        }
        for name, text in self.texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        for name in MODULE_TRAPS:
            package = folder / "modules" / name
            package.mkdir(parents=True)
            for part in ("__init__", "__main__"):
                (package / f"{part}.py").write_text(PYTHON_TRAP.format(str(self._sprung), name))
        self.env = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "modules"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def on(self, machine: str) -> machines.Machine:
        """A machine on which they also lie where a system has these programs."""
        it = machines.MACHINES[machine]
        placed = (
            machines.Item(f"/usr/{folder}/{name}", text, "program")
            for name, text in self.texts.items()
            for folder in ("bin", "sbin")
            if name != "ldconfig"  # the machine itself is laid out with it
        )
        return replace(it, items=(*it.items, *placed))

    def sprung(self) -> list[str]:
        return self._sprung.read_text().splitlines()


@pytest.fixture
def traps(folder: Path) -> Traps:
    return Traps(folder)


@pytest.mark.parametrize(
    ("code", "programs"),
    [
        ("from ctypes.util import find_library; find_library('none')", {"gcc", "cc", "ld"}),
        ("import subprocess; subprocess.run(['apt-get'])", {"apt-get"}),
        ("import subprocess; subprocess.run(['/usr/bin/apt-get'])", {"apt-get"}),
        ("import subprocess; subprocess.run(['/bin/sudo', '-n', 'true'])", {"sudo"}),
        ("import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip'])", {"pip"}),
    ],
)
def test_the_traps_spring(
    python: Callable[..., machines.Finished], traps: Traps, code: str, programs: set[str]
) -> None:
    python(traps.on("no-nvidia"), code, env=traps.env, check=False)

    assert {line.split()[0] for line in traps.sprung()} & programs


EVERYTHING = """
import contextlib, io, sys, warnings
import moderngl_colab
from moderngl_colab.__main__ import main

warnings.simplefilter("ignore")
for strategies in (None, ["egl"], ["glx"], ["mesa"]):
    try:
        ctx = moderngl_colab.get_gpu_context(strategies=strategies)
    except moderngl_colab.GPUContextError as error:
        str(error)
    else:
        info = moderngl_colab.describe(ctx)
        str(info), info.gpu_memory()
        ctx.release()
for ask in (moderngl_colab.prepare_environment, moderngl_colab.visible_gpus):
    with contextlib.suppress(moderngl_colab.GPUContextError):
        ask()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for line in (["env"], ["env", "--format", "docker"], ["run", "--", "true"]):
        with contextlib.suppress(SystemExit):
            main(line)
"""
DOCTOR = "import moderngl_colab; str(moderngl_colab.diagnose())"


@pytest.mark.parametrize("machine", ["package", "colab", "glx-only", "no-nvidia", "no-gl", "mig"])
@pytest.mark.parametrize("code", [EVERYTHING, DOCTOR], ids=["everything", "doctor"])
def test_nothing_is_installed_and_no_other_program_is_asked(
    python: Callable[..., machines.Finished], traps: Traps, machine: str, code: str
) -> None:
    done = python(traps.on(machine), code, env=traps.env, timeout=120, check=False)

    assert without_noise(done.stderr) == ""
    assert done.returncode == 0
    sprung = traps.sprung()
    # It tells which packages could be installed, and is only ever asked that.
    of_the_doctor = [line for line in sprung if line.startswith("apt-cache ")]
    assert [line for line in sprung if line not in of_the_doctor] == []
    assert [line for line in of_the_doctor if " show " not in line] == []
    assert not of_the_doctor or code is DOCTOR


# ---- what is known of dependencies ---------------------------------------------------------------


def audit(*arguments: str) -> tuple[int, str]:
    """The status and the line of ``make audit``."""
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "audit.py", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_no_dependency_is_known_to_be_vulnerable() -> None:
    status, line = audit()

    if status == os.EX_TEMPFAIL:
        pytest.skip(line)
    assert status == 0, line


@contextmanager
def service(answer: Callable[[dict[str, Any]], object]) -> Iterator[str]:
    """A service that speaks as OSV does; it gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(answer(asked)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


def _vulnerable(asked: dict[str, Any]) -> object:
    if asked["package"]["name"] != "xvfbwrapper":
        return {}
    version = asked["version"]
    affected = {"package": {"name": "xvfbwrapper", "ecosystem": "PyPI"}, "versions": [version]}
    known = {"id": "PYSEC-0-0", "aliases": [], "details": "", "affected": [affected]}
    return {"vulns": [{**known, "summary": "", "published": "2020-01-01T00:00:00Z"}]}


def test_a_vulnerable_dependency_fails_the_gate() -> None:
    pytest.importorskip("pip_audit")
    with service(_vulnerable) as url:
        status, line = audit("--osv-url", url)

    assert (status, line.partition("xvfbwrapper")[0]) == (1, "audit: known to be vulnerable: ")
    assert line.endswith(": PYSEC-0-0")


def test_dependencies_of_which_nothing_is_known_pass_it() -> None:
    pytest.importorskip("pip_audit")
    with service(lambda _: {}) as url:
        status, line = audit("--osv-url", url)

    assert (status, line.partition(" of ")[0]) == (0, "audit: no vulnerability is known")
    for name in ("moderngl", "glcontext", "xvfbwrapper", "nvidia-ml-py"):
        assert f"{name} " in line


def test_a_service_that_is_silent_is_not_waited_for() -> None:
    pytest.importorskip("pip_audit")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, line = audit("--osv-url", f"http://127.0.0.1:{silent.getsockname()[1]}/")

    assert (status, line.partition("osv")[0]) == (os.EX_TEMPFAIL, "audit: not done: ")
