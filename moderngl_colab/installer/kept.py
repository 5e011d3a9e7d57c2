"""What is below ``XDG_DATA_HOME``, installed or half done: listed, and removed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from moderngl_colab import _files, _kernel, _places
from moderngl_colab.installer import place as places
from moderngl_colab.installer import record, store
from moderngl_colab.installer.place import Place
from moderngl_colab.installer.record import DriverInstall
from moderngl_colab.installer.source import DriverInstallError, one_line

__all__ = ["Unfinished", "installed", "remove", "unfinished"]


class Unfinished(NamedTuple):
    """What came of an installation that broke off, or is still under way."""

    version: str
    """For instance ``"550.54.15"``."""
    machine: str
    """For which processors."""
    folder: str
    """Where it lies."""
    bytes: int
    """What its files have together."""

    def __str__(self) -> str:
        has = f"an installation that is not finished, {self.bytes / 1e6:.0f} MB"
        return one_line(f"{self.version} for {self.machine}: {has} in {self.folder}")


def installed(environ: Mapping[str, str] = os.environ) -> tuple[DriverInstall, ...]:
    """What is installed, for every machine that shares the folder.

    Arguments:
        environ: where ``XDG_DATA_HOME`` is read.

    Returns:
        What cannot be told of, because it is damaged, has no files.
    """
    parent = _places.store(environ)
    found = []
    for name in [] if parent is None else _files.names(parent):
        version, _, machine = name.rpartition("-")
        if _kernel.is_version(version):
            folder = os.path.join(str(parent), name)
            there = record.read(folder)
            found.append(there or DriverInstall(version, machine, folder, "", "", 0, ()))
    return tuple(found)


def unfinished(environ: Mapping[str, str] = os.environ) -> tuple[Unfinished, ...]:
    """What is not installed yet, such as downloads that broke off; as for :func:`installed`."""
    parent = _places.store(environ)
    found = []
    for name, size in ({} if parent is None else store.unfinished(parent)).items():
        version, _, machine = name.rpartition("-")
        if _kernel.is_version(version):
            folder = places.of_store(name, environ).scratch
            found.append(Unfinished(version, machine, folder, size))
    return tuple(found)


def remove(version: str, environ: Mapping[str, str] = os.environ) -> DriverInstall | Unfinished:
    """Remove what there is of one version, for this machine, whatever became of it.

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
    ending = f"-{machine}"
    name = version + ending
    whole = {os.path.basename(each.folder): each for each in installed(environ)}
    half = {f"{each.version}-{each.machine}": each for each in unfinished(environ)}
    there = whole.get(name) or half.get(name)
    if there is None:
        has = ", ".join(name.removesuffix(ending) for name in whole if name.endswith(ending))
        raise DriverInstallError(
            f"{version!r} is not installed for {machine}; what is: {has or 'nothing'}"
        )
    at = places.of_store(name, environ)
    try:
        _remove(at)
    except OSError as error:
        raise DriverInstallError(
            f"{at.folder} cannot be removed: {error.strerror or error}"
        ) from error
    return there


def _remove(at: Place) -> None:
    while True:
        try:
            with store.held(at):
                store.remove(at)
                return
        except OSError as error:
            # Where there is no room for a lock nobody has one, and what goes anyway makes it.
            if error.errno not in places.FULL or not store.make_room(at):
                raise
