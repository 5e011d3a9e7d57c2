"""Files that the user names: a link to one is one, a pipe or a device is none."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = ["opened"]


def opened(path: str) -> BinaryIO:
    """Open a file to read it; nobody is waited for who might write to it.

    Raises:
        OSError: it is not there, no plain file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", path)
    return open(descriptor, "rb")
