"""Compiles the stand-in NVIDIA driver and puts it into a folder.

The set of libraries, their SONAMEs and their DT_NEEDED entries are those of NVIDIA's 535.261.03
and 550.163.01 as Debian packages them, read with ``readelf -d``. None has an RPATH, so whether
they are found is decided by the loader's path, as it is for the real ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

SOURCES = Path(__file__).parent / "standin"
VERSION = "550.54.15"

# The stand-ins for libglvnd's vendors render with a copy of Mesa's. The copy has another SONAME,
# or the loader would take it for Mesa's own; of the same length, as it is replaced in the bytes.
_MESA_COPIES = {
    "libEGL_mesa.so.0": "libEGL_nvms.so.0",
    "libGLX_mesa.so.0": "libGLX_nvms.so.0",
}


class RigError(RuntimeError):
    """The rig cannot be made on this machine; the message says what to install."""


@dataclass(frozen=True)
class Library:
    """One library of the driver: how it is compiled and what lies beside it."""

    name: str
    source: str = "sibling.c"
    soname: str = ""  # empty: carries the driver's version, like the file
    needed: tuple[str, ...] = ()  # other libraries of the driver
    system: tuple[str, ...] = ()  # libraries of the system
    mesa: str = ""  # the vendor library of Mesa whose copy it opens

    def file(self, version: str) -> str:
        """Name the file, which carries the version whatever the SONAME is."""
        return f"{self.name}.so.{version}"


# In link order: a library comes after those it needs.
_LIBRARIES = (
    Library("libnvidia-tls"),
    Library("libnvidia-glsi"),
    Library("libnvidia-gpucomp"),
    Library("libnvidia-eglcore", needed=("libnvidia-glsi", "libnvidia-gpucomp")),
    Library("libnvidia-glcore", needed=("libnvidia-tls", "libnvidia-gpucomp")),
    Library(
        "libEGL_nvidia",
        source="egl_nvidia.c",
        soname="libEGL_nvidia.so.0",
        needed=("libnvidia-glsi",),  # and libnvidia-eglcore, which it opens by its SONAME
        mesa="libEGL_mesa.so.0",
    ),
    Library(
        "libGLX_nvidia",
        source="glx_nvidia.c",
        soname="libGLX_nvidia.so.0",
        needed=("libnvidia-glsi", "libnvidia-tls", "libnvidia-glcore"),
        system=("-l:libX11.so.6", "-l:libXext.so.6"),
        mesa="libGLX_mesa.so.0",
    ),
    Library("libnvidia-ml", source="nvml.c", soname="libnvidia-ml.so.1"),
)

# 535 has no libnvidia-gpucomp and 550 has; it came with one of the releases in between.
_FIRST_WITH_GPUCOMP = 545

EGL = frozenset({"libEGL_nvidia", "libnvidia-eglcore", "libnvidia-glsi", "libnvidia-gpucomp"})
GLX = frozenset(
    {"libGLX_nvidia", "libnvidia-glcore", "libnvidia-glsi", "libnvidia-gpucomp", "libnvidia-tls"}
)
NVML = frozenset({"libnvidia-ml"})
ALL = EGL | GLX | NVML


def libraries(version: str) -> tuple[Library, ...]:
    """Return the libraries that a driver of this version consists of, in link order."""
    if int(version.partition(".")[0]) >= _FIRST_WITH_GPUCOMP:
        return _LIBRARIES
    absent = "libnvidia-gpucomp"
    return tuple(
        Library(**{**vars(lib), "needed": tuple(n for n in lib.needed if n != absent)})
        for lib in _LIBRARIES
        if lib.name != absent
    )


def build(directory: Path, version: str = VERSION, *, only: Collection[str] | None = None) -> None:
    """Put the stand-in driver of `version` into `directory`, which is created.

    `only` names the libraries wanted without their suffix, such as ``{"libnvidia-ml"}`` or one
    of EGL, GLX, NVML; a vendor library brings its private copy of Mesa with it.

    Raises RigError where it cannot be compiled.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for source in files(version, only=only):
        target = directory / source.name
        target.unlink(missing_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def files(version: str = VERSION, *, only: Collection[str] | None = None) -> list[Path]:
    """Return the compiled files, links included, that `build` would copy."""
    wanted = ALL if only is None else frozenset(only)
    if unknown := wanted - ALL:
        raise ValueError(f"no such libraries in the driver: {', '.join(sorted(unknown))}")
    compiled = cached(version)
    names: list[str] = []
    for library in libraries(version):
        if library.name in wanted:
            names += [library.file(version)]
            names += [library.soname] if library.soname else []
            names += [_MESA_COPIES[library.mesa]] if library.mesa else []
    return [compiled / name for name in names]


def cached(version: str = VERSION) -> Path:
    """Return the folder of the whole compiled driver, shared by every process of this user.

    It is made under another name and renamed when it is whole, so workers that start together
    do the work twice at worst and never see half of it.
    """
    compiled = _cache_folder(version)
    if not compiled.exists():
        with tempfile.TemporaryDirectory(prefix=f"{compiled.name}.") as scratch:
            half = Path(scratch) / "driver"
            half.mkdir()
            _compile(half, version)
            try:
                half.rename(compiled)
            except OSError:
                if not compiled.is_dir():
                    raise
    if compiled.stat().st_uid != os.getuid():
        raise RigError(f"{compiled} belongs to somebody else; its code will not be run")
    return compiled


@cache
def _cache_folder(version: str) -> Path:
    digest = hashlib.sha256(version.encode())
    for source in sorted((*SOURCES.iterdir(), Path(__file__))):
        digest.update(source.read_bytes())
    for name in _MESA_COPIES:
        mesa = _system_library(name)
        status = mesa.stat()
        digest.update(f"{mesa} {status.st_size} {status.st_mtime_ns}".encode())
    name = f"nvidia-standin-{os.getuid()}-{digest.hexdigest()[:16]}"
    return Path(tempfile.gettempdir()) / name


def _gcc(*arguments: str) -> str:
    gcc = shutil.which("gcc")
    if gcc is None:
        raise RigError("gcc is not installed: apt-get install -y gcc libc6-dev")
    # S603: the arguments are this module's own.
    done = subprocess.run([gcc, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(
            f"gcc {' '.join(arguments)}\n{done.stderr}"
            "the stand-in driver needs: apt-get install -y gcc libc6-dev libglvnd-dev libx11-dev"
        )
    return done.stdout.strip()


@cache
def _system_library(name: str) -> Path:
    found = Path(_gcc(f"-print-file-name={name}"))
    if not found.is_absolute():
        raise RigError(f"{name} is not installed: apt-get install -y libegl-mesa0 libglx-mesa0")
    return found.resolve()


def multiarch() -> Path:
    """Return the folder of this machine where a distribution installs libraries."""
    triplet = _gcc("-print-multiarch")
    return Path("/usr/lib") / triplet if triplet else Path("/usr/lib64")


def _compile(directory: Path, version: str) -> None:
    for library in libraries(version):
        others = {lib.name: lib.file(version) for lib in libraries(version)}
        soname = library.soname or library.file(version)
        _gcc(
            *("-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-std=gnu17"),
            *(f'-DSTANDIN_VERSION="{version}"', str(SOURCES / library.source)),
            *("-o", str(directory / library.file(version)), f"-Wl,-soname,{soname}"),
            "-Wl,--no-as-needed",  # what is needed must be named, used or not
            *(str(directory / others[name]) for name in library.needed),
            *(*library.system, f"-Wl,-rpath-link,{directory}"),
        )
        if library.soname:
            (directory / library.soname).symlink_to(library.file(version))
        if library.mesa:
            _copy_mesa(library.mesa, directory)


def _copy_mesa(name: str, directory: Path) -> None:
    original, other = name.encode() + b"\0", _MESA_COPIES[name].encode() + b"\0"
    code = _system_library(name).read_bytes()
    if original not in code:
        raise RigError(f"{name} does not carry its SONAME in full; it cannot be copied")
    (directory / _MESA_COPIES[name]).write_bytes(code.replace(original, other))
