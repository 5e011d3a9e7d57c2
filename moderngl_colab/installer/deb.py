"""Debian's packages, read without dpkg: an ar archive (deb(5)) that holds two tar archives."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

from moderngl_colab.installer import decompress, plain, tar, unpack
from moderngl_colab.installer.source import FetchError, Wanted

__all__ = ["control", "take"]

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes of an ar member's: name 16, times and owners 32, size 10, end 2
_MOST_MEMBERS = 16
_LARGEST_CONTROL = 1 << 20


class _Part:
    """One member of an ar archive."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._start, self._end = stream, stream.tell(), stream.tell() + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._stream.tell()
        return self._stream.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: self._start, io.SEEK_CUR: self._stream.tell()}[whence]
        return self._stream.seek(start + offset) - self._start

    def tell(self) -> int:
        return self._stream.tell() - self._start


def control(path: str) -> Mapping[str, str]:
    """A package's control fields that take one line, such as ``Package`` and ``Version``.

    Raises:
        FetchError: it is no package, or damaged.
        OSError: it cannot be read.
    """
    with _opened(path, "control.tar", "--ctrl-tarfile") as content:
        text = _control_file(content)
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith(" "))
    return {key: value.strip() for key, colon, value in pairs if colon}


def take(path: str, folder: str, wanted: Wanted) -> None:
    """Take the libraries out of a package.

    Arguments:
        path: the package.
        folder: where they are put.
        wanted: which they have to be.

    Raises:
        FetchError: it is no package, or damaged.
        OSError: the file system refuses something.
    """
    with _opened(path, "data.tar", "--fsys-tarfile") as content:
        unpack.from_tar(content, folder, wanted, of_a_system=True)


@contextlib.contextmanager
def _opened(path: str, part: str, option: str) -> Iterator[tar.Readable]:
    """One of a package's two archives, no more compressed; `option` is dpkg-deb's for it."""
    with contextlib.ExitStack() as stack:
        stream = _find(stack.enter_context(plain.opened(path)), part)
        try:
            content = stack.enter_context(decompress.opened(stream))
        except decompress.NoZstdError:  # Ubuntu's are, and its dpkg reads it by itself.
            if (program := shutil.which("dpkg-deb")) is None:
                raise
            content = stack.enter_context(decompress.piped([program, option, path]))
        yield content


def _find(stream: BinaryIO, prefix: str) -> BinaryIO:
    if stream.read(len(_MAGIC)) == _MAGIC:
        for _ in range(_MOST_MEMBERS):
            header = stream.read(_HEADER)
            name, size = header[:16].decode("ascii", "replace"), header[48:58].strip()
            if len(header) < _HEADER or not size.isdigit():
                break
            if name.startswith(prefix):
                return cast("BinaryIO", _Part(stream, int(size)))
            stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise FetchError(f"it is no Debian package: it has no {prefix}")


def _control_file(stream: tar.Readable) -> str:
    for member, content in tar.members(stream):
        if member.name.removeprefix("./") == "control" and content is not None:
            return content.read(_LARGEST_CONTROL).decode(errors="replace")
    raise FetchError("the package is damaged: it has no control file")
