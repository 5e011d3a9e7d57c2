"""Packages of Debian's and Ubuntu's kind that hold the OpenGL half of NVIDIA's driver.

Both halves of the driver must be of one version, to the last digit. Since 2026 Ubuntu's
libnvidia-gl-535, -550 and -570 are empty packages that bring driver 580 along, so a bare name is
never good advice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from moderngl_colab import _driver, _files
from moderngl_colab.machine import Machine

__all__ = ["candidates", "stubs"]

# Ubuntu's, of which one excludes the other, and Debian's, which belong together.
_ALTERNATIVES = (
    ("libnvidia-gl-{}",),
    ("libnvidia-gl-{}-server",),
    ("libegl-nvidia0", "libglx-nvidia0"),
)
_BRANCH = re.compile(r"libnvidia-gl-(\d+)(-|$)")
# Run by root it would write its caches.
_WRITE_NOTHING = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")


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
    if _whole(machine.userland, machine.module.version):  # apt-cache may take seconds.
        return {}
    branch = machine.module.version.partition(".")[0]
    alternatives = [[name.format(branch) for name in names] for names in _ALTERNATIVES]
    names = [name for group in alternatives for name in group]
    try:
        done = subprocess.run(
            [program, *_WRITE_NOTHING, "madison", *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, str] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        name, version, *_ = [*map(str.strip, line.split("|")), ""]
        if name in names and _upstream(version) == machine.module.version:
            found.setdefault(name, version)
    whole = (group for group in alternatives if all(name in found for name in group))
    return {name: found[name] for name in next(whole, ())}


def stubs(root: str = "/") -> dict[str, str]:
    """Installed packages that bear one driver branch in their name and another in their version.

    Arguments:
        root: the directory that stands for ``/``.

    Returns:
        Their names with their versions.
    """
    found: dict[str, str] = {}
    for paragraph in _files.read_text(os.path.join(root, "var/lib/dpkg/status")).split("\n\n"):
        if "\nPackage: libnvidia-gl-" not in f"\n{paragraph}":
            continue
        pairs = (line.partition(":") for line in paragraph.splitlines() if line[:1].strip())
        fields = {name: value.strip() for name, _, value in pairs}
        name, version = fields["Package"], _upstream(fields.get("Version", ""))
        branch = _BRANCH.match(name)
        installed = fields.get("Status", "").endswith(" installed")
        if branch and installed and version and branch[1] != version.partition(".")[0]:
            found[name] = fields["Version"]
    return found


def _whole(userland: _driver.Userland, version: str) -> bool:
    return userland.version == version and all(
        library in userland.libraries and not userland.missing_siblings(library)
        for library in _driver.VENDOR_LIBRARIES
    )


def _upstream(version: str) -> str:
    """The part that the authors of the packaged program chose: without epoch and revision."""
    upstream, dash, whole = version.rpartition(":")[2].rpartition("-")
    return upstream if dash else whole
