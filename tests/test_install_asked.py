"""What the installation is asked for, and refuses before any source is asked.

The server is NVIDIA's on loopback; see rig/archive.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moderngl_colab.installer import install
from moderngl_colab.installer.source import DriverInstallError
from rig import archive, driver, machines
from rig.layout import Placed

NAME = f"{driver.VERSION}-{archive.MACHINE}"

ON_WSL2 = f"""
import sys
from moderngl_colab import _nvml
from moderngl_colab.installer import install

print(_nvml.ask().driver)
for call in (install.install_driver, install.offers):
    try:
        call(source=sys.argv[1])
    except install.DriverInstallError as error:
        print(error)
print(install.install_driver("{driver.VERSION}", sys.argv[1]).version)
"""


def test_on_wsl2_no_driver_is_installed_that_nobody_named(
    python: Callable[..., machines.Finished], folder: Path
) -> None:
    # Its NVML tells the version for Windows.
    nvml = Placed("/usr/lib/wsl/lib", only=driver.NVML)
    wsl2 = replace(machines.MACHINES["wsl2"], libraries=(nvml,), items=())
    (folder / "driver.run").write_bytes(archive.runfile())
    env = {
        "XDG_DATA_HOME": str(folder / "data"),
        "LD_LIBRARY_PATH": "/usr/lib/wsl/lib",
        "STANDIN_KERNEL": driver.VERSION,
    }

    done = python(wsl2, ON_WSL2, str(folder / "driver.run"), env=env)

    why = (
        "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and no driver of NVIDIA's for "
        "Linux is of use; to install one all the same, say version= (--version), such as "
        "550.54.15\n"
    )
    assert done.stdout == f"{driver.VERSION}\n{why}{why}{driver.VERSION}\n"


@pytest.mark.parametrize("separator", [":", ";"])
def test_a_path_that_no_search_path_can_name_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    parent = folder / f"a{separator}b"
    monkeypatch.setenv("XDG_DATA_HOME", str(parent))
    why = f"(no LD_LIBRARY_PATH can name it: the loader splits one at {separator!r}): "
    said = []
    with archive.serve() as server:
        server.publish(archive.runfile())
        monkeypatch.setenv("MODERNGL_COLAB_DRIVER_URL", server.url)
        for dest in (None, parent):
            with pytest.raises(DriverInstallError) as raised:
                install.install_driver(driver.VERSION, "nvidia", dest, accept_license=True)
            said.append(str(raised.value))

    assert said == [
        f"nothing can be installed in {parent}/moderngl_colab/driver/{NAME} {why}"
        "set XDG_DATA_HOME to another folder of your own",
        f"nothing can be installed in {parent} {why}choose another folder of your own",
    ]
    assert (server.asked, list(folder.iterdir())) == ([], [])
