"""What is installed below ``XDG_DATA_HOME``: listed, and removed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderngl_colab import _files, _kernel, _places
from moderngl_colab.installer import place as places
from moderngl_colab.installer import record, store
from moderngl_colab.installer.record import DriverInstall
from moderngl_colab.installer.source import DriverInstallError

__all__ = ["installed", "remove"]


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


def remove(version: str, environ: Mapping[str, str] = os.environ) -> DriverInstall:
    """Remove what is installed of one version, for this machine, whatever became of it.

    Programs that have its libraries open keep them until they end.

    Arguments:
        version: for instance ``"550.54.15"``.
        environ: where ``XDG_DATA_HOME`` is read.

    Returns:
        What was there.

    Raises:
        DriverInstallError: it is not there, or is being installed now, or cannot be removed.
    """
    ending = f"-{os.uname().machine}"
    names = {os.path.basename(each.folder): each for each in installed(environ)}
    there = {name.removesuffix(ending): names[name] for name in names if name.endswith(ending)}
    if version not in there:
        has = ", ".join(there) or "nothing"
        raise DriverInstallError(f"{version!r} is not installed; what is: {has}")
    at = places.of_store(f"{version}{ending}", environ)
    with places.told(at), store.held(at):
        store.remove(at)
    return there[version]
