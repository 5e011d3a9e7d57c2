"""libglvnd's EGL vendors: which ones it would load, and how to add NVIDIA's without a file.

libglvnd reads ``__EGL_VENDOR_LIBRARY_FILENAMES``, else ``__EGL_VENDOR_LIBRARY_DIRS``, else the
two directories compiled into it, once for each libEGL in the process, and skips whatever it
cannot open without a word (libglvnd, ``src/EGL/icd_enumeration.md``).
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from moderngl_colab import _files, _fork, _process

__all__ = [
    "DIRECTORIES_VARIABLE",
    "FILENAMES_VARIABLE",
    "FORCED_GLX_VARIABLE",
    "GLX_VARIABLE",
    "ICD",
    "glx_choice",
    "icd_content",
    "icds",
    "library_of",
    "offering",
    "private_copy",
    "user_choice",
]

FILENAMES_VARIABLE = "__EGL_VENDOR_LIBRARY_FILENAMES"
DIRECTORIES_VARIABLE = "__EGL_VENDOR_LIBRARY_DIRS"
GLX_VARIABLE = "__GLX_VENDOR_LIBRARY_NAME"
FORCED_GLX_VARIABLE = "__GLX_FORCE_VENDOR_LIBRARY_0"

_DEFAULT_DIRECTORIES = ("/etc/glvnd/egl_vendor.d", "/usr/share/glvnd/egl_vendor.d")
_VENDOR_LIBRARY, _MESA_LIBRARY = b"libEGL_nvidia.so", b"libEGL_mesa.so"

OWN_FOLDER, OWN_ICD = "moderngl_colab", "10_nvidia_{}.json"
"""Where the ICD lies that other programs are given, and what it is called."""
_OWN = re.compile(rf"/{OWN_FOLDER}/{OWN_ICD.format('[0-9a-f]{16}')}$")


class ICD(NamedTuple):
    """One vendor's description file."""

    path: str
    waits: bool = False
    """Whether reading it may take for ever: it is a FIFO, a device, or far too large."""
    is_nvidia: bool = False
    """Whether it names NVIDIA's vendor library."""
    is_mesa: bool = False
    """Whether it names Mesa's."""


