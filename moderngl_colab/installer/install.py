"""Installing the GL half of exactly the kernel module's version, for this user alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from moderngl_colab.installer import asked, record, store, unpack
from moderngl_colab.installer import place as places
from moderngl_colab.installer.place import Place
from moderngl_colab.installer.record import DriverInstall
from moderngl_colab.installer.source import (
    LICENCE,
    DriverInstallError,
    FetchError,
    NotOffered,
    Offer,
    Progress,
    Source,
    Wanted,
    one_line,
)
from moderngl_colab.options import refuse_foreign_systems

__all__ = ["install_driver", "offers"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def install_driver(  # noqa: PLR0913  - all but one have a default that most keep
    version: str | None = None,
    source: str | os.PathLike[str] | None = None,
    dest: str | os.PathLike[str] | None = None,
    *,
    accept_license: bool | Callable[[Offer], bool] = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> DriverInstall:
    """Install the driver's libraries for OpenGL beside the system's, without root.

    They go to ``XDG_DATA_HOME/moderngl_colab/driver/<version>-<machine>/``, where
    :func:`moderngl_colab.get_gpu_context` finds them as long as that is the kernel module's
    version. A version that is there already, and whole, is left as it is.

    Arguments:
        version: of the driver, for instance ``"550.54.15"``; the kernel module's by default.
        source: the path of a ``.run``, of a ``.deb``, or of a folder of packages or libraries; or
            ``"apt"`` or ``"nvidia"``, and no other is asked then. By default apt is asked, and
            then NVIDIA's archive.
        dest: a folder to install them to instead, which is empty, not there, or an earlier such
            installation; ``MODERNGL_COLAB_DRIVER_DIR`` may name it then.
        accept_license: whether NVIDIA's licence is accepted, without which nothing is fetched
            from NVIDIA; or who is asked for that, with what is about to be fetched, and says True.
        progress: told what is being done, how many bytes of it are done, and of how many.
        timeout: how long a server may be silent, in seconds, 86400 at most.

    Raises:
        DriverInstallError: it cannot be installed; what was there before still is.
        TypeError: an argument of a wrong type; `accept_license` is a bool or a function.
        ValueError: a `timeout` that is none.
        GPUContextError: this is not Linux.
    """
    refuse_foreign_systems()
    asked.check(version, timeout, accept_license=accept_license, progress=progress)
    source, dest = asked.path("source", source), asked.path("dest", dest)
    wanted = asked.wanted(version)
    place = asked.place(wanted, dest)
    sources = _sources(source, timeout, place)
    say = _callers(progress or _silence)
    accepts = _callers(accept_license if callable(accept_license) else lambda _: accept_license)
    try:
        with places.told(place):
            places.refuse_unloadable(place)
            if (there := _already(place, wanted)) is not None:
                return there
            asked.refuse_unusable(place)
            with store.held(place, lambda what: say(what, 0, None)):
                # It may have been waited for, or put back.
                if (there := _already(place, wanted)) is not None:
                    return there
                store.sweep(place)
                return _first_of(sources, wanted, place, accepts, say)
    except _CallersError as error:
        raise error.error from None


def offers(
    version: str | None = None,
    source: str | os.PathLike[str] | None = None,
    *,
    timeout: float = 30.0,
) -> tuple[tuple[str, Offer | str], ...]:
    """What each source has of a version, or why it has it not; nothing of the driver is fetched.

    Arguments:
        version: as for :func:`install_driver`.
        source: as for :func:`install_driver`.
        timeout: as for :func:`install_driver`.

    Returns:
        The sources' names in the order in which they would be tried, each with its offer, or with
        one line that says why there is none.

    Raises:
        DriverInstallError: the version cannot be told, or is none; or the source is none.
        TypeError, ValueError, GPUContextError: as for :func:`install_driver`.
    """
    refuse_foreign_systems()
    asked.check(version, timeout)
    source = asked.path("source", source)
    wanted, found = asked.wanted(version), []
    for each in _sources(source, timeout, None):
        offer: Offer | str
        try:
            offer = each.offer(wanted)
        except NotOffered as error:
            offer = str(error)
        found.append((each.name, offer))
    return tuple(found)


def _already(place: Place, wanted: Wanted) -> DriverInstall | None:
    there = record.whole(place.folder, wanted)
    if there is not None:
        # Where the kernel module's version is hidden, the last one is taken that was asked for.
        with contextlib.suppress(OSError):
            os.utime(place.folder)
    return there


def _sources(source: str | None, timeout: float, place: Place | None) -> list[Source]:
    from moderngl_colab.installer import apt, local, nvidia  # They import subprocess and urllib.

    kept = None if place is None else place.download
    every: dict[str, Source] = {
        "apt": apt.Apt(),
        "nvidia": nvidia.Archive(os.environ, kept, timeout),
    }
    if source is None:
        return [*every.values()]
    if source in every:
        return [every[source]]
    if "\0" in source or not os.path.exists(os.path.expanduser(source)):
        raise DriverInstallError(
            f"{source!r} is no source: it is to be {', '.join(every)}, or the path of a .run, of a "
            ".deb, or of a folder of packages or libraries"
        )
    return [local.Local(source)]


def _first_of(
    sources: Sequence[Source],
    wanted: Wanted,
    place: Place,
    accepts: Callable[[Offer], bool],
    say: Progress,
) -> DriverInstall:
    """Install from the first source that has it."""
    reasons = []
    for source in sources:
        try:
            say(f"asking {source.name}", 0, None)
            offer = source.offer(wanted)
            if offer.nvidias and accepts(offer) is not True:  # "no" is true, too.
                raise NotOffered(
                    f"{offer.what} is there, but NVIDIA's licence was not accepted ({LICENCE}): "
                    "pass accept_license=True (--accept-license)"
                )
            unpack.ensure_room(place.parent, offer.download or 0)
            if offer.download:
                say(f"to fetch: {offer.download / 1e6:.1f} MB", 0, offer.download)
            folder = store.begin(place)
            offer.fetch(folder, say)
            unpack.check(folder, wanted, offer.what)
            record.write(folder, wanted, offer)
            store.commit(place)
        except (NotOffered, FetchError) as error:
            notes = getattr(error, "__notes__", ())
            reasons.append(one_line("; ".join((f"{source.name}: {error}", *notes))))
            continue
        there = record.read(place.folder)
        if there is not None:
            return there._replace(fetched=True)
    numbered = "".join(f"\n  {n}. {reason}" for n, reason in enumerate(reasons, 1))
    raise DriverInstallError(
        f"nothing was installed; no source gave the libraries of exactly {wanted.version} for "
        f"{wanted.machine}:{numbered}"
        f"\n  possible: give the .run of {wanted.version}, its packages, or a folder with its "
        "libraries as source= (--from)"
    )


class _CallersError(Exception):
    """What the file system had no part in."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _callers(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """A function of the caller's, whose errors are the caller's, too."""

    def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
        try:
            return function(*arguments, **named)
        except OSError as error:
            raise _CallersError(error) from error

    return call


def _silence(what: str, done: int, total: int | None) -> None:
    pass
