"""Files from a web server, which are continued where they broke off."""

from __future__ import annotations

import contextlib
import http.client
import os
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, TypeVar

from moderngl_colab.installer import unpack, web
from moderngl_colab.installer.source import FetchError, Progress

__all__ = ["size", "text", "to_file"]

_T = TypeVar("_T")
_BLOCK = 1 << 18  # bytes
_MOST = 4 << 30  # bytes
_TRIES = 3  # of a connection that breaks, or a server that fails
_PAUSE = 0.5  # seconds between them
_PARTIAL = 206


def _tried(once: Callable[[], _T]) -> _T:
    for _ in range(_TRIES - 1):
        with contextlib.suppress(web.BrokenError):
            return once()
        time.sleep(_PAUSE)
    return once()


def text(url: str, most: int, timeout: float) -> str:
    """A short file.

    Arguments:
        url: its address.
        most: how much of it is read, in bytes.
        timeout: how long it may take, and the server may be silent, in seconds.

    Raises:
        AbsentError: it is not there.
        FetchError: it cannot be had.
    """

    def once() -> str:
        until = time.monotonic() + timeout
        content = b""
        with web.answer(url, timeout) as answer:
            for block in _blocks(answer, timeout):
                content += block
                if len(content) >= most:
                    break
                if time.monotonic() > until:
                    raise FetchError(
                        f"the server was too slow: {len(content)} bytes in {timeout:g} s"
                    )
        return content[:most].decode("ascii", errors="replace")

    return _tried(once)


def size(url: str, timeout: float) -> int | None:
    """How many bytes a file has; None where the server does not tell.

    Raises:
        AbsentError: it is not there.
        FetchError: the server cannot be reached.
    """

    def once() -> int | None:
        with web.answer(url, timeout, "HEAD") as answer:
            return _number(answer.headers.get("Content-Length", ""))

    try:
        return _tried(once)
    except web.MethodError:
        return None


def to_file(url: str, path: str, timeout: float, progress: Progress) -> None:
    """Fetch a file, from where an earlier try ended; what came is kept, whatever happens.

    Arguments:
        url: its address.
        path: where it is written to, behind what is there.
        timeout: how long the server may be silent, in seconds.
        progress: told what comes.

    Raises:
        AbsentError: it is not there.
        FetchError: it cannot be had, or only in part.
        OSError: the file system refuses something.
    """
    _tried(lambda: _continue(url, path, timeout, progress))


def _continue(url: str, path: str, timeout: float, progress: Progress) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "r+b") as stream:
        os.fchmod(stream.fileno(), 0o600)  # A umask may have left less.
        have = stream.seek(0, os.SEEK_END)
        try:
            with web.answer(url, timeout, start=have) as answer:
                said = answer.headers.get("Content-Range", "")
                if answer.status != _PARTIAL or not said.startswith(f"bytes {have}-"):
                    have = stream.seek(0)
                    stream.truncate()
                length = _number(answer.headers.get("Content-Length", ""))
                unpack.ensure_room(os.path.dirname(path), length or 0)
                total = None if length is None else have + length
                name = os.path.basename(urllib.parse.urlsplit(url).path)
                _receive(_blocks(answer, timeout), stream, total, partial(progress, name))
        except web.RangeError:
            stream.truncate(0)
            raise


def _receive(
    blocks: Iterable[bytes],
    stream: IO[bytes],
    total: int | None,
    progress: Callable[[int, int | None], None],
) -> None:
    done = stream.tell()
    progress(done, total)
    for block in blocks:
        stream.write(block)
        done += len(block)
        progress(done, total)
        if done > _MOST:
            raise FetchError(f"the server sends more than {_MOST >> 30} GB")
    if total is not None and done != total:
        raise web.BrokenError(f"the connection broke after {done} of {total} bytes")


def _blocks(answer: http.client.HTTPResponse, timeout: float) -> Iterator[bytes]:
    while True:
        with web.told(timeout):
            block = answer.read1(_BLOCK)
        if not block:
            return
        yield block


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
