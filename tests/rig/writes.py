"""Which files a program and its children write, create, rename or remove, as strace(1) sees it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .driver import RigError

# Those that change what a file system holds. -z leaves out what failed.
_CALLS = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,unlink,"
    "unlinkat,rmdir,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,lchown,fchownat,"
    "utimensat,setxattr,bind,execve,execveat"
)
_FOR_WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")
# Of the kernel, and nobody's to keep: files in memory are written to by /proc/self/fd/N.
_NO_FILES = re.compile(r"/proc/|/dev/(?!shm/|shm$)|/sys/")


def traced(log: Path, argv: Sequence[str]) -> list[str]:
    """The command that runs another one under strace, with a log for each of its threads.

    Raises:
        RigError: there is no strace.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise RigError("strace is not installed: apt-get install -y strace")
    options = ["-ff", "-z", "-y", "-qq", "-s", "4096", "-e", "signal=none"]
    return [strace, *options, "-e", f"trace={_CALLS}", "-o", str(log), *argv]


def written(log: Path) -> set[str]:
    """The paths that were written to; what is no file of a file system is left out."""
    paths = (path for line in _lines(log) for path in _changed(line))
    return {path for path in paths if not _NO_FILES.match(path)}


def started(log: Path) -> list[str]:
    """The programs that were started, in no certain order."""
    return [_NAMED.findall(line)[0] for line in _lines(log) if line.startswith("execve")]


def numberless(paths: set[str]) -> list[str]:
    """The paths with N for every number, sorted."""
    return sorted({re.sub(r"\d+(?!\d*-unix)", "N", path) for path in paths})


def _lines(log: Path) -> list[str]:
    files = sorted(log.parent.glob(f"{log.name}.*"))
    return [line for file in files for line in file.read_text(errors="replace").splitlines()]


def _changed(line: str) -> list[str]:
    call, _, arguments = line.partition("(")
    if call.startswith("execve"):
        return []
    if call.startswith("open") and not any(flag in arguments for flag in _FOR_WRITING):
        return []
    if call == "bind":
        return re.findall(r'sun_path="([^"]*)"', arguments)
    folder = _FOLDER.match(arguments)
    where = Path(folder[1]) if folder else Path("/")
    if call.startswith(("symlink", "setxattr", "chmod", "chown", "lchown", "truncate")):
        names = _NAMED.findall(arguments)[-1:] if call.startswith("symlink") else (
            _NAMED.findall(arguments)[:1]
        )  # fmt: skip
    else:
        names = _NAMED.findall(arguments)
    return [str(where / name) for name in names]
