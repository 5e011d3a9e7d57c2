"""GLX by ctypes: what is current in the calling thread, and whether a display serves at all.

Facts: GLX 1.4, GLX_ARB_create_context, the X11 protocol's error codes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_ubyte, c_ulong, c_void_p
from typing import Any, NamedTuple

from moderngl_colab._process import declare

__all__ = [
    "LIBGL",
    "LIBX11",
    "Binding",
    "GLXError",
    "LibGLX",
    "current_display",
    "keep_error_handler",
    "loaded",
    "probe",
]

LIBGL = "libGL.so.1"
LIBX11 = "libX11.so.6"

_CORE_PROFILE = 0x00000001
_PROFILE_MASK, _MAJOR_VERSION, _MINOR_VERSION = 0x9126, 0x2091, 0x2092
# What glcontext's X11 backend asks of a visual: RGBA, double buffer, RGB of 8 bits, depth of 24.
_VISUAL = (c_int * 11)(4, 5, 8, 8, 9, 8, 10, 8, 12, 24, 0)


class GLXError(Exception):
    """A step towards a GLX context that was refused; its text says which and how."""


class Binding(NamedTuple):
    """The GLX context that is current in a thread, with its display and drawables."""

    display: int
    draw: int
    read: int
    context: int


class LibGLX:
    """The GLX entry points of libGL.

    Arguments:
        mode: flags for dlopen(3); with RTLD_NOLOAD only a library that is loaded already.

    Raises:
        OSError: libGL.so.1 cannot be opened; the text is the loader's own.
    """

    def __init__(self, mode: int = ctypes.DEFAULT_MODE) -> None:
        self._lib = lib = ctypes.CDLL(LIBGL, mode)
        self._context = declare(lib.glXGetCurrentContext, c_void_p)
        self._display = declare(lib.glXGetCurrentDisplay, c_void_p)
        self._draw = declare(lib.glXGetCurrentDrawable, c_ulong)
        self._read = declare(lib.glXGetCurrentReadDrawable, c_ulong)
        self._make_current = declare(
            lib.glXMakeContextCurrent, c_int, c_void_p, c_ulong, c_ulong, c_void_p
        )
        self.choose_config = declare(
            lib.glXChooseFBConfig,
            POINTER(c_void_p),
            c_void_p,
            c_int,
            c_void_p,
            POINTER(c_int),
        )
        self.choose_visual = declare(lib.glXChooseVisual, c_void_p, c_void_p, c_int, c_void_p)
        self.destroy_context = declare(lib.glXDestroyContext, None, c_void_p, c_void_p)
        self._get_proc_address = declare(lib.glXGetProcAddress, c_void_p, c_char_p)

    def current(self) -> Binding | None:
        """What is current in this thread."""
        context = self._context()
        if not context:
            return None
        return Binding(self._display(), self._draw(), self._read(), context)

    def bind(self, binding: Binding) -> bool:
        """Make current what :meth:`current` gave; False where it is refused.

        Since 24, Mesa has an X error for one whose thread ended while it was current, and by
        Xlib's own handler that would be the end of this process.
        """
        with keep_error_handler(ctypes.CDLL(LIBX11), _ErrorHandler(lambda *_: 0)):
            return bool(
                self._make_current(binding.display, binding.draw, binding.read, binding.context)
            )

    def unbind(self, binding: Binding) -> bool:
        """Leave nothing current in this thread."""
        return bool(self._make_current(binding.display, 0, 0, None))

    def create_context(self) -> Callable[..., Any]:
        """glXCreateContextAttribsARB.

        Raises:
            GLXError: the library does not have it.
        """
        address = self._get_proc_address(b"glXCreateContextAttribsARB")
        if not address:
            raise GLXError("glXCreateContextAttribsARB is not there")
        prototype = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
        return prototype(address)


_opened: LibGLX | None = None


def loaded() -> LibGLX | None:
    """GLX, if somebody has loaded libGL.so.1 already."""
    global _opened
    if _opened is None:
        try:
            _opened = LibGLX(os.RTLD_NOW | os.RTLD_NOLOAD)
        except OSError:
            return None
    return _opened


def current_display() -> str | None:
    """The name of the display whose context is current, for instance ``":7"``."""
    glx = loaded()
    if glx is None or (binding := glx.current()) is None:
        return None
    name = declare(ctypes.CDLL(LIBX11).XDisplayString, c_char_p, c_void_p)(binding.display)
    return str(name.decode(errors="replace"))


class _XErrorEvent(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("display", c_void_p),
        ("resource", c_ulong),
        ("serial", c_ulong),
        ("error_code", c_ubyte),
        ("request_code", c_ubyte),
        ("minor_code", c_ubyte),
    )


_ErrorHandler = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(_XErrorEvent))


@contextmanager
def keep_error_handler(x11: ctypes.CDLL, handler: Any = None) -> Iterator[None]:
    """Put back Xlib's error handler after a block that changes it, as glcontext's backend does.

    Arguments:
        x11: libX11.
        handler: the handler for the length of the block; None for Xlib's own.
    """
    set_handler = declare(x11.XSetErrorHandler, c_void_p, c_void_p)
    before = set_handler(ctypes.cast(handler, c_void_p) if handler is not None else None)
    try:
        yield
    finally:
        set_handler(before)


def probe(version: int) -> None:
    """Make and destroy a context on $DISPLAY, as glcontext will, and say what is refused.

    glcontext keeps the connection when its context is refused, and turns every X error into
    "cannot create context"; this one closes it and keeps the server's own code.

    Arguments:
        version: for instance 330.

    Raises:
        GLXError: a step was refused.
        OSError: libGL or libX11 cannot be opened.
    """
    glx, x11 = LibGLX(), ctypes.CDLL(LIBX11)
    open_display = declare(x11.XOpenDisplay, c_void_p, c_char_p)
    display = open_display(None)
    if not display:
        raise GLXError("XOpenDisplay: the display does not answer")
    errors: list[str] = []

    error_text = declare(x11.XGetErrorText, c_int, c_void_p, c_int, c_void_p, c_int)

    def note(origin: int, event: Any) -> int:
        code, text = event.contents.error_code, ctypes.create_string_buffer(256)
        error_text(origin, code, text, len(text))
        errors.append(f"X error {text.value.decode(errors='replace')} ({code})")
        return 0

    with keep_error_handler(x11, _ErrorHandler(note)):
        try:
            _try_context(glx, x11, display, version, errors)
        finally:
            declare(x11.XCloseDisplay, c_int, c_void_p)(display)


def _try_context(
    glx: LibGLX, x11: ctypes.CDLL, display: int, version: int, errors: list[str]
) -> None:
    screen, count = declare(x11.XDefaultScreen, c_int, c_void_p)(display), c_int(0)
    free = declare(x11.XFree, c_int, c_void_p)
    configs = glx.choose_config(display, screen, None, byref(count))
    if not configs:
        raise GLXError("glXChooseFBConfig gave no config")
    try:
        visual = glx.choose_visual(display, screen, _VISUAL)
        if not visual:
            raise GLXError("glXChooseVisual gave no visual")
        free(visual)
        attributes = (c_int * 7)(
            _PROFILE_MASK, _CORE_PROFILE,
            _MAJOR_VERSION, version // 100 % 10,
            _MINOR_VERSION, version // 10 % 10,
        )  # fmt: skip
        context = glx.create_context()(display, configs[0], None, 1, attributes)
        declare(x11.XSync, c_int, c_void_p, c_int)(display, 0)
        if context:
            glx.destroy_context(display, context)
        if errors or not context:
            answer = ", ".join(errors) or "no context"
            raise GLXError(f"glXCreateContextAttribsARB: {answer}")
    finally:
        free(configs)
