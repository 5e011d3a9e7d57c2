"""EGL devices: how they are told apart, and what they say of themselves.

Facts: EGL_EXT_device_query, EGL_NV_device_cuda, EGL_EXT_device_persistent_id,
EGL_EXT_device_drm, EGL_EXT_device_drm_render_node, EGL_EXT_device_query_name.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int32, c_ssize_t, c_uint32, c_void_p
from typing import NamedTuple

from moderngl_colab._kernel import pci_of

__all__ = ["Details", "Device", "described", "details"]

_VENDOR, _EXTENSIONS = 0x3053, 0x3055
_CUDA_DEVICE = 0x323A
_UUID = 0x335C
_DEVICE_FILE, _RENDER_NODE_FILE = 0x3233, 0x3377

_MOST_ORDINALS = 1024
_NO_UUID = bytes(16)

Address = Callable[[str], int | None]


class Device(NamedTuple):
    """An EGL device; the number is its place in eglQueryDevicesEXT's list, from 0 on."""

    number: int
    handle: int
    extensions: frozenset[str]
    vendor: str = ""
    """Whose it is, where it says so."""

    @property
    def is_nvidia(self) -> bool:
        """True for NVIDIA's, told by strings alone."""
        return self.has_ordinal or self.vendor.startswith("NVIDIA")

    @property
    def has_ordinal(self) -> bool:
        """Whether it can be asked for CUDA's ordinal.

        Drivers 450 and 455 crash when a GPU that is hidden from CUDA is.
        """
        return "EGL_NV_device_cuda" in self.extensions


class Details(NamedTuple):
    """What a device says of itself; None for what it does not say, or says nonsense of."""

    cuda: int | None
    """The ordinal that CUDA gives it in this process."""
    uuid: str | None
    """As NVML writes it, ``"GPU-..."``."""
    render_node: str | None
    """For instance ``"/dev/dri/renderD128"``."""
    pci: str | None = None
    """Its PCI address, for instance ``"0000:0f:00.0"``."""

    def __str__(self) -> str:
        ordinal = "no ordinal of CUDA" if self.cuda is None else f"cuda:{self.cuda}"
        pci = "no PCI address" if self.pci is None else f"pci:{self.pci}"
        return ", ".join((ordinal, self.uuid or "no UUID", pci))


def details(address: Address, device: Device) -> Details:
    """Ask a device what its extensions say that it can be asked, and nothing else.

    Arguments:
        address: gives an EGL function's address by its name, None for an unknown one.
        device: the device.
    """
    node = _file(address, device, "EGL_EXT_device_drm_render_node", _RENDER_NODE_FILE)
    card = node or _file(address, device, "EGL_EXT_device_drm", _DEVICE_FILE)
    pci = None if card is None else pci_of(card)
    return Details(_cuda(address, device), _nvml_uuid(address, device), node, pci)


def described(number: int, handle: int, string: Callable[[int, int], bytes | None]) -> Device:
    """A device with its strings.

    Arguments:
        number: its place in the list.
        handle: as EGL gave it.
        string: eglQueryDeviceStringEXT.
    """
    extensions = frozenset((string(handle, _EXTENSIONS) or b"").decode(errors="replace").split())
    named = "EGL_EXT_device_query_name" in extensions
    vendor = (string(handle, _VENDOR) or b"") if named else b""
    return Device(number, handle, extensions, vendor.decode(errors="replace"))


def _cuda(address: Address, device: Device) -> int | None:
    where = address("eglQueryDeviceAttribEXT") if device.has_ordinal else None
    if where is None:
        return None
    query = ctypes.CFUNCTYPE(c_uint32, c_void_p, c_int32, c_void_p)(where)
    ordinal = c_ssize_t(-1)
    if not query(device.handle, _CUDA_DEVICE, byref(ordinal)):
        return None  # CUDA_VISIBLE_DEVICES hides it.
    return ordinal.value if 0 <= ordinal.value < _MOST_ORDINALS else None


def _nvml_uuid(address: Address, device: Device) -> str | None:
    named = device.is_nvidia and "EGL_EXT_device_persistent_id" in device.extensions
    where = address("eglQueryDeviceBinaryEXT") if named else None
    if where is None:
        return None
    query = ctypes.CFUNCTYPE(c_uint32, c_void_p, c_int32, c_int32, c_void_p, c_void_p)(where)
    content, size = (ctypes.c_ubyte * 16)(), c_int32(0)
    if not query(device.handle, _UUID, 16, content, byref(size)) or size.value != 16:
        return None
    if bytes(content) == _NO_UUID:
        return None
    digits = bytes(content).hex()
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _file(address: Address, device: Device, extension: str, name: int) -> str | None:
    where = address("eglQueryDeviceStringEXT") if extension in device.extensions else None
    if where is None:
        return None
    query = ctypes.CFUNCTYPE(c_char_p, c_void_p, c_int32)(where)
    # Empty where nvidia-drm is not loaded.
    path = (query(device.handle, name) or b"").decode(errors="replace")
    return path if path.startswith("/dev/") and path.isprintable() else None
