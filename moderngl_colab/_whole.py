"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["beside", "naming", "whole"]


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """An empty file beside another, which takes its place if the block ends well.

    Arguments:
        path: the other, which need not be there. A symbolic link stays, and leads to the new one.

    Raises:
        OSError: no file can be written there.
    """
    with beside(path) as part:
        yield part
        with naming(path):
            part.replace(os.path.realpath(path))


@contextlib.contextmanager
def beside(path: str | Path) -> Iterator[Path]:
    """As :func:`whole`, but at the end the file is removed, and the other stays as it was."""
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):  # A device would be replaced by a file.
            raise FileExistsError(errno.EEXIST, "is there, and is no regular file", str(path))
    # A name has 255 bytes at most.
    name = os.fsencode(target.name)[:237].decode(errors="ignore")
    part = target.with_name(f".{name}-{secrets.token_hex(8)}")
    with naming(path):
        part.touch(exist_ok=False)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """A block whose OSErrors are of this file, not of the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