def library_of(icd: ICD) -> str | None:
    """What an ICD names as its vendor's library, by name or path; None where it is none at all."""
    import json  # It takes longer to import than the directories to read.

    try:
        library = json.loads(_files.read_text(icd.path))["ICD"]["library_path"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(library, str) or not library or "\0" in library:
        return None
    try:
        os.fsencode(library)
    except UnicodeEncodeError:  # A lone surrogate is in no path.
        return None
    return library


def icd_content(library: str) -> bytes:
    """An ICD that names a vendor library by its path."""
    # By hand, for json takes longer to import than all of this.
    escaped = library.replace("\\", "\\\\").replace('"', '\\"')
    quoted = "".join(char if char >= " " else f"\\u{ord(char):04x}" for char in escaped)
    return os.fsencode(f'{{"file_format_version": "1.0.0", "ICD": {{"library_path": "{quoted}"}}}}')


def user_choice(environ: Mapping[str, str] = os.environ) -> str | None:
    """The name of the variable by which the user chose the vendors, or None.

    What this library gives to other programs is no choice of the user's.
    """
    if not _process.may_steer_loader():  # libglvnd reads them by secure_getenv(3).
        return None
    # libglvnd takes the first of the two that is there, an empty one too.
    if FILENAMES_VARIABLE in environ and not _is_ours(environ[FILENAMES_VARIABLE]):
        return FILENAMES_VARIABLE
    return DIRECTORIES_VARIABLE if DIRECTORIES_VARIABLE in environ else None


def glx_choice(environ: Mapping[str, str] = os.environ) -> str | None:
    """The name of the variable by which GLX's vendor was chosen, or None."""
    if not _process.may_steer_loader():
        return None
    # libglvnd takes the first of the two that is there, for the first screen.
    return next((v for v in (FORCED_GLX_VARIABLE, GLX_VARIABLE) if v in environ), None)


def _is_ours(filenames: str) -> bool:
    paths = [path for path in filenames.split(":") if path]
    return bool(paths) and all(path == os.devnull or _OWN.search(path) for path in paths)


def icds(libegl: str | None = None, environ: Mapping[str, str] = os.environ) -> tuple[ICD, ...]:
    """The ICDs that libglvnd would read, in its order.

    Arguments:
        libegl: path of the libEGL.so.1 whose compiled-in directories count; conda's and NixOS's
            differ from the distribution's. Without it, the distribution's.
        environ: where libglvnd's variables are read.
    """
    choice = user_choice(environ)
    if choice == FILENAMES_VARIABLE:
        return tuple(map(_read_icd, filter(None, environ[FILENAMES_VARIABLE].split(":"))))
    if choice == DIRECTORIES_VARIABLE:
        directories = tuple(filter(None, environ[DIRECTORIES_VARIABLE].split(":")))
    else:
        directories = _DEFAULT_DIRECTORIES if libegl is None else _vendor_directories(libegl)
    return tuple(_read_icd(path) for directory in directories for path in _json_files(directory))


@contextmanager
def offering(library: str | None, libegl: str | None = None) -> Iterator[None]:
    """Let a libEGL that reads its vendors within this block find NVIDIA's among them.

    The ICD exists in memory only. To a user's own choice of vendors nothing is added. What may
    take for ever to read is left out: libglvnd waits for the writer of a FIFO. A Mesa that was
    loaded before this process was forked is replaced by a fresh instance.

    Arguments:
        library: absolute path of ``libEGL_nvidia.so.0``, or None to add nothing.
        libegl: as for :func:`icds`.
    """
    if not _process.may_steer_loader():
        yield
        return
    present = icds(libegl)
    choice = user_choice()
    offered = library if choice is None else None
    mesa = _loaded_mesa() if _fork.mesa_lost() else None
    with ExitStack() as files:

        def in_memory(vendor: str) -> str:
            icd = _process.file_in_memory("vendor.json", icd_content(vendor))
            return f"/proc/self/fd/{files.enter_context(icd)}"

        paths = [in_memory(offered)] if offered is not None else []
        for icd in present:
            if icd.is_mesa and mesa is not None:
                paths.append(in_memory(private_copy(mesa)))
            elif not icd.waits and not (icd.is_nvidia and offered is not None):
                paths.append(icd.path)
        ours = FILENAMES_VARIABLE in os.environ and choice != FILENAMES_VARIABLE
        differs = ours or paths != [icd.path for icd in present]
        with _process.environment({FILENAMES_VARIABLE: ":".join(paths)} if differs else {}):
            yield


def _loaded_mesa() -> str | None:
    """The file of the Mesa that is loaded."""
    maps = os.fsdecode(_files.read("/proc/self/maps"))
    paths = (line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/libEGL_mesa.so" in line)
    return next((path for path in paths if os.path.exists(path)), None)


@functools.cache
def private_copy(library: str) -> str:
    """A second, fresh instance of a library.

    libEGL has read its vendors once and never will again; a copy of the file is another library
    to the loader and reads them anew. Both work side by side: what they share, the current
    context of each thread, is kept by libGLdispatch.

    Arguments:
        library: path of the one that is loaded.

    Returns:
        A name that dlopen(3) answers with the copy. It outlives the memory file: the loader
        compares names with those of open libraries first. The odd spelling keeps it from being
        mistaken for somebody else's descriptor of the same number.

    Raises:
        OSError: there is no memfd_create(2), or the copy cannot be loaded.
    """
    with (
        open(library, "rb") as original,
        _process.file_in_memory(os.path.basename(library), original.read()) as descriptor,
    ):
        name = f"/proc/self/fd/../fd/{descriptor}"
        ctypes.CDLL(name)
    return name


@functools.cache
def _vendor_directories(libegl: str) -> tuple[str, ...]:
    """The list of directories among the strings of a libEGL."""
    content = _files.read(libegl)
    if (middle := content.find(b"egl_vendor.d")) < 0:
        return _DEFAULT_DIRECTORIES
    start, end = content.rfind(b"\0", 0, middle) + 1, content.find(b"\0", middle)
    return tuple(filter(None, os.fsdecode(content[start:end]).split(":")))


def _json_files(directory: str) -> list[str]:
    names = (name for name in _files.names(directory) if name.endswith(".json"))
    return [os.path.join(directory, name) for name in names]


def _read_icd(path: str) -> ICD:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # libglvnd passes over it, too.
        return ICD(path)
    if stat.S_ISDIR(status.st_mode):
        return ICD(path)
    waits = not stat.S_ISREG(status.st_mode) or status.st_size > _files.MOST
    content = b"" if waits else _files.read(path)
    return ICD(path, waits, _VENDOR_LIBRARY in content, _MESA_LIBRARY in content)
