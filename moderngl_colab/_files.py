"""Looks at files that may be absent, forbidden, endless or nonsense: each is bounded and quiet."""

from __future__ import annotations

import ctypes
import os
import stat

from moderngl_colab._process import declare

__all__ = ["MOST", "names", "read", "read_text", "refused"]

MOST = 16 << 20
"""How much of a file is read, in bytes."""

_CHUNK = 1 << 20


def read(path: str, most: int = MOST) -> bytes:
    """What a file contains; nothing where it cannot be read, or reading it could wait for ever.

    Arguments:
        path: the file's.
        most: how much of it is read, in bytes.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        chunks = []
        # Files in /proc come a page at a time.
        while chunk := os.read(descriptor, min(most, _CHUNK)):
            chunks.append(chunk)
            most -= len(chunk)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return b"".join(chunks)


def read_text(path: str) -> str:
    """As :func:`read`; what is no UTF-8 becomes U+FFFD."""
    return read(path).decode(errors="replace")


def names(folder: str, prefix: str = "") -> list[str]:
    """The names in a folder that begin so, sorted; none where it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    except (OSError, ValueError):  # ValueError: a NUL is in no path.
        return []


def refused(path: str, mode: int) -> int:
    """What access(2) answers: 0, or the number of the error that keeps this process out.

    Arguments:
        path: the file's or the directory's.
        mode: of ``os.R_OK``, ``os.W_OK`` and ``os.X_OK``, what it is wanted for.
    """
    access = declare(
        ctypes.CDLL(None, use_errno=True).access, ctypes.c_int, ctypes.c_char_p, ctypes.c_int
    )
    ctypes.set_errno(0)
    return ctypes.get_errno() if access(os.fsencode(path), mode) else 0
