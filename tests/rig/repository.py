"""Makes packages of the stand-in driver, and an archive of them as apt knows it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import driver
from .driver import RigError

# What the half consists of, as unpacked from NVIDIA's packages: the files, no link.
HALF = driver.EGL | driver.GLX
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")


@dataclass(frozen=True)
class Package:
    """A package, and the libraries of the stand-in driver that it holds, without suffix."""

    name: str
    version: str
    libraries: frozenset[str] = frozenset()
    depends: str = ""
    folder: str = "{lib}"  # of the libraries
    architecture: str = ARCHITECTURE

    @property
    def upstream(self) -> str:
        """The driver's own version."""
        return self.version.rpartition(":")[2].partition("-")[0]

    @property
    def file(self) -> str:
        """The package's name in an archive."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def ubuntu(version: str, suffix: str = "", revision: str = "0ubuntu1") -> Package:
    """The one package of Ubuntu's that holds the whole half."""
    branch = version.partition(".")[0]
    depends = f"libnvidia-common-{branch}{suffix}, libc6 (>= 2.34), libgbm1, libx11-6, libxext6"
    return Package(f"libnvidia-gl-{branch}{suffix}", f"{version}-{revision}", HALF, depends)


def debian(version: str, revision: str = "1") -> tuple[Package, ...]:
    """Debian's packages, which share the half among them."""
    whole = f"{version}-{revision}"
    same = f"(= {whole})"
    with_gpucomp = any(each.name == "libnvidia-gpucomp" for each in driver.libraries(version))
    gpucomp = f", libnvidia-gpucomp {same}" if with_gpucomp else ""
    vendors, alternative = "{lib}/nvidia/current", f"nvidia-alternative {same}"
    held = {
        "libegl-nvidia0": ("libEGL_nvidia", f"{alternative}, libnvidia-eglcore {same}", vendors),
        "libglx-nvidia0": (
            "libGLX_nvidia",
            f"{alternative}, libglx0 | libglx0-glvnd-nvidia, libnvidia-eglcore {same}, "
            f"libnvidia-glcore {same}, libx11-6",
            vendors,
        ),
        "libnvidia-eglcore": (
            "libnvidia-eglcore libnvidia-glsi", f"libc6 (>= 2.34){gpucomp}", "{lib}"
        ),
        "libnvidia-glcore": (
            "libnvidia-glcore libnvidia-tls", f"libc6 (>= 2.34){gpucomp}", "{lib}"
        ),
        "libnvidia-gpucomp": ("libnvidia-gpucomp", "libc6 (>= 2.34)", "{lib}"),
        "nvidia-alternative": ("", "glx-alternative-nvidia (>= 1.2)", "{lib}"),
    }  # fmt: skip
    return tuple(
        Package(name, whole, frozenset(libraries.split()), depends, folder)
        for name, (libraries, depends, folder) in held.items()
        if with_gpucomp or name != "libnvidia-gpucomp"
    )


def make(folder: Path, packages: Sequence[Package]) -> str:
    """Make an archive of packages.

    Returns:
        Its line of sources.list(5); whoever has it trusts it without a signature.

    Raises:
        RigError: there is no dpkg-deb.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for package in packages:
        path = folder / package.file
        _deb(package, path)
        content = path.read_bytes()
        entries.append(
            f"{_control(package)}Filename: ./{path.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    (folder / "Packages").write_text("\n".join(entries))
    content = (folder / "Packages").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "Release").write_text(
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {len(content)} Packages\n"
    )
    return f"deb [trusted=yes] file:{folder} ./\n"


def _control(package: Package) -> str:
    depends = f"Depends: {package.depends}\n" if package.depends else ""
    return (
        f"Package: {package.name}\nVersion: {package.version}\n"
        f"Architecture: {package.architecture}\nMaintainer: nobody <nobody@example.org>\n"
        f"{depends}Description: stand-in for NVIDIA's driver\n"
    )


def _deb(package: Package, path: Path) -> None:
    dpkg_deb = shutil.which("dpkg-deb")
    if dpkg_deb is None:
        raise RigError("dpkg-deb is not installed: apt-get install -y dpkg")
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN" / "control").write_text(_control(package))
        (root / "usr/share/doc" / package.name).mkdir(parents=True)
        (root / "usr/share/doc" / package.name / "copyright").write_text("nobody's\n")
        if package.libraries:
            folder = package.folder.replace("{lib}", str(driver.multiarch()))
            driver.build(root / folder.lstrip("/"), package.upstream, only=package.libraries)
        done = subprocess.run(
            [dpkg_deb, "--root-owner-group", "-Zxz", "-z1", "--build", root, path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RigError(f"dpkg-deb: {done.stderr}")
