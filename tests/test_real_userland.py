"""NVIDIA's own userland, as Debian packages it, on a machine without the GPU.

It is fetched as install-driver does that, from Debian's own archive. What it does without a GPU is
the same with the real libraries as with the stand-ins: it is opened from where it lies, it lists no
device, and whatever rendered before goes on rendering.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rig import machines, repository

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEWEST = """
import sys
from moderngl_colab.installer.private_apt import PrivateApt
apt = PrivateApt(sys.argv[1], patience=120)
failure = apt.update()
print(next((package.upstream for package in apt.show(["libegl-nvidia0"])), failure))
"""
INSTALL = """
import sys
from moderngl_colab.installer.install import install_driver
installed = install_driver(source="apt")
print(installed.folder)
"""
# Each library and each of its siblings, opened; where they were opened from.
OPENED = """
import json, os
from pathlib import Path
from moderngl_colab import _driver
userland = _driver.find()
for library in ("EGL", "GLX"):
    userland.open(library)
lines = Path("/proc/self/maps").read_text().splitlines()
paths = {line.split()[-1] for line in lines if "nvidia" in line.split()[-1]}
print(json.dumps([userland.version, sorted(paths)]))
"""


class Real(NamedTuple):
    """NVIDIA's userland, and a machine whose kernel module is of that version."""

    machine: machines.Machine
    folder: str
    env: dict[str, str]


def sources() -> str:
    """The archive that this system's packages come from: its non-free component."""
    try:
        targets = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(ORIGIN)",
             "Created-By: Packages", "Component: main", "Origin: Debian"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"there is no apt-get with lists of Debian's packages here: {error}")
    if not targets.stdout:
        pytest.skip("this is not Debian, or its lists of packages are empty")
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    places = sorted({tuple(line.split()[:2]) for line in targets.stdout.splitlines()})
    return "".join(f"deb {signed}{uri} {release} non-free\n" for uri, release in places)


@pytest.fixture(scope="module")
def real(
    python: Callable[..., machines.Finished], tmp_path_factory: pytest.TempPathFactory
) -> Real:
    """The newest that the archive has, installed."""
    machine = dataclasses.replace(
        machines.MACHINES["no-nvidia"],
        items=(machines.Item("/etc/apt/sources.list.d/non-free.list", sources()),),
        removed=("/etc/apt/sources.list.d/*",),
    )
    version = python(machine, NEWEST, repository.ARCHITECTURE, timeout=150).stdout.strip()
    if not version.replace(".", "").isdecimal():
        pytest.skip(f"Debian's non-free packages cannot be had here: {version}")
    machine = dataclasses.replace(machine, kernel=version)
    env = {"XDG_DATA_HOME": str(tmp_path_factory.mktemp("data"))}
    folder = python(machine, INSTALL, env=env, timeout=300).stdout.strip()
    return Real(machine, folder, env)


def test_the_real_driver_is_opened_with_all_that_belongs_to_it(
    python: Callable[..., machines.Finished], real: Real
) -> None:
    version, opened = json.loads(python(real.machine, OPENED, env=real.env).stdout)

    assert version == real.machine.kernel
    names = ["libEGL_nvidia", "libGLX_nvidia"]
    names += [f"libnvidia-{name}" for name in ("eglcore", "glcore", "glsi", "tls")]
    if int(version.partition(".")[0]) >= 550:
        names.append("libnvidia-gpucomp")
    assert opened == sorted(f"{real.folder}/{name}.so.{version}" for name in names)


@pytest.mark.parametrize("state", ["clean", "raw-current"])
def test_the_real_driver_without_a_gpu_says_why_it_does_not_serve(
    chain: Callable[..., dict[str, Any]], real: Real, state: str
) -> None:
    report = chain(real.machine, state, env=real.env)

    egl, glx, mesa = report["attempts"]
    assert (egl["outcome"], egl["cause"]) == ("unavailable", "driver-refused")
    assert egl["reason"] == (
        f"libEGL lists no NVIDIA device, though {real.folder}/libEGL_nvidia.so."
        f"{real.machine.kernel} is there; NVML: NVML Shared Library Not Found (12)"
    )
    assert (glx["outcome"], glx["cause"]) == ("failed", "glx-refused")
    assert glx["reason"].startswith("GLX over Xvfb: OpenGL 3.3: ")
    assert mesa["outcome"] == "selected"
    assert (report["pixel"], report["changed"], report["children"]) == ("ff0000", [], [])
    if state != "clean":
        assert report["raw"] == [
            f"{report['vendor']} {colour}"
            for colour in ("00ff00", "00ff00", "ff00ff", "ff00ff", "ffffff")
        ]
