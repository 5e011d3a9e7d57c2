"""Packages of Debian's and Ubuntu's kind that hold the OpenGL half of NVIDIA's driver.

Both halves of the driver must be of one version, to the last digit. Since 2026 many of Ubuntu's
libnvidia-gl-535, -550, -570 and -590 are empty packages that bring driver 580 or 595 along. Some
bear that driver's version and some the old one's, so neither a name nor a version is good advice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from moderngl_colab import _files
from moderngl_colab.machine import Machine

__all__ = ["Package", "alternatives", "candidates", "chosen", "listed", "stubs"]

# Ubuntu's and NVIDIA's, of which one excludes the others, and Debian's, which belong together.
_ALTERNATIVES = (
    ("libnvidia-gl-{}",),
    ("libnvidia-gl-{}-server",),
    ("libnvidia-gl",),
    ("libegl-nvidia0", "libglx-nvidia0"),
    ("libegl-nvidia-tesla-{}-0", "libglx-nvidia-tesla-{}-0"),
)
_BRANCH = re.compile(r"libnvidia-gl-(\d+)(-|$)")
_WHOLE_HALF = re.compile(r"libnvidia-gl(-\d+)?(-server)?")
# Run by root it would write its caches.
_WRITE_NOTHING = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")


class Package(NamedTuple):
    """One that an archive has."""

    name: str
    version: str
    """As the archive counts, for instance ``"1:550.54.15-0ubuntu1"``."""
    size: int
    """In bytes."""
    needs: tuple[str, ...]
    """The names of those that it depends on."""

    def __str__(self) -> str:
        return f"{self.name}={self.version}"

    @property
    def upstream(self) -> str:
        """The version that it holds."""
        return _upstream(self.version)

    @property
    def stands_for(self) -> str | None:
        """The package that has the libraries in its place; None unless it is empty."""
        return next((name for name in self.needs if _WHOLE_HALF.fullmatch(name)), None)


def alternatives(version: str) -> list[list[str]]:
    """The names of the packages that may hold a version, in groups of those that are needed all."""
    branch = version.partition(".")[0]
    return [[name.format(branch) for name in names] for names in _ALTERNATIVES]


def listed(text: str) -> list[Package]:
    """What ``apt-cache show`` printed, without what is installed and no archive has any more."""
    found = (_fields(paragraph) for paragraph in text.split("\n\n"))
    return [_package(fields) for fields in found if "Filename" in fields]


def chosen(packages: Iterable[Package], version: str) -> list[Package]:
    """The first group of which all are there in exactly that version; none where none is whole."""
    found: dict[str, Package] = {}
    for package in packages:
        if package.upstream == version and package.stands_for is None:
            found.setdefault(package.name, package)
    groups = (names for names in alternatives(version) if all(name in found for name in names))
    return [found[name] for name in next(groups, ())]


def candidates(machine: Machine, timeout: float = 10.0) -> dict[str, str]:
    """The packages that hold exactly what the kernel module needs. Nothing is installed.

    Arguments:
        machine: one whose packages apt-get installs; for any other there are none, nor for one
            that has all it needs.
        timeout: how long apt-cache may take, in seconds.

    Returns:
        Names with their versions, of which ``apt-get install NAME=VERSION`` is made.
    """
    program = shutil.which("apt-cache")
    if machine.module is None or machine.installer != "apt-get" or program is None:
        return {}
    version = machine.module.version
    userland = machine.userland
    if userland.is_whole and userland.version == version:  # apt-cache may take seconds.
        return {}
    names = [name for group in alternatives(version) for name in group]
    try:
        done = subprocess.run(
            [program, *_WRITE_NOTHING, "show", *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    packages = chosen(listed(done.stdout.decode(errors="replace")), version)
    return {package.name: package.version for package in packages}


def stubs(root: str = "/") -> dict[str, str]:
    """Installed packages that bear one driver branch in their name and have another's libraries.

    Arguments:
        root: the directory that stands for ``/``.

    Returns:
        Their names, each with the version that it brings.
    """
    installed: dict[str, Package] = {}
    for paragraph in _files.read_text(os.path.join(root, "var/lib/dpkg/status")).split("\n\n"):
        if "\nPackage: libnvidia-gl-" not in f"\n{paragraph}":
            continue
        fields = _fields(paragraph)
        if fields.get("Status", "").endswith(" installed"):
            package = _package(fields)
            installed[package.name] = package
    found: dict[str, str] = {}
    for name, package in installed.items():
        brings = installed.get(package.stands_for or name, package)
        branch = _BRANCH.match(name)
        if branch and brings.upstream and branch[1] != brings.upstream.partition(".")[0]:
            found[name] = brings.version
    return found


def _package(fields: Mapping[str, str]) -> Package:
    size = fields.get("Size", "")
    return Package(
        fields.get("Package", ""),
        fields.get("Version", ""),
        int(size) if size.isdecimal() else 0,
        tuple(_needs(fields)),
    )


def _fields(paragraph: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in paragraph.splitlines() if line[:1].strip())
    return {name: value.strip() for name, _, value in pairs}


def _needs(fields: Mapping[str, str]) -> Iterator[str]:
    for need in re.split(r"[,|]", fields.get("Depends", "")):
        if name := re.match(r"\s*([^\s(:]+)", need):
            yield name[1]


def _upstream(version: str) -> str:
    """The part that the authors of the packaged program chose: without epoch and revision."""
    upstream, dash, whole = version.rpartition(":")[2].rpartition("-")
    return upstream if dash else whole
