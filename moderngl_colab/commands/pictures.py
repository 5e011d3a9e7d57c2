"""``--save FILE.png``: a picture, written whole or not at all."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from moderngl_colab._whole import beside, whole

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
    return _problem(path, beside(path), b"")


def save(path: str, content: bytes) -> str | None:
    """Write a file; gives what prevented it, if something did."""
    return _problem(path, whole(path), content)


def _problem(path: str, opened: AbstractContextManager[Path], content: bytes) -> str | None:
    try:
        with opened as part:
            part.write_bytes(content)
    except (OSError, ValueError) as error:
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    return None
