"""``--save FILE.png``: a picture, written whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import stat

__all__ = ["named", "refused", "save"]


def named(text: str) -> str:
    """The name of a file that a PNG may have.

    Raises:
        argparse.ArgumentTypeError: it ends otherwise.
    """
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png, and a PNG it would be")
    return text


def refused(path: str) -> str | None:
    """What prevents a file from being written there, tried beside it; None where nothing does."""
    return _done(path, b"", keep=False)


def save(path: str, content: bytes) -> str | None:
    """Write a file; gives what prevented it, if something did."""
    return _done(path, content, keep=True)


def _done(path: str, content: bytes, *, keep: bool) -> str | None:
    target = os.path.realpath(path)
    try:
        # A device would be replaced by a file.
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            return f"{path}: is there, and is no regular file"
        _write(target, content, keep=keep)
    except (OSError, ValueError) as error:
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    return None


def _write(path: str, content: bytes, *, keep: bool) -> None:
    beside = f"{path}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
        if keep:
            os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # It is in its place.
            os.unlink(beside)
