"""The one place where a context is created and released, and where its GL strings are read.

EGL contexts are of glcontext's backend, and the gaps that it leaves open are closed: a released
context stays current, a refused eglMakeCurrent goes unnoticed. GLX contexts are made here: with
its backend for them a connection stays open where a context is refused, ``:0.0`` is taken for a
display that does not open, Xlib's error handlers are lost, and X errors end the process.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from moderngl_colab import _current, _egl, _glx
from moderngl_colab._handle import Handle
from moderngl_colab.errors import StrategyFailed

__all__ = [
    "GLContext",
    "Handle",
    "Strings",
    "create_egl",
    "create_glx",
    "discard",
    "is_software",
    "spelled",
    "strings",
]

_GL_VENDOR, _GL_RENDERER, _GL_VERSION = 0x1F00, 0x1F01, 0x1F02
_GL_MAJOR_VERSION, _GL_MINOR_VERSION = 0x821B, 0x821C
_SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "software rasterizer", "swr ")


@runtime_checkable
class GLContext(Protocol):
    """An OpenGL context as ``moderngl.create_context(context=...)`` takes it.

    What ``glcontext.get_backend_by_name("egl")(...)`` returns is one.
    """

    def load(self, name: str, /) -> int:
        """The address of a GL function, 0 for an unknown one."""

    def release(self) -> None:
        """Destroy the context."""

    def __enter__(self) -> object:
        """Make it current."""

    def __exit__(self, *exc_info: object) -> object:
        """Make it no longer current."""


class Strings(NamedTuple):
    """What a current context says of itself."""

    vendor: str
    renderer: str
    version: str
    code: int
    """The version as moderngl writes it, for instance 330."""


def create_egl(egl: _egl.LibEGL, device: _egl.Device, version: int) -> Handle:
    """Make a core context of `version` (for instance 330) on an EGL device, and make it current.

    Nothing may be current in the calling thread.

    Raises:
        StrategyFailed: EGL refused, with its error.
    """
    from glcontext import egl as backend

    what = f"EGL device {device.number}"
    try:
        egl.initialize(device)
    except _egl.EGLError as error:
        raise StrategyFailed(f"{what}: {error}") from error
    create = partial(backend.create_context, device_index=device.number, libegl=egl.name)
    context, load = _create(create, version, what, _libgl() or egl.name)
    # eglMakeCurrent was glcontext's last call, and it did not look at the answer.
    answer = egl.last_error()
    if egl.current() is None:
        context.release()
        raise StrategyFailed(f"{what}: eglMakeCurrent failed: {_egl.error_name(answer)}")
    return Handle(context, load, device.number)


def create_glx(version: int, display: str) -> Handle:
    """Make a core context of `version` on a display, and make it current.

    Nothing may be current in the calling thread.

    Arguments:
        version: for instance 330.
        display: its name, for instance ``":1007"``.

    Raises:
        StrategyFailed: the display or its GLX refused.
        OSError: libGL.so.1 or libX11.so.6 cannot be opened.
    """
    what = "GLX over Xvfb"
    try:
        context = _glx.Context(version, display)
    except _glx.GLXError as error:
        raise _refused(what, version, str(error)) from error
    return Handle(context, _looked_up(_glx.LIBGL, _glx.LibGLX().address))


def strings(context: GLContext) -> Strings:
    """GL's own words on the context that is current.

    Raises:
        StrategyFailed: the context does not know the functions to ask.
    """
    addresses = [context.load(name) for name in ("glGetString", "glGetIntegerv")]
    if not all(addresses):
        raise StrategyFailed("the context gives no address for glGetString and glGetIntegerv")
    get_string = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(addresses[0])
    get_integer = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_void_p)(addresses[1])

    def text(name: int) -> str:
        return (get_string(name) or b"").decode(errors="replace")

    def number(name: int) -> int:
        value = ctypes.c_int(0)
        get_integer(name, ctypes.byref(value))
        return value.value

    code = 100 * number(_GL_MAJOR_VERSION) + 10 * number(_GL_MINOR_VERSION)
    return Strings(text(_GL_VENDOR), text(_GL_RENDERER), text(_GL_VERSION), code)


def spelled(version: int) -> str:
    """``"3.3"`` for 330."""
    return f"{version // 100}.{version // 10 % 10}"


def is_software(renderer: str) -> bool:
    """Whether a GL_RENDERER is one of the CPU rasterisers.

    Mesa can also be hardware, for instance ``"D3D12 (NVIDIA ...)"`` on WSL2.
    """
    lowered = renderer.lower()
    return any(name in lowered for name in _SOFTWARE_RENDERERS)


def discard(context: GLContext) -> None:
    """Release a context that nobody will get, and what was started for it alone."""
    _current.unbind(_current.current())
    context.release()
    if isinstance(context, Handle) and context.undo is not None:
        context.undo()


def _create(
    create: Callable[..., Any], version: int, what: str, libgl: str
) -> tuple[Any, Callable[[str], int]]:
    try:
        context = create(mode="standalone", glversion=version, libgl=libgl)
    except Exception as error:  # glcontext raises no narrower class.
        answer = re.sub(
            r"\s*\(0x([0-9a-f]+)\)",
            lambda code: f": {_egl.error_name(int(code[1], 16))}",
            str(error),
        )
        raise _refused(what, version, answer) from error
    return context, _looked_up(libgl, context.load)


def _refused(what: str, version: int, answer: str) -> StrategyFailed:
    least = 330
    return StrategyFailed(
        f"{what}: OpenGL {spelled(version)}: {answer}",
        remedy=f"ask for less: require={least}" if version > least else None,
    )


class _Addresses(dict[str, int]):
    """Addresses of GL functions, looked up once for each library that gives them.

    They do not depend on the context: libGL and libGLdispatch give entry points that find the
    current vendor themselves.
    """

    look_up: Callable[[str], int]

    def __missing__(self, name: str) -> int:
        address = self.look_up(name)
        if address:
            self[name] = address
        return address


_addresses: dict[str, _Addresses] = {}


def _looked_up(library: str, look_up: Callable[[str], int]) -> Callable[[str], int]:
    """Addresses of GL functions by name, of those that the library gave already or gives now."""
    addresses = _addresses.setdefault(library, _Addresses())
    addresses.look_up = look_up
    return addresses.__getitem__


@cache
def _libgl() -> str | None:
    """libGL.so.1 where there is one; an image with libegl1 alone has none, and needs none."""
    try:
        ctypes.CDLL(_glx.LIBGL)
    except OSError:
        return None
    return _glx.LIBGL
