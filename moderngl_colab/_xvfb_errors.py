"""Why no display came of an Xvfb."""

from __future__ import annotations

import os
import time

__all__ = [
    "XvfbError",
    "XvfbMissing",
    "XvfbPlaceError",
    "XvfbTimeoutError",
    "ended",
    "silent",
]


class XvfbError(Exception):
    """No display came of Xvfb; the text says why, in its own last words if it left any."""

    crashed = False
    """Whether a signal ended it."""
    said: tuple[str, ...] = ()
    """What it said on stderr, line by line."""


class XvfbMissing(XvfbError):
    """There is no Xvfb on the PATH."""


class XvfbPlaceError(XvfbError):
    """There is no place for its socket and its lock; it was not started."""


class XvfbTimeoutError(XvfbError):
    """It did not answer in time."""


def ended(status: int, errors: int) -> XvfbError:
    """One that ended by itself.

    Arguments:
        status: its exit status, negative for the signal that ended it.
        errors: the descriptor of what it said.
    """
    said = _lines(errors)
    # The server marks each line of an error so.
    last = said[-1].removeprefix("(EE)").strip() if said else "nothing"
    error = XvfbError(f"Xvfb ended at once with status {status}; it said: {last}")
    error.crashed, error.said = status < 0, said
    return error


def silent(since: float, errors: int | None = None) -> XvfbTimeoutError:
    """One that did not answer.

    Arguments:
        since: when it was asked, in seconds of :func:`time.monotonic`.
        errors: as for :func:`ended`.
    """
    error = XvfbTimeoutError(f"Xvfb did not answer within {time.monotonic() - since:.2g} s")
    error.said = () if errors is None else _lines(errors)
    return error


def _lines(errors: int) -> tuple[str, ...]:
    """What the server said, without lines that are empty but for its mark."""
    text = os.pread(errors, 1 << 16, 0).decode(errors="replace")
    lines = map(str.strip, text.splitlines())
    return tuple(line for line in lines if line.removeprefix("(EE)").strip())
