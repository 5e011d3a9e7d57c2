"""What the user has: a ``.run``, packages, or a folder of them or of the libraries themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

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
        except FetchError as error:
            raise NotOffered(f"{path}: {error}") from error
        except OSError as error:
            raise NotOffered(f"{error.filename or path}: {error.strerror or error}") from error

    def _of_a_runfile(self, wanted: Wanted) -> Offer:
        said = runfile.header(self._path)
        if (said.version, said.machine) != wanted:
            raise NotOffered(f"{self._path} is {said.version}-{said.machine}, not {wanted}")
        return self._offer(self._path, [partial(runfile.take, self._path)], wanted)

    def _of_packages(self, paths: Sequence[str], wanted: Wanted) -> Offer:
        said = {path: deb.control(path) for path in paths}
        fitting = [path for path in paths if _is_of(said[path].get("Version", ""), wanted)]
        names = [
            f"{said[path].get('Package')} {said[path].get('Version')}" for path in fitting or paths
        ]
        if not fitting:
            raise NotOffered(f"{self._path} has {', '.join(names)}, nothing of {wanted.version}")
        what = f"{self._path}: {', '.join(names)}"
        return self._offer(what, [partial(deb.take, path) for path in fitting], wanted)

    def _of_a_folder(self, wanted: Wanted) -> Offer:
        there = set()
        for _, _, files in os.walk(self._path):
            there |= {name.rpartition(".so.")[2] for name in files if "_nvidia.so." in name}
        versions = sorted(filter(_kernel.is_version, there))
        if wanted.version not in versions:
            has = f"libraries of {', '.join(versions)}" if versions else "no driver"
            raise NotOffered(f"{self._path} has {has}, nothing of {wanted.version}")
        return self._offer(self._path, [partial(unpack.from_tree, self._path)], wanted)

    def _offer(
        self, what: str, takes: Sequence[Callable[[str, Wanted], None]], wanted: Wanted
    ) -> Offer:
        def fetch(folder: str, progress: Progress) -> None:
            progress(f"unpacking {self._path}", 0, None)
            try:
                for take in takes:
                    take(folder, wanted)
            except FetchError as error:
                raise FetchError(f"{self._path}: {error}") from error

        return Offer(self.name, what, 0, nvidias=False, fetch=fetch)


def _is_of(package: str, wanted: Wanted) -> bool:
    """Whether a package's version, ``[epoch:]upstream[-revision]``, is that of the driver."""
    return package.rpartition(":")[2].partition("-")[0] == wanted.version
