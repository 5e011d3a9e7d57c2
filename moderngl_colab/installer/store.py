"""Where installed drivers lie, each in a folder of its own that is there whole or not at all.

Whoever changes one holds a lock, which the kernel takes from a process that ends. What such a
process left half done is swept away by the next one.

Beside a folder ``NAME`` lie, while it is worked at: ``.NAME.lock``; ``.NAME.new``, what is to take
its place; ``.NAME.old``, what it was; and, until it is whole, ``.NAME.<sha256>.part``, a download.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, NamedTuple

from moderngl_colab import _files, _folder, _places
from moderngl_colab.installer.source import DriverInstallError

__all__ = [
    "Place",
    "begin",
    "commit",
    "held",
    "of_folder",
    "of_store",
    "remove",
    "sweep",
    "told",
]

_POLL = 0.2  # seconds
_LONGEST_WAIT = 1800.0  # seconds
_HIDDEN = re.compile(r"\.([\d.]+-\w+)\.(?:lock|new|old|[0-9a-f]{64}\.part)")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Place(NamedTuple):
    """Where one driver lies, or is to."""

    parent: str
    name: str
    ours: bool
    """Whether it is in the store, where whatever is hidden was made here; it is private there."""

    @property
    def folder(self) -> str:
        """Its path."""
        return os.path.join(self.parent, self.name)

    @property
    def scratch(self) -> str:
        """What is this process's alone while it holds the place."""
        return self.hidden("new")

    def hidden(self, ending: str) -> str:
        """The path of something beside it."""
        return os.path.join(self.parent, f".{self.name}.{ending}")


def of_store(name: str, environ: Mapping[str, str]) -> Place:
    """A place below ``XDG_DATA_HOME``.

    Raises:
        DriverInstallError: this user has no home folder.
    """
    parent = _places.store(environ)
    if parent is None:
        raise DriverInstallError(
            "this user has no home folder: set XDG_DATA_HOME to a folder of your own"
        )
    return Place(parent, name, ours=True)


def of_folder(path: str) -> Place:
    """A place that the user chose."""
    folder = os.path.realpath(os.path.expanduser(path))  # Or a link would be replaced.
    return Place(*os.path.split(folder), ours=False)


@contextlib.contextmanager
def told(place: Place) -> Iterator[None]:
    """What the file system refuses becomes an error of one line."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _FULL:
            raise DriverInstallError(
                f"there is no room for {place.folder}: {why}; nothing was changed"
            ) from error
        raise DriverInstallError(
            f"nothing can be written to {place.folder} ({why}): "
            + ("set XDG_DATA_HOME to" if place.ours else "choose")
            + " a folder of your own"
        ) from error


@contextlib.contextmanager
def held(place: Place, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep other processes from a place, and threads of this one.

    Arguments:
        place: which one.
        wait: told again and again who holds it; without it, nobody is waited for.

    Raises:
        DriverInstallError: another one holds it; or for half an hour, where it is waited for.
        OSError: the file system refuses a lock.
    """
    path, until = place.hidden("lock"), time.monotonic() + _LONGEST_WAIT
    _make_parent(place)
    while (lock := _lock(path)) is None:
        holder = f"process {_files.read_text(path).strip() or 'of another user'}"
        if wait is None or time.monotonic() > until:
            raise DriverInstallError(f"{holder} is installing {place.folder}")
        wait(f"waiting for {holder}, which installs {place.name}")
        time.sleep(_POLL)
    with lock:
        try:
            yield
        finally:
            os.unlink(path)


def _make_parent(place: Place) -> None:
    if not place.ours:
        _folder.make(place.parent)
        if os.stat(place.parent).st_mode & stat.S_IWOTH:  # Others could be first with a name.
            raise OSError(f"everybody can write to {place.parent}")
        return
    above = os.path.dirname(place.parent)
    for folder in (above, place.parent):
        os.close(_folder.private(*os.path.split(folder)))


def _lock(path: str) -> IO[bytes] | None:
    """The open lock; None where another one holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o600)
        lock = open(descriptor, "r+b", buffering=0)  # noqa: SIM115  - It is held, and returned.
        try:
            os.fchmod(descriptor, 0o600)  # A umask may have left less.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it has removed it since it was opened: another one is the lock by now.
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(lock.fileno())):
                lock.truncate(0)
                lock.write(b"%d\n" % os.getpid())
                return lock
        except BlockingIOError:
            lock.close()
            return None
        except BaseException:
            lock.close()
            raise
        lock.close()


def sweep(place: Place) -> None:
    """Remove what processes that ended left half done, and put back what they had put aside.

    Of downloads that broke off, the place's own are kept.

    Arguments:
        place: a place that is held.

    Raises:
        OSError: the file system refuses it.
    """
    _tidy(place)
    if not place.ours:
        return
    hidden = map(_HIDDEN.fullmatch, os.listdir(place.parent))
    for name in sorted({found[1] for found in hidden if found is not None} - {place.name}):
        other = place._replace(name=name)
        with contextlib.suppress(DriverInstallError), held(other):
            _tidy(other)
            _forget_downloads(other)


def _tidy(place: Place) -> None:
    old = place.hidden("old")
    if os.path.lexists(old) and not os.path.lexists(place.folder):
        os.rename(old, place.folder)
    for path in (old, place.scratch):
        if os.path.lexists(path):
            shutil.rmtree(path)


def _forget_downloads(place: Place) -> None:
    for name in _files.names(place.parent, f".{place.name}."):
        if name.endswith(".part"):
            os.unlink(os.path.join(place.parent, name))


def begin(place: Place) -> str:
    """Make an empty folder for libraries, in the scratch folder of a place that is held.

    Raises:
        OSError: the file system refuses it.
    """
    if os.path.lexists(place.scratch):
        shutil.rmtree(place.scratch)
    libraries = os.path.join(place.scratch, "libraries")
    for folder in (place.scratch, libraries):
        os.mkdir(folder)
        os.chmod(folder, 0o700)  # Whatever the umask is.
    return libraries


def commit(place: Place) -> None:
    """Put the folder that :func:`begin` made, with what is in it now, in its place.

    Raises:
        OSError: the file system refuses it; what was there before still is.
    """
    new, old = os.path.join(place.scratch, "libraries"), place.hidden("old")
    if not place.ours:
        os.chmod(new, 0o755)  # noqa: S103  - Other users' programs may be meant to have it.
    there = os.path.lexists(place.folder)
    if there:
        os.rename(place.folder, old)
    try:
        os.rename(new, place.folder)
    except OSError:
        if there:
            os.rename(old, place.folder)
        raise
    _tidy(place)
    _forget_downloads(place)


def remove(place: Place) -> None:
    """Remove what is at a place that is held.

    Raises:
        OSError: the file system refuses it.
    """
    os.rename(place.folder, os.path.join(begin(place), "removed"))
    _tidy(place)
    _forget_downloads(place)
