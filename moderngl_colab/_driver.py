"""Which of NVIDIA's libraries are used, and their version.

Of several copies the one whose version equals the kernel module's is taken: no other can work,
since the two halves of the driver speak a private protocol that changes with each release.

Where this process's own loader would not look, a library that others could replace is passed over.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from moderngl_colab import _files, _kernel, _loader, _process, _trust
from moderngl_colab._places import DIRECTORY_VARIABLE, VENDOR_LIBRARIES, Place, installed, places

__all__ = [
    "DIRECTORY_VARIABLE",
    "NONE",
    "VENDOR_LIBRARIES",
    "Copy",
    "Exposed",
    "Userland",
    "copies",
    "exposed",
    "find",
]

_SIBLINGS: Mapping[str, tuple[str, ...]] = {
    # In an order in which each one's own needs are open before it: glsi is needed by eglcore, tls
    # by glcore, gpucomp by both cores. libEGL_nvidia opens eglcore by its name alone.
    "EGL": ("gpucomp", "tls", "glsi", "eglcore"),
    "GLX": ("gpucomp", "tls", "glsi", "glcore"),
}
# 535 has no libnvidia-gpucomp; the cores of 550 are linked against it.
_FIRST_BRANCHES = {"gpucomp": 550}


class Copy(NamedTuple):
    """One of libglvnd's vendor libraries of NVIDIA, wherever it lies."""

    version: str | None
    """As in :class:`Userland`."""
    library: str
    """``"EGL"`` or ``"GLX"``."""
    path: str


class Exposed(NamedTuple):
    """A library that is passed over, because others could replace it."""

    path: str
    breach: _trust.Breach
    """By what they could."""


class Userland(NamedTuple):
    """One copy of the driver's libraries, all of one version; its parts may lie apart.

    Empty where there is none.
    """

    version: str | None
    """For instance ``"550.54.15"``; None where no file name tells it."""
    libraries: Mapping[str, str]
    """``"EGL"``, ``"GLX"`` to the absolute path of ``lib…_nvidia.so.0``, where there is one."""
    siblings: Mapping[str, str]
    """``"eglcore"`` and the like to the absolute path of ``libnvidia-….so.<version>``."""
    nvml: str | None
    """The absolute path of ``libnvidia-ml.so.1`` of that version."""
    cut_short: tuple[str, ...] = ()
    """Those of `libraries` and `siblings` that are shorter than their own headers say."""

    @property
    def is_whole(self) -> bool:
        """Whether both vendor libraries are there, with all that they need, in full length."""
        return not self.cut_short and all(
            library in self.libraries and not self.missing_siblings(library)
            for library in VENDOR_LIBRARIES
        )

    def missing_siblings(self, library: str) -> tuple[str, ...]:
        """File names that `library` (``"EGL"`` or ``"GLX"``) needs and that are nowhere."""
        return tuple(
            f"libnvidia-{name}.so.{self.version or '*'}"
            for name in _SIBLINGS[library]
            if name not in self.siblings and self._requires(name)
        )

    def open(self, library: str) -> None:
        """Open `library` and what it needs by absolute path.

        Whoever asks the loader for them by name afterwards gets these: the loader compares the
        SONAMEs of what is open before it looks into any directory.

        Raises:
            OSError: `library` or one that it needs cannot be opened; the text is the loader's own.
        """
        for name in _SIBLINGS[library]:
            if name in self.siblings:
                optional = () if self._requires(name) else (OSError,)
                with contextlib.suppress(*optional):
                    ctypes.CDLL(self.siblings[name])
        ctypes.CDLL(self.libraries[library])

    def _requires(self, sibling: str) -> bool:
        branch = (self.version or "0").partition(".")[0]
        return int(branch) >= _FIRST_BRANCHES.get(sibling, 0)


NONE = Userland(None, {}, {}, None)


class _Found(NamedTuple):
    userland: Userland
    copies: tuple[Copy, ...]
    exposed: tuple[Exposed, ...]


def find(environ: Mapping[str, str] = os.environ, root: str = "/") -> Userland:
    """The copy of the userland to use.

    Arguments:
        environ: where the variables are read.
        root: the directory that stands for ``/``.

    Returns:
        The first copy whose version equals the kernel module's, else the first one there is; in
        place of one that is not whole, what ``install-driver`` fetched. None in a process whose
        real and effective ids differ.
    """
    return _found(environ, root).userland if _process.may_steer_loader() else NONE


