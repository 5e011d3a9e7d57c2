"""Remedies as a user of these machines reads them, for the tests that compare whole texts."""

from __future__ import annotations

import os


def as_root(command: str) -> str:
    """A command that needs root: who is not root is told so."""
    return command if os.geteuid() == 0 else f"ask who is root here to run: {command}"


def apt(packages: str) -> str:
    """What installs packages, for who may."""
    return as_root(f"apt-get update && apt-get install -y {packages}")


DISPATCH = apt("libegl1 libgl1")
XVFB = apt("xvfb")
XKB = apt("--reinstall xvfb xkb-data x11-xkb-utils")
MESA = apt("libegl-mesa0 libgl1-mesa-dri")
X11 = apt("libx11-6 libxext6")

# The platform of the tests is Kubernetes, whatever machine they run on.
GPU = 'add "nvidia.com/gpu: 1" to the container\'s resources.limits'
NVML = (
    'add "runtimeClassName: nvidia" to the pod\'s spec and "- {name: NVIDIA_DRIVER_CAPABILITIES, '
    "value: all}\" to the container's env"
)
INSTALL = "python -m moderngl_colab install-driver"
GRAPHICS = f"{NVML}; or here: {INSTALL}"
SMI = "nvidia-smi shows whether the driver itself works"
WHOLE_GPU = "ask for a whole GPU; its administrator can end MIG mode with nvidia-smi -mig 0"
D3D12 = "export GALLIUM_DRIVER=d3d12 LD_LIBRARY_PATH=/usr/lib/wsl/lib"
RUN = "python -m moderngl_colab run -- PROGRAM ..."
