"""libEGL by ctypes: its devices, and what is current in the calling thread.

Every signature is declared here, and every failure becomes :class:`EGLError` here, once.
Facts: EGL 1.5, EGL_EXT_device_enumeration, EGL_EXT_device_query, EGL_EXT_platform_device.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int32, c_uint32, c_void_p
from typing import Any, NamedTuple

from moderngl_colab import _egl_devices
from moderngl_colab._egl_devices import Device
from moderngl_colab._process import declare

__all__ = [
    "SONAME",
    "Binding",
    "Device",
    "EGLError",
    "LibEGL",
    "error_name",
    "forget",
    "loaded",
    "opened",
]

SONAME = "libEGL.so.1"

# In the order of their codes, from 0x3000 on.
_ERRORS = """
    EGL_SUCCESS EGL_NOT_INITIALIZED EGL_BAD_ACCESS EGL_BAD_ALLOC EGL_BAD_ATTRIBUTE EGL_BAD_CONFIG
    EGL_BAD_CONTEXT EGL_BAD_CURRENT_SURFACE EGL_BAD_DISPLAY EGL_BAD_MATCH EGL_BAD_NATIVE_PIXMAP
    EGL_BAD_NATIVE_WINDOW EGL_BAD_PARAMETER EGL_BAD_SURFACE EGL_CONTEXT_LOST
""".split()  # noqa: SIM905  - a list of literals would fill a screen
_FIRST_ERROR = 0x3000
_BAD_CONFIG, _BAD_PARAMETER = 0x3005, 0x300C

_DRAW, _READ = 0x3059, 0x305A
_PLATFORM_DEVICE = 0x313F
_MOST_DEVICES = 256

# The attributes that glcontext's EGL backend asks for: RGB and depth of 8 bits or more, pbuffers,
# desktop OpenGL, and the end of the list.
_CONFIG = (c_int32 * 11)(
    0x3033, 0x0001, 0x3022, 8, 0x3023, 8, 0x3024, 8, 0x3040, 0x0008, 0x3038
)  # fmt: skip


def error_name(code: int) -> str:
    """``"EGL_BAD_MATCH (0x3009)"`` for 0x3009, ``"unknown error (0x1234)"`` for 0x1234."""
    offset = code - _FIRST_ERROR
    name = _ERRORS[offset] if 0 <= offset < len(_ERRORS) else "unknown error"
    return f"{name} ({code:#06x})"


class EGLError(Exception):
    """A call that EGL refused.

    Arguments:
        function: its name.
        code: what eglGetError gave.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(function, code)
        self.function = function
        self.code = code

    def __str__(self) -> str:
        return f"{self.function} failed: {error_name(self.code)}"


class Binding(NamedTuple):
    """The EGL context that is current in a thread, with its display and surfaces."""

    display: int
    draw: int | None
    read: int | None
    context: int


