"""What the user has: a ``.run``, packages, or a folder of them or of the libraries themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from moderngl_colab import _files, _kernel
from moderngl_colab.installer import deb, runfile, unpack
from moderngl_colab.installer.source import FetchError, NotOffered, Offer, Progress, Wanted

__all__ = ["Local"]

_DEB = ".deb"


class Local:
    """A path.

    Arguments:
        path: of a ``.run`` or ``.deb`` file, or of a folder that has ``.deb`` files or libraries.
    """

    name = "from"

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))

    def offer(self, wanted: Wanted) -> Offer:
        """Look for exactly that version; see :class:`source.Source`."""
        path = self._path
        try:
            if os.path.isdir(path):
                debs = [os.path.join(path, name) for name in _files.names(path)]
                debs = [name for name in debs if name.endswith(_DEB)]
                return self._of_packages(debs, wanted) if debs else self._of_a_folder(wanted)
            if path.endswith(_DEB):
                return self._of_packages([path], wanted)
            return self._of_a_runfile(wanted)
        except (FetchError, OSError) as error:
            raise NotOffered(f"{path}: {_why(error)}") from error

    def _of_a_runfile(self, wanted: Wanted) -> Offer:
        said = runfile.header(self._path)
        if (said.version, said.machine) != wanted:
            raise NotOffered(f"{self._path} is {said.version}-{said.machine}, not {wanted}")
        return self._offer(self._path, runfile.take, [self._path], wanted)

    def _of_packages(self, paths: Sequence[str], wanted: Wanted) -> Offer:
        """Those that fit; nobody knows it of one that cannot be read, so it is only named."""
        said, unreadable = {}, {}
        for path in paths:
            try:
                said[path] = deb.control(path)
            except (FetchError, OSError) as error:
                unreadable[path] = _why(error)
        fitting = [path for path in said if _is_of(said[path].get("Version", ""), wanted)]
        names = ", ".join(
            f"{said[path].get('Package')} {said[path].get('Version')}" for path in fitting or said
        )
        if not fitting:
            reasons = [f"{path}: {why}" for path, why in unreadable.items()]
            if said:
                reasons.insert(0, f"{self._path} has {names}, nothing of {wanted.version}")
            raise NotOffered("; ".join(reasons))
        what = f"{self._path}: {names}"
        if unreadable:
            what += f" (not readable: {', '.join(map(os.path.basename, unreadable))})"
        return self._offer(what, deb.take, fitting, wanted)

    def _of_a_folder(self, wanted: Wanted) -> Offer:
        there = set()
        for _, _, files in os.walk(self._path):
            there |= {name.rpartition(".so.")[2] for name in files if "_nvidia.so." in name}
        versions = sorted(filter(_kernel.is_version, there))
        if wanted.version not in versions:
            has = f"libraries of {', '.join(versions)}" if versions else "no driver"
            raise NotOffered(f"{self._path} has {has}, nothing of {wanted.version}")
        return self._offer(self._path, unpack.from_tree, [self._path], wanted)

    def _offer(
        self,
        what: str,
        take: Callable[[str, str, Wanted], None],
        paths: Sequence[str],
        wanted: Wanted,
    ) -> Offer:
        def fetch(folder: str, progress: Progress) -> None:
            progress(f"unpacking {self._path}", 0, None)
            for path in paths:
                try:
                    take(path, folder, wanted)
                except FetchError as error:
                    raise FetchError(f"{path}: {error}") from error

        return Offer(self.name, what, 0, nvidias=False, fetch=fetch)


def _why(error: FetchError | OSError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_of(package: str, wanted: Wanted) -> bool:
    """Whether a package's version, ``[epoch:]upstream[-revision]``, is that of the driver."""
    return package.rpartition(":")[2].partition("-")[0] == wanted.version
