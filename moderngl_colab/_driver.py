"""Where NVIDIA's userland is, its version, and the kernel module's version.

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

from moderngl_colab import _process

__all__ = ["DIRECTORY_VARIABLE", "NONE", "Userland", "device_nodes", "find", "kernel_version"]

DIRECTORY_VARIABLE = "MODERNGL_COLAB_DRIVER_DIR"

_VENDOR_LIBRARIES = ("EGL", "GLX")

_SIBLINGS: Mapping[str, tuple[str, ...]] = {
    # In an order in which each one's own needs are open before it: glsi is needed by eglcore, tls
    # by glcore, gpucomp (since 550) by both cores. libEGL_nvidia opens eglcore by its name alone.
    "EGL": ("gpucomp", "tls", "glsi", "eglcore"),
    "GLX": ("gpucomp", "tls", "glsi", "glcore"),
}
_OPTIONAL_SIBLINGS = frozenset({"gpucomp"})


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
            if name not in self.siblings and name not in _OPTIONAL_SIBLINGS
        )

    def open(self, library: str) -> None:
        """Open `library` and what it needs by absolute path.

        Whoever asks the loader for them by name afterwards gets these: the loader compares the
        SONAMEs of what is open before it looks into any directory.

        Raises:
            OSError: `library` itself cannot be opened; the text is the loader's own.
        """
        for name in _SIBLINGS[library]:
            if name in self.siblings:
                with contextlib.suppress(OSError):  # What is wrong, opening `library` says.
                    ctypes.CDLL(self.siblings[name])
        ctypes.CDLL(self.libraries[library])


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
    directories = {path: _changed(path) for path in _directories(environ, root)}
    there = tuple((path, when) for path, when in directories.items() if when is not None)
    return _search(there, kernel_version(root))


@lru_cache(maxsize=4)
def _search(dated: tuple[tuple[str, int], ...], kernel: str | None) -> Userland:
    """Look into directories; again when one of them, named with its last change, has changed."""
    directories = tuple(path for path, _ in dated)
    copies: dict[str | None, dict[str, str]] = {}
    for directory in directories:
        for found, library, path in _vendor_libraries(directory, kernel):
            copies.setdefault(found, {}).setdefault(library, path)
    version = kernel if kernel in copies or not copies else next(iter(copies))
    names = dict.fromkeys(name for needs in _SIBLINGS.values() for name in needs)
    siblings = {
        name: sibling
        for name in (names if copies else ())
        if (sibling := _first_file(directories, f"libnvidia-{name}.so.{version}")) is not None
    }
    nvml = _first_file(directories, f"libnvidia-ml.so.{version}")
    return Userland(version, copies.get(version, {}), siblings, nvml)


def kernel_version(root: str = "/") -> str | None:
    """The version of the loaded NVIDIA kernel module, for instance ``"550.54.15"``, or None."""
    first_line = _read(os.path.join(root, "proc/driver/nvidia/version")).partition("\n")[0]
    words = first_line.partition("Kernel Module")[2].split()
    words += _read(os.path.join(root, "sys/module/nvidia/version")).split()
    return next(filter(_is_version, words), None)


def device_nodes(root: str = "/") -> tuple[str, ...]:
    """The GPUs' device nodes that this process sees, for instance ``("/dev/nvidia0",)``."""
    folder = os.path.join(root, "dev")
    # Without this one the driver can open none of them; a look at it spares the long list.
    if not os.path.exists(os.path.join(folder, "nvidiactl")):
        return ()
    numbers = (name.removeprefix("nvidia") for name in _names(folder, "nvidia"))
    return tuple(os.path.join(folder, f"nvidia{n}") for n in numbers if n.isdecimal())


def _directories(environ: Mapping[str, str], root: str) -> Iterator[str]:
    if own := environ.get(DIRECTORY_VARIABLE):
        yield os.path.abspath(os.path.expanduser(own))
    # The loader takes an empty entry for the current directory; nothing is searched there.
    library_path = environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    yield from filter(os.path.isabs, library_path)
    cache = _read_bytes(os.path.join(root, "etc/ld.so.cache"))
    if b"_nvidia.so.0\0" in cache:
        for name in cache.split(b"\0"):
            if name.startswith(b"/") and name.endswith(
                (b"/libEGL_nvidia.so.0", b"/libGLX_nvidia.so.0")
            ):
                yield os.path.join(root, os.path.dirname(os.fsdecode(name)).lstrip("/"))
    multiarch = f"usr/lib/{os.uname().machine}-linux-gnu"
    known = (
        "usr/lib64-nvidia",
        "usr/local/nvidia/lib64",
        "usr/local/nvidia/lib",
        multiarch,
        "usr/lib64",
        f"{multiarch}/nvidia/current",
        "usr/lib/nvidia/current",
        *(f"usr/lib/{name}" for name in reversed(_names(f"{root}/usr/lib", "nvidia-"))),
        "run/opengl-driver/lib",
        ".singularity.d/libs",
    )
    yield from (os.path.join(root, name) for name in known)


def _vendor_libraries(directory: str, kernel: str | None) -> Iterator[tuple[str | None, str, str]]:
    """Version, ``"EGL"`` or ``"GLX"``, and path of each vendor library in a directory.

    The file that bears the kernel module's version is looked for by name too: where an image
    brings a newer driver of its own, ``.so.0`` points to that one in the same directory.
    """
    for library in _VENDOR_LIBRARIES:
        suffixes = ("0",) if kernel is None else (kernel, "0")
        for suffix in suffixes:
            path = os.path.join(directory, f"lib{library}_nvidia.so.{suffix}")
            if os.path.isfile(path):
                yield _version_of(path), library, path


def _version_of(path: str) -> str | None:
    resolved = os.path.realpath(path).rpartition(".so.")[2]
    if _is_version(resolved):
        return resolved
    # A copy that lost its symbolic links: the siblings beside it still bear the version.
    for sibling in _names(os.path.dirname(path), "libnvidia-glsi.so."):
        if _is_version(version := sibling.rpartition(".so.")[2]):
            return version
    return None


def _is_version(text: str) -> bool:
    """Whether it is written as NVIDIA's versions are, ``535.98`` or ``550.54.15``."""
    numbers = text.split(".")
    return len(numbers) in (2, 3) and all(number.isdecimal() for number in numbers)


def _first_file(directories: tuple[str, ...], name: str) -> str | None:
    paths = (os.path.join(directory, name) for directory in directories)
    return next(filter(os.path.isfile, paths), None)


def _changed(folder: str) -> int | None:
    """When a directory's list of names was last changed, in nanoseconds; None if there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else None


def _names(folder: str, prefix: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    except OSError:
        return []


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def _read(path: str) -> str:
    return _read_bytes(path).decode(errors="replace")
