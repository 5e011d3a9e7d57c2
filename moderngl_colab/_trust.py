"""Who, beside root and this user, could put another library in the place of one.

The loader searches the directories that it was told of when the process began, and whoever may
write there has the process already. Here more of them are searched. What lies in one of those is
only taken where nobody else can have put it there.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from moderngl_colab import _files

__all__ = ["Breach", "breach"]

_MOST_LINKS = 40  # as the kernel follows (path_resolution(7))
_EVERY_ID = 0xFFFFFFFF  # how many a user namespace maps that maps all of them


class Breach(NamedTuple):
    """A file or folder by which somebody else could replace a library."""

    path: str
    owner: int
    """The user whose it is."""
    everybody: bool
    """Whether everybody may write to it; else it is `owner` who could."""

    def __str__(self) -> str:
        if self.everybody:
            return f"{self.path} can be written to by everybody"
        return f"{self.path} belongs to user {self.owner}"


def breach(path: str) -> Breach | None:
    """The first one on the way to a file; None where only root and this user could replace it.

    Whoever is in the group of a folder is trusted as far as it is: many systems give each user a
    group of his own and a umask to match, and some give ``/usr/local`` to the group ``staff``.

    Raises:
        OSError: the file cannot be reached.
    """
    trusted = {0, os.geteuid(), *_unmapped_root()}
    for at, status in _way(path):
        mode = status.st_mode
        if status.st_uid not in trusted:
            return Breach(at, status.st_uid, everybody=False)
        # In a sticky folder nobody can rename what is another's. A link's own mode means nothing.
        safe = stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)
        if mode & stat.S_IWOTH and not safe:
            return Breach(at, status.st_uid, everybody=True)
    return None


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Each folder and link below ``/`` by which a file is reached, and the file itself."""
    at, links, left = "/", 0, path.split("/")[::-1]
    while left:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)
        if name in ("", ".", ".."):
            continue
        at = os.path.join(at, name)
        status = os.lstat(at)
        yield at, status
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            left += os.readlink(at).split("/")[::-1]
            at = os.path.dirname(at) if left[-1] else "/"


@functools.cache
def _unmapped_root() -> tuple[int, ...]:
    """As whom the host's root shows in a user namespace without it, as rootless containers are.

    Every other user without a place in it shows as the same one: there they cannot be told apart.
    """
    ids = _files.read("/proc/self/uid_map").split()
    if not ids or int(ids[2]) == _EVERY_ID:
        return ()
    return tuple(map(int, _files.read("/proc/sys/kernel/overflowuid").split()))