def copies(environ: Mapping[str, str] = os.environ, root: str = "/") -> tuple[Copy, ...]:
    """Every copy of the vendor libraries, in the order of the search, each file once.

    The arguments are those of :func:`find`.
    """
    return _found(environ, root).copies


def exposed(environ: Mapping[str, str] = os.environ, root: str = "/") -> tuple[Exposed, ...]:
    """The libraries that the search passed over, because others could replace them.

    Arguments:
        environ: as for :func:`find`.
        root: as for :func:`find`.
    """
    return _found(environ, root).exposed


def _found(environ: Mapping[str, str], root: str) -> _Found:
    module = _kernel.version(root)
    found = _search(places(environ, root, module), module)
    cut_short = found.userland.cut_short
    for place in installed(environ, module):
        if found.userland.is_whole and module in (found.userland.version, None):
            break
        found = _instead(found, _search((place,), module))
    if found.exposed or cut_short:  # What mends that need not change the directory itself.
        _search.cache_clear()
    return found


def _instead(found: _Found, other: _Found) -> _Found:
    """What was found, with the other one's userland if that is whole.

    Parts of both would be in no folder that a variable could name to the loader.
    """
    userland = found.userland
    if other.userland.is_whole:
        userland = other.userland._replace(nvml=userland.nvml or other.userland.nvml)
    return _Found(userland, (*found.copies, *other.copies), (*found.exposed, *other.exposed))


@lru_cache(maxsize=4)
def _search(places: tuple[Place, ...], kernel: str | None) -> _Found:
    """Look into directories; again when one of them has changed."""
    exposed: list[Exposed] = []
    copies: dict[str, Copy] = {}
    for place in places:
        for copy in _vendor_libraries(place, kernel, exposed):
            copies.setdefault(os.path.realpath(copy.path), copy)
    versions: dict[str | None, dict[str, str]] = {}
    for copy in copies.values():
        versions.setdefault(copy.version, {}).setdefault(copy.library, copy.path)
    version = kernel if kernel in versions else next(iter(versions), None)
    names = dict.fromkeys(name for needs in _SIBLINGS.values() for name in needs)
    siblings = {
        name: sibling
        for name in (names if versions else ())
        if (sibling := _first_file(places, f"libnvidia-{name}.so.{version}", exposed)) is not None
    }
    nvml = _first_file(places, f"libnvidia-ml.so.{version or kernel}", exposed)
    libraries = versions.get(version, {})
    cut_short = filter(_loader.cut_short, (*libraries.values(), *siblings.values()))
    userland = Userland(version, libraries, siblings, nvml, tuple(cut_short))
    return _Found(userland, tuple(copies.values()), tuple(exposed))


def _vendor_libraries(place: Place, kernel: str | None, exposed: list[Exposed]) -> Iterator[Copy]:
    """Each vendor library in a directory.

    The file that bears the kernel module's version is looked for by name too: where an image
    brings a newer driver of its own, ``.so.0`` points to that one in the same directory.
    """
    for library in VENDOR_LIBRARIES:
        suffixes = ("0",) if kernel is None else (kernel, "0")
        for suffix in suffixes:
            path = os.path.join(place.path, f"lib{library}_nvidia.so.{suffix}")
            if _usable(path, place, exposed):
                yield Copy(_version_of(path), library, path)


def _usable(path: str, place: Place, exposed: list[Exposed]) -> bool:
    """Whether a library can be opened, and may be; what may not is added to `exposed`."""
    if not _loader.loadable(path):
        return False
    if place.loaders:
        return True
    try:
        found = _trust.breach(path)
    except OSError:  # It is gone.
        return False
    if found is not None:
        exposed.append(Exposed(path, found))
    return found is None


def _version_of(path: str) -> str | None:
    resolved = os.path.realpath(path).rpartition(".so.")[2]
    if _kernel.is_version(resolved):
        return resolved
    # A copy that lost its symbolic links: the siblings beside it still bear the version.
    for sibling in _files.names(os.path.dirname(path), "libnvidia-glsi.so."):
        if _kernel.is_version(version := sibling.rpartition(".so.")[2]):
            return version
    return None


def _first_file(places: tuple[Place, ...], name: str, exposed: list[Exposed]) -> str | None:
    for place in places:
        if _usable(path := os.path.join(place.path, name), place, exposed):
            return path
    return None
