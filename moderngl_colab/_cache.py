"""The ICD on disk, for other processes: they cannot see files in this one's memory.

It lies in a folder of its own below ``XDG_CACHE_HOME`` (XDG Base Directory Specification 0.8),
which nobody else may enter: whoever could write there would choose a library that is loaded.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping

from moderngl_colab import _folder, _glvnd

__all__ = ["CacheError", "icd"]

_VARIABLE = "XDG_CACHE_HOME"
_OF_OTHERS = 0o077


class CacheError(OSError):
    """The ICD cannot be written; the text names the folder, and what to set instead."""


def icd(library: str, environ: Mapping[str, str] = os.environ) -> str:
    """The path of an ICD that names a vendor library; it is written if it is not there.

    Arguments:
        library: absolute path of ``libEGL_nvidia.so.0``.
        environ: where ``XDG_CACHE_HOME`` is read.

    Raises:
        CacheError: it cannot be written.
    """
    content = _glvnd.icd_content(library)
    # Named by its content: machines that share a home folder have their drivers elsewhere.
    name = _glvnd.OWN_ICD.format(hashlib.sha256(content).hexdigest()[:16])
    home = _cache_home(environ)
    folder = os.path.join(home, _glvnd.OWN_FOLDER)
    if ":" in folder:
        raise _error(folder, "a colon ends a path in __EGL_VENDOR_LIBRARY_FILENAMES")
    try:
        descriptor = _folder.private(home, _glvnd.OWN_FOLDER)
    except OSError as error:
        raise _error(folder, error.strerror or str(error)) from error
    try:
        if not _is_whole(descriptor, name, content):
            _write(descriptor, name, content)
    except OSError as error:
        raise _error(folder, error.strerror or str(error)) from error
    finally:
        os.close(descriptor)
    return os.path.join(folder, name)


def _error(folder: str, why: str) -> CacheError:
    return CacheError(
        f"no ICD can be written to {folder!r} ({why}): set {_VARIABLE} to a folder of your own"
    )


def _cache_home(environ: Mapping[str, str]) -> str:
    own = environ.get(_VARIABLE, "")
    if os.path.isabs(own):  # The specification: relative paths are to be ignored.
        return own
    home = os.path.expanduser("~/.cache")
    if not os.path.isabs(home):
        raise _error(os.path.join(home, _glvnd.OWN_FOLDER), "this user has no home folder")
    return home


def _is_whole(folder: int, name: str, content: bytes) -> bool:
    """Whether the file is there, nobody else's, and what it has to be."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and not status.st_mode & _OF_OTHERS
            and stream.read(len(content) + 1) == content
        )


def _write(folder: int, name: str, content: bytes) -> None:
    """Put the file there, whole at once for whoever reads it meanwhile."""
    half = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(half, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)  # A umask may have left less.
            stream.write(content)
        os.rename(half, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(half, dir_fd=folder)
        raise
