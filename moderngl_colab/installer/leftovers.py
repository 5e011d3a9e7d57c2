"""Temporary folders that are told from those of processes that were killed.

Each has a file that is locked by flock(2) as long as its process lives: the kernel takes the lock
from whoever ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile

from moderngl_colab import _files

__all__ = ["make", "sweep"]


def make(parent: str, prefix: str) -> tuple[str, int]:
    """Make a folder for this user alone.

    Arguments:
        parent: where.
        prefix: with what its name begins.

    Returns:
        Its path, and a descriptor that locks it until it is closed.

    Raises:
        OSError: the file system refuses it.
    """
    while True:
        folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        try:
            if (lock := _locked(folder)) is not None:
                return folder, lock
        except FileNotFoundError:  # Another process took it for a leftover before it was locked.
            continue
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def sweep(parent: str, prefix: str) -> None:
    """Remove the folders of this user's processes that are no more.

    Arguments:
        parent: where they are.
        prefix: with what their names begin.
    """
    for name in _files.names(parent, prefix):
        folder = os.path.join(parent, name)
        with contextlib.suppress(OSError):
            status = os.lstat(folder)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            if (lock := _locked(folder)) is not None:
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def _locked(folder: str) -> int | None:
    """A descriptor that locks a folder; None where another one does.

    Raises:
        FileNotFoundError: it is not there any more.
        OSError: it cannot be locked.
    """
    path = os.path.join(folder, "lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.lstat(path), os.fstat(lock)):
            raise FileNotFoundError(path)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock
