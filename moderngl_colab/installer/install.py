"""Installing the GL half of exactly the kernel module's version, for this user alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence

from moderngl_colab import _files, _kernel, _nvml, _places
from moderngl_colab.installer import record, store, unpack
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
)

__all__ = ["install_driver", "installed", "offers", "remove"]

_MACHINES = ("x86_64", "aarch64")


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
            from NVIDIA; or who is asked for that, with what is about to be fetched.
        progress: told what is being done, how many bytes of it are done, and of how many.
        timeout: how long a server may be silent, in seconds.

    Raises:
        DriverInstallError: it cannot be installed; what was there before still is.
    """
    wanted = _wanted(version)
    say = progress or _silence
    place = _place(wanted, dest)
    if (there := record.whole(place.folder, wanted)) is not None:
        return there
    with store.told(place), store.held(place, lambda what: say(what, 0, None)):
        store.sweep(place)
        # It may have been waited for.
        if (there := record.whole(place.folder, wanted)) is not None:
            return there
        _refuse_noexec(place)
        sources = _sources(source, timeout, place)
        try:
            return _first_of(sources, wanted, place, accept_license, say)
        finally:
            shutil.rmtree(place.scratch, ignore_errors=True)


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
    """
    wanted, found = _wanted(version), []
    for each in _sources(source, timeout, None):
        offer: Offer | str
        try:
            offer = each.offer(wanted)
        except NotOffered as error:
            offer = str(error)
        found.append((each.name, offer))
    return tuple(found)


def installed(environ: Mapping[str, str] = os.environ) -> tuple[DriverInstall, ...]:
    """What is installed below ``XDG_DATA_HOME``, for every machine that shares it.

    Arguments:
        environ: where ``XDG_DATA_HOME`` is read.
    """
    parent = _places.store(environ)
    names = [] if parent is None else _files.names(parent)
    found = (record.read(os.path.join(str(parent), name)) for name in names)
    return tuple(each for each in found if each is not None)


def remove(version: str, environ: Mapping[str, str] = os.environ) -> DriverInstall:
    """Remove what is installed below ``XDG_DATA_HOME`` of one version, for this machine.

    Programs that have its libraries open keep them until they end.

    Arguments:
        version: for instance ``"550.54.15"``.
        environ: where ``XDG_DATA_HOME`` is read.

    Returns:
        What was there.

    Raises:
        DriverInstallError: it is not there, or is being installed now, or cannot be removed.
    """
    machine = os.uname().machine
    there = {each.version: each for each in installed(environ) if each.machine == machine}
    if version not in there:
        has = ", ".join(there) or "nothing"
        raise DriverInstallError(f"{version!r} is not installed; what is: {has}")
    place = store.of_store(os.path.basename(there[version].folder), environ)
    with store.told(place), store.held(place):
        store.remove(place)
    return there[version]


def _wanted(version: str | None) -> Wanted:
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise DriverInstallError(f"there is no such driver for {machine}, but for x86_64, aarch64")
    if version is None:
        version = _kernel.version()
    if version is None:
        answer = _nvml.ask()
        version = answer.driver
        if version is None:
            raise DriverInstallError(
                f"which version is wanted cannot be told: no NVIDIA kernel module is loaded, and "
                f"{answer}: say version=, such as 550.54.15"
            )
    if not _kernel.is_version(version):
        raise DriverInstallError(
            f"{version!r} is no version of NVIDIA's driver; they are written like 550.54.15"
        )
    return Wanted(version, machine)


def _place(wanted: Wanted, dest: str | os.PathLike[str] | None) -> store.Place:
    if dest is None:
        return store.of_store(str(wanted), os.environ)
    place = store.of_folder(os.fspath(dest))
    with store.told(place), contextlib.suppress(FileNotFoundError):
        if not record.is_all(place.folder):
            raise DriverInstallError(f"{place.folder} has files that no installation put there")
    return place


def _refuse_noexec(place: store.Place) -> None:
    if os.statvfs(place.parent).f_flag & os.ST_NOEXEC:
        raise OSError("no library may be loaded from there: it is mounted noexec")


def _sources(
    source: str | os.PathLike[str] | None, timeout: float, place: store.Place | None
) -> list[Source]:
    from moderngl_colab.installer import apt, local, nvidia  # They import subprocess and urllib.

    kept = None if place is None else place.hidden("")[:-1]
    every: dict[str, Source] = {
        "apt": apt.Apt(),
        "nvidia": nvidia.Archive(os.environ, kept, timeout),
    }
    if source is None:
        return [*every.values()]
    name = os.fspath(source)
    if name in every:
        return [every[name]]
    if not os.path.exists(os.path.expanduser(name)):
        raise DriverInstallError(
            f"{name!r} is no source: it is to be {', '.join(every)}, or the path of a .run, of a "
            ".deb, or of a folder of packages or libraries"
        )
    return [local.Local(name)]


def _first_of(
    sources: Sequence[Source],
    wanted: Wanted,
    place: store.Place,
    accept_license: bool | Callable[[Offer], bool],
    say: Progress,
) -> DriverInstall:
    """Install from the first source that has it."""
    reasons = []
    for source in sources:
        try:
            say(f"asking {source.name}", 0, None)
            offer = source.offer(wanted)
            if offer.nvidias:
                _refuse_unaccepted(offer, accept_license)
            unpack.ensure_room(place.parent, offer.download or 0)
            folder = store.begin(place)
            offer.fetch(folder, say)
            unpack.check(folder, wanted)
            record.write(folder, wanted, offer)
            store.commit(place)
        except (NotOffered, FetchError) as error:
            reasons.append(f"{source.name}: {error}")
            continue
        there = record.read(place.folder)
        if there is not None:
            return there._replace(fetched=True)
    numbered = "".join(f"\n  {n}. {reason}" for n, reason in enumerate(reasons, 1))
    raise DriverInstallError(
        f"no source has the libraries of exactly {wanted.version} for {wanted.machine}:{numbered}"
        f"\n  possible: give the .run of {wanted.version}, its packages, or a folder with its "
        "libraries as source= (--from)"
    )


def _refuse_unaccepted(offer: Offer, accept_license: bool | Callable[[Offer], bool]) -> None:
    accepted = accept_license(offer) if callable(accept_license) else accept_license
    if not accepted:
        raise NotOffered(
            f"{offer.what} is there, but NVIDIA's licence was not accepted ({LICENCE}): "
            "pass accept_license=True (--accept-license)"
        )


def _silence(what: str, done: int, total: int | None) -> None:
    pass
