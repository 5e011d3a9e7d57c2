"""The exact version from the archives of this system, without root, and the system as it was."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence

from moderngl_colab import _files
from moderngl_colab.diagnostics import packages
from moderngl_colab.diagnostics.packages import Package
from moderngl_colab.installer import deb, plain, unpack
from moderngl_colab.installer.private_apt import PrivateApt
from moderngl_colab.installer.source import FetchError, NotOffered, Offer, Progress, Wanted

__all__ = ["Apt"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What has packages of its own: in Debian all of these, in NVIDIA's archive from 575 on gpucomp.
_PART = re.compile(r"libnvidia-(.+-)?(eglcore|glcore|glsi|tls|gpucomp|glvkspirv)(-.+)?")
_MOST_NAMED = 4


class Apt:
    """Packages of the driver in the archives that this system's apt knows.

    Arguments:
        patience: how long it may take until they are known, and how long nothing may come while
            they are fetched, in seconds.
    """

    name = "apt"

    def __init__(self, patience: float = 300.0) -> None:
        self._patience = patience

    def offer(self, wanted: Wanted) -> Offer:
        """Look for packages of exactly that version.

        Raises:
            NotOffered: there are none.
        """
        architecture = _ARCHITECTURES.get(wanted.machine)
        if architecture is None:
            raise NotOffered(f"NVIDIA's driver has no packages for {wanted.machine}")
        for tool in ("apt-get", "apt-cache"):
            if shutil.which(tool) is None:
                raise NotOffered(f"{tool} is not on the PATH")
        try:
            with contextlib.ExitStack() as unless_offered:
                apt = PrivateApt(architecture, self._patience)
                unless_offered.callback(apt.remove)
                found = _with_parts(apt, _packages(apt, wanted), wanted)
                unless_offered.pop_all()
        except OSError as error:
            raise NotOffered(f"apt cannot be asked: {error}") from error

        def fetch(folder: str, progress: Progress) -> None:
            try:
                _fetch(apt, found, folder, wanted, progress)
            finally:
                apt.remove()

        size = sum(package.size for package in found)
        return Offer(self.name, " ".join(map(str, found)), size, nvidias=False, fetch=fetch)


def _packages(apt: PrivateApt, wanted: Wanted) -> list[Package]:
    failure = apt.update()
    # Of several archives one may have failed, and not the one that counts.
    names = [name for group in packages.alternatives(wanted.version) for name in group]
    try:
        there = apt.show(names)
    except NotOffered as error:
        raise NotOffered(failure or str(error)) from error
    if found := packages.chosen(there, wanted.version):
        return found
    if there:
        reason = f"apt has no package of {wanted.version}; it has {_others(there, wanted.version)}"
        raise NotOffered(f"{reason}; {failure}" if failure else reason)
    raise NotOffered(failure or f"no archive that apt knows has a package like {names[0]}")


def _others(there: Sequence[Package], version: str) -> str:
    """What there is instead, in words: first what looks as if it were that version."""
    newest = {package.name: package for package in reversed(there)}
    alike = [package for package in there if package.upstream == version]
    named = [*dict.fromkeys([*alike, *newest.values()])]
    more = len(named) - _MOST_NAMED
    said = [_as_it_is(package) for package in named[:_MOST_NAMED]]
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def _as_it_is(package: Package) -> str:
    branch = re.search(r"-(\d{3,})", package.name)
    if package.stands_for is not None:
        return f"{package} (a stub in place of {package.stands_for})"
    if branch and branch[1] != package.upstream.partition(".")[0]:
        return f"{package} (a stub that brings {package.upstream})"
    return str(package)


def _with_parts(apt: PrivateApt, found: list[Package], wanted: Wanted) -> list[Package]:
    """The packages, and with them what they depend on that holds libraries of the half."""
    whole = {package.name: package for package in found}
    asked, new = {*whole}, found
    while names := sorted({need for each in new for need in each.needs} - asked):
        asked |= {*names}
        names = [name for name in names if _PART.fullmatch(name)]
        there = [each for each in apt.show(names) if each.upstream == wanted.version]
        # Where an archive has several revisions, they were made together.
        there.sort(key=lambda package: package.version != found[0].version)
        parts = {package.name: package for package in reversed(there)}
        whole |= parts
        new = [*parts.values()]
    return [*whole.values()]


def _fetch(
    apt: PrivateApt, found: Sequence[Package], folder: str, wanted: Wanted, progress: Progress
) -> None:
    pool = os.path.join(os.path.dirname(folder), "apt")
    os.mkdir(pool, 0o700)
    size = sum(package.size for package in found)
    unpack.ensure_room(pool, size)

    came = 0

    def watch() -> bool:
        nonlocal came
        before = came
        came = sum(plain.size(os.path.join(pool, name)) for name in _files.names(pool))
        progress("downloading", came, size)
        return came != before

    failure = apt.download(found, pool, watch)
    if failure is not None:
        raise FetchError(failure)
    watch()
    for name in _files.names(pool):
        deb.take(os.path.join(pool, name), folder, wanted)
    if not os.listdir(folder):
        raise FetchError(f"{' '.join(map(str, found))}: there is no library of the driver in it")
