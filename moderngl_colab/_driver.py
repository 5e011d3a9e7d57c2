"""Where NVIDIA's userland is, and its version.

Containers mount the driver where the loader does not look, and images bring a second one of
another version. So the directories are searched here, in this order:

1. ``MODERNGL_COLAB_DRIVER_DIR``, the user's word;
2. ``LD_LIBRARY_PATH``, as it is now (the loader read it when the process started);
3. the directories the loader's cache names for it, ``/etc/ld.so.cache``;
4. ``/usr/lib64-nvidia`` (Colab), ``/usr/local/nvidia/lib64`` and ``lib`` (GKE, Kaggle);
5. the distribution's: multiarch, ``/usr/lib64``, ``nvidia/current`` (Debian's alternatives),
   ``/usr/lib/nvidia-*`` (Ubuntu until 18.04), ``/run/opengl-driver/lib`` (NixOS);
6. ``/.singularity.d/libs`` (Apptainer ``--nv``).

Of several copies the one whose version equals the kernel module's is taken: no other can work,
since the two halves of the driver speak a private protocol that changes with each release.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from moderngl_colab import _files, _kernel, _loader, _process

__all__ = [
    "DIRECTORY_VARIABLE",
    "NONE",
    "VENDOR_LIBRARIES",
    "Copy",
    "Userland",
    "copies",
    "find",
]

DIRECTORY_VARIABLE = "MODERNGL_COLAB_DRIVER_DIR"

VENDOR_LIBRARIES = ("EGL", "GLX")

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


def find(environ: Mapping[str, str] = os.environ, root: str = "/") -> Userland:
    """The copy of the userland to use.

    Arguments:
        environ: where the two variables are read.
        root: the directory that stands for ``/``.

    Returns:
        The first copy whose version equals the kernel module's, else the first one there is;
        none in a process whose real and effective ids differ.
    """
    if not _process.may_steer_loader():
        return NONE
    return _search(_dated(environ, root), _kernel.version(root))


def copies(environ: Mapping[str, str] = os.environ, root: str = "/") -> tuple[Copy, ...]:
    """Every copy of the vendor libraries, in the order of the search, each file once.

    Arguments:
        environ: as for :func:`find`.
        root: as for :func:`find`.
    """
    return _copies(_dated(environ, root), _kernel.version(root))


@lru_cache(maxsize=4)
def _search(dated: tuple[tuple[str, int], ...], kernel: str | None) -> Userland:
    """Look into directories; again when one of them, named with its last change, has changed."""
    directories = tuple(path for path, _ in dated)
    versions: dict[str | None, dict[str, str]] = {}
    for copy in _copies(dated, kernel):
        versions.setdefault(copy.version, {}).setdefault(copy.library, copy.path)
    version = kernel if kernel in versions else next(iter(versions), None)
    names = dict.fromkeys(name for needs in _SIBLINGS.values() for name in needs)
    siblings = {
        name: sibling
        for name in (names if versions else ())
        if (sibling := _first_file(directories, f"libnvidia-{name}.so.{version}")) is not None
    }
    nvml = _first_file(directories, f"libnvidia-ml.so.{version or kernel}")
    return Userland(version, versions.get(version, {}), siblings, nvml)


@lru_cache(maxsize=4)
def _copies(dated: tuple[tuple[str, int], ...], kernel: str | None) -> tuple[Copy, ...]:
    found: dict[str, Copy] = {}
    for directory, _ in dated:
        for copy in _vendor_libraries(directory, kernel):
            found.setdefault(os.path.realpath(copy.path), copy)
    return tuple(found.values())


def _directories(environ: Mapping[str, str], root: str) -> Iterator[str]:
    if own := environ.get(DIRECTORY_VARIABLE):
        with contextlib.suppress(OSError):  # A relative one, in a folder that is gone.
            yield os.path.abspath(os.path.expanduser(own))
    yield from _loader.library_path(environ)
    for library in VENDOR_LIBRARIES:
        yield from map(os.path.dirname, _loader.cached(f"lib{library}_nvidia.so.0", root))
    multiarch = f"usr/lib/{os.uname().machine}-linux-gnu"
    known = (
        "usr/lib64-nvidia",
        "usr/local/nvidia/lib64",
        "usr/local/nvidia/lib",
        multiarch,
        "usr/lib64",
        f"{multiarch}/nvidia/current",
        "usr/lib/nvidia/current",
        *(f"usr/lib/{name}" for name in reversed(_files.names(f"{root}/usr/lib", "nvidia-"))),
        "run/opengl-driver/lib",
        ".singularity.d/libs",
    )
    yield from (os.path.join(root, name) for name in known)


def _vendor_libraries(directory: str, kernel: str | None) -> Iterator[Copy]:
    """Each vendor library in a directory.

    The file that bears the kernel module's version is looked for by name too: where an image
    brings a newer driver of its own, ``.so.0`` points to that one in the same directory.
    """
    for library in VENDOR_LIBRARIES:
        suffixes = ("0",) if kernel is None else (kernel, "0")
        for suffix in suffixes:
            path = os.path.join(directory, f"lib{library}_nvidia.so.{suffix}")
            if _loader.loadable(path):
                yield Copy(_version_of(path), library, path)


def _version_of(path: str) -> str | None:
    resolved = os.path.realpath(path).rpartition(".so.")[2]
    if _kernel.is_version(resolved):
        return resolved
    # A copy that lost its symbolic links: the siblings beside it still bear the version.
    for sibling in _files.names(os.path.dirname(path), "libnvidia-glsi.so."):
        if _kernel.is_version(version := sibling.rpartition(".so.")[2]):
            return version
    return None


def _first_file(directories: tuple[str, ...], name: str) -> str | None:
    paths = (os.path.join(directory, name) for directory in directories)
    return next(filter(_loader.loadable, paths), None)


def _dated(environ: Mapping[str, str], root: str) -> tuple[tuple[str, int], ...]:
    directories = {path: _changed(path) for path in _directories(environ, root)}
    return tuple((path, when) for path, when in directories.items() if when is not None)


def _changed(folder: str) -> int | None:
    """When a directory's list of names was last changed, in nanoseconds; None if there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else None
