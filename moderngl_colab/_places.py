"""Where NVIDIA's userland may lie.

Containers mount the driver where the loader does not look, and images bring a second one of
another version. So the directories are searched here, in this order:

1. ``MODERNGL_COLAB_DRIVER_DIR``, the user's word;
2. ``LD_LIBRARY_PATH``, as it is now (the loader read it when the process started);
3. the directories the loader's cache names for it, ``/etc/ld.so.cache``;
4. ``/usr/lib64-nvidia`` (Colab), ``/usr/local/nvidia/lib64`` and ``lib`` (GKE, Kaggle);
5. the distribution's: multiarch, ``/usr/lib64``, ``nvidia/current`` (Debian's alternatives),
   ``/usr/lib/nvidia-*`` (Ubuntu until 18.04), ``/run/opengl-driver/lib`` (NixOS);
6. ``/.singularity.d/libs`` (Apptainer ``--nv``).

Where these hold no whole driver of the kernel module's version, what ``install-driver`` fetched for
it is taken instead.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moderngl_colab import _files, _kernel, _loader

__all__ = [
    "DIRECTORY_VARIABLE",
    "VENDOR_LIBRARIES",
    "Place",
    "installed",
    "is_kept",
    "kept",
    "places",
    "store",
]

DIRECTORY_VARIABLE = "MODERNGL_COLAB_DRIVER_DIR"

VENDOR_LIBRARIES = ("EGL", "GLX")

_DATA_HOME = "XDG_DATA_HOME"


class Place(NamedTuple):
    """A directory that is searched."""

    path: str
    changed: int
    """When its list of names, its mode or its owner last was, in nanoseconds."""
    loaders: bool
    """Whether this process's own loader takes whatever is in it."""


def places(environ: Mapping[str, str], root: str, module: str | None) -> tuple[Place, ...]:
    """The directories there are, in the order of the search.

    What ``install-driver`` keeps for another kernel module is none of them, though a variable that
    was set before the module was replaced may still name it.

    Arguments:
        environ: where the variables are read.
        root: the directory that stands for ``/``.
        module: the kernel module's version; None where nobody tells it.
    """
    cached = tuple(_from_the_cache(root))
    loaders = {*_loader.searched(root), *cached}
    own = f"{module}{_ending()}"
    changed = {
        path: _changed(path)
        for path in _directories(environ, root, cached)
        if module is None or not is_kept(path, environ) or _split(path)[1] == own
    }
    return tuple(
        Place(path, when, path in loaders) for path, when in changed.items() if when is not None
    )


def installed(environ: Mapping[str, str], module: str | None) -> tuple[Place, ...]:
    """The folders of what ``install-driver`` keeps for a kernel module, if there are any.

    Arguments:
        environ: where the home folder is read.
        module: its version; None where nobody tells it, and then any will do, the one that was
            installed last before others.
    """
    folder = store(environ)
    versions = kept(environ) if module is None else (module,)
    paths = [os.path.join(folder, version + _ending()) for version in versions if folder]
    found = [Place(path, when, False) for path in paths if (when := _changed(path)) is not None]
    return tuple(sorted(found, key=lambda place: place.changed, reverse=True))


def store(environ: Mapping[str, str]) -> str | None:
    """The folder below which ``install-driver`` keeps drivers, ``VERSION-MACHINE`` each.

    It is in ``XDG_DATA_HOME`` (XDG Base Directory Specification 0.8, by which relative paths are
    to be ignored).

    Returns:
        None for a user without a home.
    """
    data = environ.get(_DATA_HOME, "")
    if not os.path.isabs(data):
        home = environ.get("HOME") or _home()
        data = os.path.join(home, ".local/share") if os.path.isabs(home) else ""
    return os.path.join(data, "moderngl_colab/driver") if data else None


def _home() -> str:
    """This user's home by the password database, as a login would set it; nothing without one."""
    import pwd  # Windows has none.

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def kept(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The versions that ``install-driver`` keeps for this machine."""
    folder, ending = store(environ), _ending()
    names = () if folder is None else _files.names(folder)
    versions = (name.removesuffix(ending) for name in names if name.endswith(ending))
    return tuple(version for version in versions if _kernel.is_version(version))


def is_kept(path: str, environ: Mapping[str, str]) -> bool:
    """Whether a directory is one of those in which ``install-driver`` keeps drivers."""
    (parent, name), folder = _split(path), store(environ)
    if folder is None or not name.endswith(_ending()):
        return False
    try:
        return os.path.realpath(parent) == os.path.realpath(folder)
    except ValueError:  # It is none that could be a path.
        return False


def _split(path: str) -> tuple[str, str]:
    return os.path.split(os.path.normpath(path))


def _ending() -> str:
    return f"-{os.uname().machine}"


def _directories(environ: Mapping[str, str], root: str, cached: tuple[str, ...]) -> Iterator[str]:
    if own := environ.get(DIRECTORY_VARIABLE):
        # A relative one, in a folder that is gone; or none that could be a path.
        with contextlib.suppress(OSError, ValueError):
            yield os.path.abspath(os.path.expanduser(own))
    yield from _loader.library_path(environ)
    yield from cached
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


def _from_the_cache(root: str) -> Iterator[str]:
    for library in VENDOR_LIBRARIES:
        yield from map(os.path.dirname, _loader.cached(f"lib{library}_nvidia.so.0", root))


def _changed(folder: str) -> int | None:
    """When a directory was last changed, in nanoseconds; None if there is none."""
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns if stat.S_ISDIR(status.st_mode) else None
