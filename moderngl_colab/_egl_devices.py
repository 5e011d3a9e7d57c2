"""EGL devices: how they are told apart, and what they say of themselves.

Facts: EGL_EXT_device_query, EGL_NV_device_cuda, EGL_EXT_device_persistent_id,
EGL_EXT_device_drm_render_node.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int32, c_ssize_t, c_uint32, c_void_p
from typing import NamedTuple

__all__ = ["Details", "Device", "details", "words"]

_CUDA_DEVICE = 0x323A
_UUID = 0x335C
_RENDER_NODE_FILE = 0x3377

_MOST_ORDINALS = 1024
_NO_UUID = bytes(16)

Address = Callable[[str], int | None]


class Device(NamedTuple):
    """An EGL device; the number is its place in eglQueryDevicesEXT's list, from 0 on."""

    number: int
    handle: int
    extensions: frozenset[str]

    @property
    def is_nvidia(self) -> bool:
        """True for NVIDIA's, told by a string alone.

        Drivers 450 and 455 crash when they are asked for an attribute of a hidden GPU.
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


def details(address: Address, device: Device) -> Details:
    """Ask a device what its extensions say that it can be asked, and nothing else.

    Arguments:
        address: gives an EGL function's address by its name, None for an unknown one.
        device: the device.
    """
    return Details(_cuda(address, device), _nvml_uuid(address, device), _node(address, device))


def words(text: bytes | None) -> frozenset[str]:
    """The words of a list of extensions."""
    return frozenset((text or b"").decode(errors="replace").split())


def _cuda(address: Address, device: Device) -> int | None:
    where = address("eglQueryDeviceAttribEXT") if device.is_nvidia else None
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
    from uuid import UUID

    return f"GPU-{UUID(bytes=bytes(content))}"


def _node(address: Address, device: Device) -> str | None:
    named = "EGL_EXT_device_drm_render_node" in device.extensions
    where = address("eglQueryDeviceStringEXT") if named else None
    if where is None:
        return None
    query = ctypes.CFUNCTYPE(c_char_p, c_void_p, c_int32)(where)
    # Empty where nvidia-drm is not loaded.
    path = (query(device.handle, _RENDER_NODE_FILE) or b"").decode(errors="replace")
    return path if path.startswith("/dev/") and path.isprintable() else None
