"""Where one installed driver lies, and the lock of whoever changes it.

The kernel takes the lock from a process that ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, NamedTuple

from moderngl_colab import _files, _folder, _places
from moderngl_colab.installer.source import DriverInstallError

__all__ = ["FULL", "Place", "locked", "of_folder", "of_store", "refuse_unloadable", "told"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system call says where there is no room."""

_POLL = 0.2  # seconds
_LONGEST_WAIT = 1800.0  # seconds
_TRIES = 100  # of making a folder that others may remove: each time one of them is done
# What the loader replaces in a path that is given to dlopen(3): ld.so(8).
_TOKEN = re.compile(r"\$(?:(?:ORIGIN|LIB|PLATFORM)(?!\w)|\{(?:ORIGIN|LIB|PLATFORM)\})", re.ASCII)
_SEPARATOR = re.compile(r"[:;]")  # of the folders in LD_LIBRARY_PATH, where nothing escapes one


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
    """What the file system refuses becomes an error of one line, with the notes it has."""
    try:
        yield
    except OSError as error:
        why = "; ".join((error.strerror or str(error), *getattr(error, "__notes__", ())))
        if error.errno in FULL:
            raise DriverInstallError(
                f"there is no room for {place.folder}: {why}; nothing was installed"
            ) from error
        raise DriverInstallError(
            f"nothing can be installed in {place.folder} ({why}): "
            + ("set XDG_DATA_HOME to" if place.ours else "choose")
            + " another folder of your own"
        ) from error


def refuse_unloadable(place: Place) -> None:
    """Refuse a place from which the loader would take no library.

    Raises:
        OSError: its path is none to the loader, or its file system is mounted ``noexec``.
    """
    path = place.folder
    if (found := _TOKEN.search(path)) is not None:
        raise OSError(f"no library can be loaded from there: the loader replaces {found[0]}")
    if (found := _SEPARATOR.search(path)) is not None:
        raise OSError(f"no LD_LIBRARY_PATH can name it: the loader splits one at {found[0]!r}")
    while not os.path.exists(path):
        path = os.path.dirname(path)
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        raise OSError("no library can be loaded from there: it is mounted noexec")


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
        pid = _files.read_text(path).strip()
        holder = f"process {pid}" if pid else "another process"
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
    tries = _TRIES
    while True:
        try:
            os.close(_folder.private(*os.path.split(place.scratch)))
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:  # Whoever held it may have just removed the folder.
            if not (tries := tries - 1):
                raise
            continue
        lock = open(descriptor, "r+b", buffering=0)  # noqa: SIM115  - It is held, and returned.
        try:
            os.fchmod(descriptor, 0o600)  # A umask may have left less.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it has removed it since it was opened: another one is the lock by now.
            if _is_still(path, lock):
                with contextlib.suppress(OSError):  # On a full disk its holder has no name.
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