class LibEGL:
    """One instance of libEGL in this process.

    Arguments:
        name: a SONAME or path for dlopen(3).
        mode: flags for dlopen(3); with RTLD_NOLOAD only a library that is loaded already.

    Raises:
        OSError: it cannot be opened; the text is the loader's own.
    """

    def __init__(self, name: str = SONAME, mode: int = ctypes.DEFAULT_MODE) -> None:
        self.name = name
        self._devices: tuple[Device, ...] | None = None
        self._ready: set[int] = set()
        self._lib = lib = ctypes.CDLL(name, mode)
        self._get_error = declare(lib.eglGetError, c_int32)
        self._get_proc_address = declare(lib.eglGetProcAddress, c_void_p, c_char_p)
        self._initialize = declare(lib.eglInitialize, c_uint32, c_void_p, c_void_p, c_void_p)
        self._choose_config = declare(
            lib.eglChooseConfig, c_uint32, c_void_p, c_void_p, c_void_p, c_int32, c_void_p
        )
        self._current_context = declare(lib.eglGetCurrentContext, c_void_p)
        self._current_display = declare(lib.eglGetCurrentDisplay, c_void_p)
        self._current_surface = declare(lib.eglGetCurrentSurface, c_void_p, c_int32)
        self._make_current = declare(
            lib.eglMakeCurrent, c_uint32, c_void_p, c_void_p, c_void_p, c_void_p
        )

    @property
    def path(self) -> str:
        """The file that the loader opened, by dladdr(3)."""
        info = _DLInfo()
        dladdr = ctypes.CDLL(None).dladdr
        dladdr.argtypes = [c_void_p, c_void_p]
        dladdr(ctypes.cast(self._lib.eglGetError, c_void_p), byref(info))
        return (info.file_name or b"").decode(errors="surrogateescape")

    @property
    def asked(self) -> bool:
        """Whether :meth:`devices` was called, and with it the vendors were read."""
        return self._devices is not None

    def devices(self) -> tuple[Device, ...]:
        """The EGL devices, in the order of ``device_index``. Asked once: vendors never change.

        Raises:
            EGLError: eglQueryDevicesEXT is absent (reported as EGL_BAD_PARAMETER) or refuses.
        """
        if self._devices is None:
            query = self._extension("eglQueryDevicesEXT", c_uint32, c_int32, c_void_p, c_void_p)
            handles, count = (c_void_p * _MOST_DEVICES)(), c_int32(0)
            self._check("eglQueryDevicesEXT", query(_MOST_DEVICES, handles, byref(count)))
            if count.value < 1:  # libglvnd without a vendor knows no other function of devices.
                self._devices = ()
                return ()
            string = self._extension("eglQueryDeviceStringEXT", c_char_p, c_void_p, c_int32)
            listed = enumerate(handles[: count.value])
            self._devices = tuple(
                _egl_devices.described(place, at, string) for place, at in listed if at
            )
        return self._devices

    def details(self, device: Device) -> _egl_devices.Details:
        """What a device says of itself, as far as its extensions say that it can be asked."""
        return _egl_devices.details(self._address, device)

    def initialize(self, device: Device) -> None:
        """Bring up a device's display and see that it can draw desktop OpenGL.

        glcontext does the same once more, but takes the first of zero configs without a look.

        Raises:
            EGLError: a call was refused, or no config serves (EGL_BAD_CONFIG).
        """
        if device.number in self._ready:
            return
        platform_display = self._extension(
            "eglGetPlatformDisplayEXT", c_void_p, c_uint32, c_void_p, c_void_p
        )
        display = platform_display(_PLATFORM_DEVICE, device.handle, None)
        self._check("eglGetPlatformDisplayEXT", display)
        self._check("eglInitialize", self._initialize(display, None, None))
        config, count = c_void_p(), c_int32(0)
        self._check(
            "eglChooseConfig",
            self._choose_config(display, _CONFIG, byref(config), 1, byref(count)),
        )
        if count.value < 1:
            raise EGLError("eglChooseConfig", _BAD_CONFIG)
        self._ready.add(device.number)

    def current(self) -> Binding | None:
        """What is current in this thread, whichever instance of libEGL bound it."""
        context = self._current_context()
        if not context:
            return None
        return Binding(
            self._current_display(),
            self._current_surface(_DRAW),
            self._current_surface(_READ),
            context,
        )

    def bind(self, binding: Binding) -> bool:
        """Make current what :meth:`current` gave; False if this instance does not know it."""
        return bool(
            self._make_current(binding.display, binding.draw, binding.read, binding.context)
        )

    def unbind(self, binding: Binding) -> bool:
        """Leave nothing current in this thread; False if this instance does not know it."""
        return bool(self._make_current(binding.display, None, None, None))

    def last_error(self) -> int:
        """What the last EGL call of this thread ended with."""
        return int(self._get_error())

    def _check(self, function: str, result: int | None) -> None:
        if not result:
            raise EGLError(function, self.last_error())

    def _address(self, function: str) -> int | None:
        address: int | None = self._get_proc_address(function.encode())
        return address

    def _extension(self, name: str, result: type, *arguments: type) -> Callable[..., Any]:
        if (address := self._address(name)) is None:
            raise EGLError(name, _BAD_PARAMETER)
        return ctypes.CFUNCTYPE(result, *arguments)(address)


_opened: dict[str, LibEGL] = {}


def forget() -> None:
    """Open every instance anew."""
    _opened.clear()


def opened(name: str = SONAME) -> LibEGL:
    """The instance of that name, opened at the first call.

    Raises:
        OSError: it cannot be opened.
    """
    if name not in _opened:
        _opened[name] = LibEGL(name)
    return _opened[name]


def loaded() -> tuple[LibEGL, ...]:
    """Every instance opened here, and the ordinary one if somebody else has loaded it."""
    if SONAME not in _opened:
        with contextlib.suppress(OSError):
            _opened[SONAME] = LibEGL(SONAME, os.RTLD_NOW | os.RTLD_NOLOAD)
    return tuple(_opened.values())


class _DLInfo(ctypes.Structure):
    _fields_ = (
        ("file_name", c_char_p),
        ("base", c_void_p),
        ("symbol_name", c_char_p),
        ("symbol", c_void_p),
    )
