"""The members of a tar archive, read once from its beginning to its end, and none that is hostile.

`tarfile` reads what comes; here whatever could be written elsewhere is refused with the archive.
"""

from __future__ import annotations

import contextlib
import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, Protocol, cast

from moderngl_colab.installer.source import FetchError

__all__ = ["Member", "Readable", "members"]

_LONGEST_NAME = 1 << 16
_LARGEST = 4 << 30  # of a member, in bytes; tarfile would look for its end for ever
# Members that say something about the next one, and that tarfile reads whole.
_ABOUT_OTHERS = b"LKxXg"


class Readable(Protocol):
    """What gives the bytes of an archive in their order."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, `size` at most; none at the end."""
        ...


class Member(tarfile.TarInfo):
    """One whose name is no longer than names are."""

    # The one step that all of Python's ways of reading a header have, for subclasses to override.
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _ABOUT_OTHERS and self.size > _LONGEST_NAME):
            raise FetchError(f"the archive is damaged: a name of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def members(
    stream: Readable, *, of_a_system: bool = False
) -> Iterator[tuple[tarfile.TarInfo, Readable | None]]:
    """Each member with its content, which has to be read before the next one is asked for.

    Arguments:
        stream: the archive, no more compressed.
        of_a_system: whether its paths are a system's, whose links may be absolute.

    Returns:
        The content is None where a member is no plain file.

    Raises:
        FetchError: the archive is damaged, or has a member that leads out of it.
    """
    with (
        _told(),
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=Member) as archive,
    ):
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # It would keep them all.
            if not 0 <= member.size <= _LARGEST:
                raise FetchError("the archive is damaged: a member has an impossible size")
            _refuse_hostile(member, of_a_system)
            plain = member.isreg() and not member.issparse()
            content = archive.extractfile(member) if plain else None
            yield member, None if content is None else _Content(content)


class _Content:
    """What a member contains."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        with _told():
            return self._stream.read(size)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What tarfile says of a damaged archive becomes a :class:`FetchError`."""
    try:
        yield
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise FetchError(f"the archive is damaged: {error}") from error
    # What says something about the next member may say it of another such one, and so on.
    except (RecursionError, IndexError) as error:
        raise FetchError("the archive is damaged: its headers make no sense") from error


def _refuse_hostile(member: tarfile.TarInfo, of_a_system: bool) -> None:
    if _leads_out(member.name):
        raise FetchError(f"the archive has a member that lies outside it: {member.name!r}")
    if member.issym() or member.islnk():
        target = member.linkname
        if member.issym() and not target.startswith("/"):
            target = posixpath.join(posixpath.dirname(member.name), target)
        absolute = member.issym() and target.startswith("/")
        if _leads_out(target) and not (absolute and of_a_system):
            raise FetchError(
                f"the archive has a link that leads out of it: {member.name!r} to "
                f"{member.linkname!r}"
            )
    elif not (member.isreg() or member.isdir()):
        raise FetchError(f"the archive has a member that is no file: {member.name!r}")


def _leads_out(path: str) -> bool:
    return path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."
