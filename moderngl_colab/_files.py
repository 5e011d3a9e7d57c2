"""Looks at files that may be absent, forbidden, endless or nonsense: each is bounded and quiet."""

from __future__ import annotations

import os
import stat

__all__ = ["MOST", "first_there", "names", "read", "read_text"]

MOST = 16 << 20
"""How much of a file is read, in bytes."""


def read(path: str) -> bytes:
    """What a file contains; nothing where it cannot be read, or reading it could wait for ever."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        chunks = [os.read(descriptor, MOST)]
        while chunks[-1] and len(chunks) < MOST >> 12:  # Files in /proc come a page at a time.
            chunks.append(os.read(descriptor, MOST))
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return b"".join(chunks)[:MOST]


def read_text(path: str) -> str:
    """As :func:`read`; what is no UTF-8 becomes U+FFFD."""
    return read(path).decode(errors="replace")


def names(folder: str, prefix: str = "") -> list[str]:
    """The names in a folder that begin so, sorted; none where it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    except OSError:
        return []


def first_there(paths: list[str]) -> str | None:
    """The first of the paths where there is a file."""
    return next(filter(os.path.isfile, paths), None)
