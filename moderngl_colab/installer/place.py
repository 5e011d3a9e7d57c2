"""Where one installed driver lies, and the lock of whoever changes it.

The kernel takes the lock from a process that ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, NamedTuple

from moderngl_colab import _files, _folder, _places
from moderngl_colab.installer.source import DriverInstallError

__all__ = ["Place", "locked", "of_folder", "of_store", "told"]

_POLL = 0.2  # seconds
_LONGEST_WAIT = 1800.0  # seconds
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
        """The folder of this library's own beside it."""
        return os.path.join(self.parent, f".{self.name}.moderngl_colab")

    @property
    def download(self) -> str:
        """How the paths of downloads begin."""
        return os.path.join(self.scratch, "download")


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
def locked(place: Place, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep other processes from a place, and threads of this one.

    Arguments:
        place: which one.
        wait: told again and again who holds it; without it, nobody is waited for.

    Raises:
        DriverInstallError: another one holds it; or for half an hour, where it is waited for.
        OSError: the file system refuses a lock.
    """
    path, until = os.path.join(place.scratch, "lock"), time.monotonic() + _LONGEST_WAIT
    _make_parent(place)
    while (lock := _lock(place, path)) is None:
        holder = f"process {_files.read_text(path).strip() or 'of another user'}"
        if wait is None or time.monotonic() > until:
            raise DriverInstallError(f"{holder} is at work on {place.folder}")
        wait(f"waiting for {holder}, which is at work on {place.name}")
        time.sleep(_POLL)
    with lock:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
                os.rmdir(place.scratch)  # It is kept for what can be continued.


def _make_parent(place: Place) -> None:
    if not place.ours:
        _folder.make(place.parent)
        if os.stat(place.parent).st_mode & stat.S_IWOTH:  # Others could be first with a name.
            raise OSError(f"everybody can write to {place.parent}")
        return
    above = os.path.dirname(place.parent)
    for folder in (above, place.parent):
        os.close(_folder.private(*os.path.split(folder)))


def _lock(place: Place, path: str) -> IO[bytes] | None:
    """The open lock; None where another one holds it."""
    import fcntl  # Windows has none.

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            os.close(_folder.private(*os.path.split(place.scratch)))
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:  # Whoever held it has just removed the folder.
            continue
        lock = open(descriptor, "r+b", buffering=0)  # noqa: SIM115  - It is held, and returned.
        try:
            os.fchmod(descriptor, 0o600)  # A umask may have left less.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it has removed it since it was opened: another one is the lock by now.
            if _is_still(path, lock):
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


def _is_still(path: str, lock: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
