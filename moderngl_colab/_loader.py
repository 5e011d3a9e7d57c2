"""What the loader of a fresh process finds (ld.so(8)), told from its files."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterable, Mapping

from moderngl_colab import _files

__all__ = [
    "PATH_VARIABLE",
    "answer_for",
    "at_the_start",
    "cached",
    "cut_short",
    "library_path",
    "loadable",
    "searched",
    "where",
]

PATH_VARIABLE = "LD_LIBRARY_PATH"

_HEADER = 20  # bytes: of an ELF file, up to and with the machine
_WHOLE_HEADER = 64  # bytes, in a file of 64 bits


def library_path(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The directories that ``LD_LIBRARY_PATH`` names.

    The loader takes an empty entry for the current directory; nothing is searched there.
    """
    entries = environ.get(PATH_VARIABLE, "").replace(";", ":").split(":")
    return list(filter(os.path.isabs, entries))


def searched(root: str = "/") -> frozenset[str]:
    """The directories in which this process's own loader looks, beside those of its cache."""
    return frozenset((*at_the_start(), *_defaults(root)))


def at_the_start() -> tuple[str, ...]:
    """What ``LD_LIBRARY_PATH`` named when the process began: later changes reach no loader.

    In a process that answers for another one, what it named in both.
    """
    return tuple(folder for folder in _from_the_start() if all(folder in of for of in _askers))


def answer_for(started_with: Iterable[str]) -> None:
    """Trust no more folders than the process that this one answers for.

    Arguments:
        started_with: its :func:`at_the_start`.
    """
    _askers.append(frozenset(started_with))


_askers: list[frozenset[str]] = []


@functools.cache
def _from_the_start() -> tuple[str, ...]:
    pairs = (entry.partition(b"=") for entry in _files.read("/proc/self/environ").split(b"\0"))
    environ = {name: value for name, _, value in pairs}
    given = os.fsdecode(environ.get(os.fsencode(PATH_VARIABLE), b""))
    return tuple(library_path({PATH_VARIABLE: given}))


def _defaults(root: str) -> tuple[str, ...]:
    multiarch = f"{os.uname().machine}-linux-gnu"
    places = (f"lib/{multiarch}", f"usr/lib/{multiarch}", "lib64", "usr/lib64", "lib", "usr/lib")
    return tuple(os.path.join(root, place) for place in places)


def cached(name: str, root: str = "/") -> list[str]:
    """The paths of a library in the loader's cache, ``/etc/ld.so.cache``."""
    content, wanted = _cache(os.path.join(root, "etc/ld.so.cache")), os.fsencode(f"/{name}\0")
    paths, end = [], content.find(wanted)
    while end >= 0:
        path = content[content.rfind(b"\0", 0, end) + 1 : end + len(wanted) - 1]
        if path.startswith(b"/"):
            paths.append(os.path.join(root, os.fsdecode(path).lstrip("/")))
        end = content.find(wanted, end + 1)
    return paths


def _cache(path: str) -> bytes:
    """Its content; read again when it has changed, for it is long, and asked for each library."""
    try:
        status = os.stat(path)
    except OSError:
        return b""
    return _read(path, status.st_ino, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1)
def _read(path: str, *_: int) -> bytes:
    return _files.read(path)


def where(name: str, environ: Mapping[str, str] = os.environ, root: str = "/") -> str | None:
    """Where a fresh process's loader finds a library, if nothing has an RPATH.

    Arguments:
        name: for instance ``"libEGL_nvidia.so.0"``.
        environ: where ``LD_LIBRARY_PATH`` is read.
        root: the directory that stands for ``/``.

    Returns:
        The absolute path, or None.
    """
    candidates = [os.path.join(folder, name) for folder in library_path(environ)]
    candidates += cached(name, root)
    candidates += [os.path.join(folder, name) for folder in _defaults(root)]
    return next(filter(loadable, candidates), None)


def loadable(path: str) -> bool:
    """Whether there is a library that this process could open, told by its first bytes.

    The loader passes over one of another class or machine (images for CUDA bring 32-bit ones), and
    over one that it may not read. It does not pass over an empty one, but cannot open it either.
    """
    kind = _kind(_files.read(path, _HEADER))
    return kind is not None and kind == _own_kind()


def cut_short(path: str) -> bool:
    """Whether a library ends before the tables that its header tells of (elf(5)).

    The one of sections is the last thing in a file.

    Arguments:
        path: of one that is :func:`loadable`, of 64 bits.
    """
    header = _files.read(path, _WHOLE_HEADER)
    try:
        segments, sections = struct.unpack_from("=QQ", header, 32)
        segment, number, section, count = struct.unpack_from("=4H", header, 54)
        needed: int = max(segments + segment * number, sections + section * count)
        return os.stat(path).st_size < needed
    except (struct.error, OSError):
        return True


@functools.cache
def _own_kind() -> bytes | None:
    return _kind(_files.read("/proc/self/exe", _HEADER))


def _kind(header: bytes) -> bytes | None:
    """Class, byte order and machine of an ELF file (elf(5)); None for another file."""
    if len(header) < _HEADER or not header.startswith(b"\x7fELF"):
        return None
    return header[4:6] + header[18:20]
