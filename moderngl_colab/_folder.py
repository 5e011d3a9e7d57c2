"""Folders of this library's own, which nobody else may enter, nor put another in their place."""

from __future__ import annotations

import contextlib
import os
import stat

from moderngl_colab import _trust

__all__ = ["make", "private"]

_OURS = 0o700


def private(parent: str, name: str) -> int:
    """A descriptor of a folder that is this user's alone; it is made if it is not there.

    Arguments:
        parent: where it lies; it is made, too.
        name: what it is called there.

    Raises:
        OSError: it cannot be made, or others could replace it.
    """
    make(parent)
    # O_PATH asks for no right to read: a umask may have kept that from us.
    above = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _OURS, dir_fd=above)
        folder = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        status = os.fstat(folder)
        if stat.S_ISLNK(status.st_mode):
            raise OSError("it is a symbolic link")
        if not stat.S_ISDIR(status.st_mode):
            raise OSError("it is no folder")
        if status.st_uid != os.geteuid():
            raise OSError(f"it belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) != _OURS:
            os.chmod(f"/proc/self/fd/{folder}", _OURS)
    except BaseException:
        os.close(folder)
        raise
    return folder


def make(folder: str) -> None:
    """Make a folder and those above it, each for this user alone, where they are not there.

    Raises:
        OSError: one cannot be made, or others could replace it.
    """
    absent = []
    while not _is_folder(folder):
        if os.path.lexists(folder):
            if _is_folder(folder):  # Another one has just made it.
                break
            raise OSError(f"{folder} is no folder")
        absent.append(folder)
        folder = os.path.dirname(folder)
    _check(folder)
    for each in reversed(absent):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, _OURS)
            os.chmod(each, _OURS)  # A umask may have left less.


def _check(folder: str) -> None:
    """Refuse one that others could replace: they would choose what programs read in it."""
    if (found := _trust.breach(folder)) is not None:
        raise OSError(str(found))


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
