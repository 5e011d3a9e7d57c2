"""Where installed drivers lie, each in a folder of its own that is there whole or not at all.

Whoever changes one holds its lock. What a process that ended left half done is swept away by the
next one.

Beside a folder ``NAME`` lies, while it is worked at, a folder of this library's own, which is this
user's alone, ``.NAME.moderngl_colab``. It has ``lock``; ``new``, what is to take NAME's place, and
then what it was; ``old``, the same in between, where two folders cannot be exchanged at once; and
``download.<sha256>.part``, a download until it is unpacked. Nothing else is ever removed.
A removal makes no more than that folder and its ``lock``: the disk may be full.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator

from moderngl_colab import _files
from moderngl_colab._process import declare
from moderngl_colab.installer import plain
from moderngl_colab.installer.place import Place, locked
from moderngl_colab.installer.source import DriverInstallError

__all__ = ["begin", "commit", "held", "make_room", "remove", "sweep", "unfinished"]

_SCRATCH = re.compile(r"\.([\d.]+-\w+)\.moderngl_colab")
_PART = re.compile(r"download\.[0-9a-f]{64}\.part")
_LEFT_ALONE = 7 * 86400.0  # seconds; who shares a store may go on with a download
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, and renameat2(2): Linux 3.15


@contextlib.contextmanager
def held(place: Place, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep others from a place, where nothing is half done then; see :func:`place.locked`.

    Arguments:
        place: which one.
        wait: told again and again who holds it; without it, nobody is waited for.

    Raises:
        DriverInstallError: another one holds it; or for half an hour, where it is waited for.
        OSError: the file system refuses something.
    """
    with locked(place, wait):
        try:
            _settle(place)
            yield
        finally:
            shutil.rmtree(_new(place), ignore_errors=True)


def _new(place: Place) -> str:
    return os.path.join(place.scratch, "new")


def _old(place: Place) -> str:
    return os.path.join(place.scratch, "old")


def _settle(place: Place) -> None:
    """Put back what a process that ended had put aside, and remove what it left half done."""
    old, new = _old(place), _new(place)
    if os.path.lexists(new):
        shutil.rmtree(new)
    if os.path.lexists(old):
        if os.path.lexists(place.folder):  # It was replaced.
            _discard(old, new)
        else:
            os.rename(old, place.folder)


def _discard(path: str, new: str) -> None:
    """Remove whatever is there, at once: a folder is put at the path of what is swept away."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        _make_movable(path)
        os.rename(path, new)
        shutil.rmtree(new)
    else:
        os.unlink(path)


def _make_movable(path: str) -> None:
    """Give this user the right to write to a folder: without it, it is not moved to another one."""
    with contextlib.suppress(OSError):  # It is not there, or another user's; the move tells it.
        if stat.S_ISDIR(mode := os.lstat(path).st_mode):
            os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)


def unfinished(parent: str) -> dict[str, int]:
    """What is not finished in a store, whether or not somebody is still at work on it.

    Arguments:
        parent: the store.

    Returns:
        The places' names, with how many bytes lie in the scratch folder of each.
    """
    found = {}
    for scratch in filter(None, map(_SCRATCH.fullmatch, _files.names(parent))):
        folder = os.path.join(parent, scratch[0])
        if {*_files.names(folder)} - {"lock"}:
            found[scratch[1]] = sum(map(plain.size, _files_below(folder)))
    return found


def _files_below(folder: str) -> Iterator[str]:
    for at, _, names in os.walk(folder):
        yield from (os.path.join(at, name) for name in names)


def sweep(place: Place) -> None:
    """Remove what processes that ended left of other versions in the store, and old downloads.

    A download is old when nothing came of it for a week: another host may go on with it.

    Arguments:
        place: one that is held; what it has itself is kept.
    """
    if not place.ours:
        return
    scratches = filter(None, map(_SCRATCH.fullmatch, _files.names(place.parent)))
    for name in {found[1] for found in scratches} - {place.name}:
        other = place._replace(name=name)
        # What cannot be removed there is in nobody's way here.
        with contextlib.suppress(DriverInstallError, OSError), held(other):
            _forget_downloads(other, time.time() - _LEFT_ALONE)


def _forget_downloads(place: Place, before: float = math.inf) -> None:
    """Remove the downloads that were last written to before a time."""
    for path in _downloads(place):
        if os.lstat(path).st_mtime < before:
            os.unlink(path)


def _downloads(place: Place) -> list[str]:
    names = filter(_PART.fullmatch, _files.names(place.scratch))
    return [os.path.join(place.scratch, name) for name in names]


def begin(place: Place) -> str:
    """Make an empty folder for libraries, in the scratch folder of a place that is held.

    Raises:
        OSError: the file system refuses it.
    """
    new = _new(place)
    if os.path.lexists(new):
        shutil.rmtree(new)
    libraries = os.path.join(new, "libraries")
    for folder in (new, libraries):
        os.mkdir(folder)
        os.chmod(folder, 0o700)  # Whatever the umask is.
    return libraries


def commit(place: Place) -> None:
    """Put the folder that :func:`begin` made, with what is in it now, in its place.

    Raises:
        OSError: the file system refuses it; what was there before still is.
    """
    libraries = os.path.join(_new(place), "libraries")
    if not place.ours:
        os.chmod(libraries, 0o755)  # noqa: S103  - Other users' programs may be meant to have it.
    _make_movable(place.folder)
    if not os.path.lexists(place.folder):
        os.rename(libraries, place.folder)
    elif not _exchange(libraries, place.folder):
        old = _old(place)
        try:
            os.rename(place.folder, old)
            os.rename(libraries, place.folder)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(place.folder):
                os.rename(old, place.folder)
            raise
        os.rename(old, libraries)
    _forget_downloads(place)


def _exchange(one: str, other: str) -> bool:
    """Exchange two paths at once; whether this system and its file system can do it."""
    try:
        renameat2 = declare(
            ctypes.CDLL(None).renameat2, ctypes.c_int, ctypes.c_int, ctypes.c_char_p,
            ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
        )  # fmt: skip
    except AttributeError:  # glibc before 2.28
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return bool(renameat2(*paths, _RENAME_EXCHANGE) == 0)


def remove(place: Place) -> None:
    """Remove whatever is at a place that is held, and what was to be there.

    Raises:
        OSError: the file system refuses it.
    """
    if os.path.lexists(place.folder):
        _discard(place.folder, _new(place))
    _forget_downloads(place)


def make_room(place: Place) -> bool:
    """Remove one file of what is to be removed anyway, so that there is room to lock the rest.

    Returns:
        Whether there was one.

    Raises:
        OSError: the file system refuses it.
    """
    _make_movable(place.folder)
    installed = () if os.path.islink(place.folder) else _files_below(place.folder)
    for path in (*installed, *_downloads(place)):
        os.unlink(path)
        return True
    return False
