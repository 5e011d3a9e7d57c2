"""Plain files: a pipe or a device is none, and nobody is waited for who might write to one."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = ["opened", "size"]


def opened(path: str, links: int = 0) -> BinaryIO:
    """Open a file to read it.

    Arguments:
        path: the file's.
        links: ``os.O_NOFOLLOW`` where a link to one is none; one that the user names is.

    Raises:
        OSError: it is not there, no plain file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", path)
    return open(descriptor, "rb")


def size(path: str) -> int:
    """How many bytes a file has; 0 where it is gone: whoever is at work on it may remove it."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
