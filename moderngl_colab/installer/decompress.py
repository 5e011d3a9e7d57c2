"""The bytes that a file has compressed, whichever way: its first bytes tell which."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import lzma
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO, cast

from moderngl_colab.installer.source import FetchError
from moderngl_colab.installer.tar import Readable

__all__ = ["NoZstdError", "opened", "piped"]

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20
_MOST = 16 << 30  # bytes
_PROGRAMS = ("zstd", "unzstd")


class NoZstdError(FetchError):
    """It is compressed by zstd, and nothing here reads that."""

    def __init__(self) -> None:
        super().__init__(
            "it is compressed by zstd, which this Python cannot read: pip install zstandard"
        )


@contextlib.contextmanager
def opened(stream: BinaryIO) -> Iterator[Readable]:
    """What a file contains from where it is read next on, no more compressed.

    Arguments:
        stream: a file that can be sought in.

    Raises:
        FetchError: it is compressed in no known way; or, by :meth:`Readable.read`, it is damaged,
            or has far more content than any driver has.
        NoZstdError: as its name says.
    """
    start = stream.tell()
    magic = stream.read(6)
    stream.seek(start)
    with contextlib.ExitStack() as stack:
        if magic.startswith(_GZIP):
            inner: IO[bytes] = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=stream)))
        elif magic.startswith(_BZIP2):
            inner = stack.enter_context(bz2.BZ2File(stream))
        elif magic.startswith(_XZ):
            inner = stack.enter_context(lzma.LZMAFile(stream))
        elif magic.startswith(_ZSTD):
            inner = stack.enter_context(_zstd(stream))
        else:
            inner = stream
        yield _Bounded(inner)


class _Bounded:
    """A stream that is neither endless nor damaged without a word."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = _MOST

    def read(self, size: int, /) -> bytes:
        try:
            block = self._stream.read(size)
        except (EOFError, OSError, RuntimeError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise FetchError(f"the archive is damaged: {error}") from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # Its module may not be there to name it.
                raise
            raise FetchError(f"the archive is damaged: {error}") from error
        self._left -= len(block)
        if self._left < 0:
            raise FetchError(f"the archive has more than {_MOST >> 30} GB")
        return block


@contextlib.contextmanager
def _zstd(stream: BinaryIO) -> Iterator[IO[bytes]]:
    for name in ("compression.zstd", "zstandard"):  # of Python 3.14 on; of PyPI
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            with module.open(stream, "rb") as inner:
                yield inner
            return
    for program in _PROGRAMS:
        if (path := shutil.which(program)) is not None:
            with piped([path, "-dcq"], stream) as inner:
                yield inner
            return
    raise NoZstdError


@contextlib.contextmanager
def piped(command: Sequence[str], stream: BinaryIO | None = None) -> Iterator[IO[bytes]]:
    """What a program writes to stdout, to which the rest of a file is given.

    It ends with this process: nobody reads from it any more, or writes to it.

    Arguments:
        command: the program and its arguments.
        stream: the file; None for a program that opens it by itself.
    """
    given = subprocess.DEVNULL if stream is None else subprocess.PIPE
    with subprocess.Popen(
        command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        feeder = threading.Thread(target=_feed, args=(stream, process.stdin), daemon=True)
        feeder.start()
        try:
            yield cast("IO[bytes]", _Output(process))
        finally:
            process.kill()
            feeder.join()


class _Output:
    """A program's output, whose end is only believed where the program ended well."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, size: int, /) -> bytes:
        block = cast("IO[bytes]", self._process.stdout).read(size)
        if not block and self._process.wait() != 0:
            said = cast("IO[bytes]", self._process.stderr).read(_BLOCK).decode(errors="replace")
            raise FetchError(f"the archive is damaged: {' '.join(said.split())}")
        return block


def _feed(stream: BinaryIO | None, pipe: IO[bytes] | None) -> None:
    if stream is not None and pipe is not None:
        with contextlib.suppress(OSError), pipe:  # It was told to end, or did by itself.
            shutil.copyfileobj(stream, pipe, _BLOCK)
