"""What the loader of a fresh process finds (ld.so(8)), told from its files."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from moderngl_colab import _files

__all__ = ["PATH_VARIABLE", "cached", "library_path", "loadable", "where"]

PATH_VARIABLE = "LD_LIBRARY_PATH"

_HEADER = 20  # bytes: of an ELF file, up to and with the machine


def library_path(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The directories that ``LD_LIBRARY_PATH`` names.

    The loader takes an empty entry for the current directory; nothing is searched there.
    """
    entries = environ.get(PATH_VARIABLE, "").replace(";", ":").split(":")
    return list(filter(os.path.isabs, entries))


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
    multiarch = f"{os.uname().machine}-linux-gnu"
    places = (f"lib/{multiarch}", f"usr/lib/{multiarch}", "lib64", "usr/lib64", "lib", "usr/lib")
    candidates = [os.path.join(folder, name) for folder in library_path(environ)]
    candidates += cached(name, root)
    candidates += [os.path.join(root, place, name) for place in places]
    return next(filter(loadable, candidates), None)


def loadable(path: str) -> bool:
    """Whether there is a library that this process could open, told by its first bytes.

    The loader passes over one of another class or machine (images for CUDA bring 32-bit ones), and
    over one that it may not read. It does not pass over an empty one, but cannot open it either.
    """
    kind = _kind(_files.read(path, _HEADER))
    return kind is not None and kind == _own_kind()


@functools.cache
def _own_kind() -> bytes | None:
    return _kind(_files.read("/proc/self/exe", _HEADER))


def _kind(header: bytes) -> bytes | None:
    """Class, byte order and machine of an ELF file (elf(5)); None for another file."""
    if len(header) < _HEADER or not header.startswith(b"\x7fELF"):
        return None
    return header[4:6] + header[18:20]
