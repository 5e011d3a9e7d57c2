"""NVIDIA's own userland, as Debian packages it, on a machine without the GPU.

What it does without one is the same with the real libraries as with the stand-ins: it is opened
from where it lies, it lists no device, and whatever rendered before goes on rendering.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import driver, machines

PACKAGES = (
    "libegl-nvidia0",
    "libglx-nvidia0",
    "libnvidia-eglcore",
    "libnvidia-glcore",
    "libnvidia-ml1",
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def apt(folder: Path, *arguments: str) -> None:
    """Run apt-get with state of its own; the system's is neither read nor changed."""
    state = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/nowhere",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    options = [f"-o{name}={value}" for name, value in state.items()]
    done = subprocess.run(
        ["apt-get", "-q", "-oAPT::Update::Error-Mode=any", *options, *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"Debian's non-free packages cannot be had here: {done.stderr.strip()[-200:]}")


def sources() -> str:
    """The archive that this system's packages come from, with its non-free component."""
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
def userland(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' files, below a directory of their own."""
    folder = tmp_path_factory.mktemp("userland")
    (folder / "sources.list").write_text(sources())
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    apt(folder, "update")
    apt(folder, "download", *PACKAGES)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return folder / "root"


@pytest.mark.parametrize("state", ["clean", "raw-current"])
def test_the_real_driver_without_a_gpu_is_opened_and_says_why_it_does_not_serve(
    chain: Callable[..., dict[str, Any]], userland: Path, state: str
) -> None:
    siblings = userland / str(driver.multiarch()).lstrip("/")
    vendors = siblings / "nvidia" / "current"
    library = vendors / "libEGL_nvidia.so.0"
    version = os.path.realpath(library).rpartition(".so.")[2]
    machine = dataclasses.replace(machines.MACHINES["no-nvidia"], kernel=version)

    report = chain(
        machine,
        state,
        env={"MODERNGL_COLAB_DRIVER_DIR": str(vendors), "LD_LIBRARY_PATH": str(siblings)},
    )

    egl, glx, mesa = report["attempts"]
    assert egl["outcome"] == "unavailable"
    assert egl["reason"].startswith(
        f"libEGL lists no NVIDIA device, though {vendors}/libEGL_nvidia.so.{version} is there; NVML"
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
