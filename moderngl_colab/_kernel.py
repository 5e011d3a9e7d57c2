"""The kernel's half of NVIDIA's driver: its module, and the device nodes that lead to it."""

from __future__ import annotations

import os
from typing import NamedTuple

from moderngl_colab import _files

__all__ = [
    "KernelModule",
    "Node",
    "count_gpus",
    "is_version",
    "module",
    "nodes",
    "pci_address",
    "pci_of",
    "version",
]

_GPU = "nvidia"
_DIGITS = 6
_CONTROL = ("nvidiactl", "nvidia-modeset")
_PCI = r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])"


class KernelModule(NamedTuple):
    """NVIDIA's kernel module, which is loaded."""

    version: str
    """For instance ``"550.54.15"``."""
    path: str
    """The file that says so."""


class Node(NamedTuple):
    """A device node, and whether this process may open it."""

    path: str
    error: int = 0
    """What access(2) answers for reading and writing: 0, or EACCES where its mode forbids it, or
    EPERM where a control group does."""
    group: int = 0
    """The group it belongs to."""
    mode: int = 0o666
    """Its permission bits."""
    group_name: str = ""
    """What the group is called here, if it has a name."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is one GPU's own, ``/dev/nvidia0`` and so on."""
        return _is_number(os.path.basename(self.path).removeprefix(_GPU))


def module(root: str = "/") -> KernelModule | None:
    """NVIDIA's kernel module, if it is loaded. In a container, the host's shows."""
    path = os.path.join(root, "proc/driver/nvidia/version")
    first_line = _files.read_text(path).partition("\n")[0]
    for word in first_line.partition("Kernel Module")[2].split():
        if is_version(word):
            return KernelModule(word, path)
    path = os.path.join(root, "sys/module/nvidia/version")
    for word in _files.read_text(path).split():
        if is_version(word):
            return KernelModule(word, path)
    return None


def version(root: str = "/") -> str | None:
    """The version of the loaded NVIDIA kernel module, for instance ``"550.54.15"``, or None."""
    loaded = module(root)
    return None if loaded is None else loaded.version


def nodes(root: str = "/") -> tuple[Node, ...]:
    """The device nodes that GL may need: NVIDIA's, the render nodes, WSL2's."""
    folder = os.path.join(root, "dev")
    found = [name for name in _CONTROL if os.path.exists(os.path.join(folder, name))]
    numbers = (name.removeprefix(_GPU) for name in _files.names(folder, _GPU))
    found += [f"{_GPU}{n}" for n in sorted(filter(_is_number, numbers), key=int)]
    found += [f"dri/{name}" for name in _files.names(os.path.join(folder, "dri"), "renderD")]
    found += ["dxg"] if os.path.exists(os.path.join(folder, "dxg")) else []
    return tuple(_node(os.path.join(folder, name)) for name in found)


def count_gpus(root: str = "/") -> int:
    """How many GPUs this process may open."""
    return sum(node.is_gpu and not node.error for node in nodes(root))


def pci_address(text: str) -> str | None:
    """A PCI address as the kernel writes it, ``"0000:0f:00.0"``; None where it is none.

    NVML writes ``"00000000:0F:00.0"``; without a domain it is 0.
    """
    import re

    parts = re.fullmatch(_PCI, text.lower())
    if parts is None:
        return None
    domain, bus, device, function = parts.groups("0")
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}"


def pci_of(node: str, root: str = "/") -> str | None:
    """The PCI address of the GPU behind a DRM node such as ``/dev/dri/renderD128``.

    The node itself need not be there: containers see their host's sysfs.
    """
    link = os.path.join(root, "sys/class/drm", os.path.basename(node), "device")
    return pci_address(os.path.basename(os.path.realpath(link)))


def is_version(text: str) -> bool:
    """Whether it is written as NVIDIA's versions are, ``535.98`` or ``550.54.15``."""
    numbers = text.split(".")
    return len(numbers) in (2, 3) and all(
        _is_number(number) and len(number) <= _DIGITS for number in numbers
    )


def _is_number(text: str) -> bool:
    """Whether it is one in the kernel's digits; to Python those of every script are decimal."""
    return text.isascii() and text.isdecimal()


def _node(path: str) -> Node:
    # Not by opening it: to open a GPU that nobody uses brings it up, which takes seconds. The
    # kernel checks the control group's rules for access(2), too.
    error = _files.refused(path, os.R_OK | os.W_OK)
    try:
        status = os.stat(path)
    except OSError as gone:
        return Node(path, gone.errno or error)
    return Node(path, error, status.st_gid, status.st_mode & 0o777, _name_of(status.st_gid, error))


def _name_of(group: int, error: int) -> str:
    if not error:  # Nobody asks for it then, and the group may be one of a directory service.
        return ""
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except (KeyError, OSError):
        return ""
