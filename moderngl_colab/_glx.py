"""GLX by ctypes: what is current in the calling thread, and contexts of our own.

Facts: GLX 1.4, GLX_ARB_create_context, the X11 protocol's error codes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_ulong, c_void_p
from typing import Any, NamedTuple

from moderngl_colab import _xconnection, _xlib
from moderngl_colab._process import declare

__all__ = ["LIBGL", "Binding", "Context", "GLXError", "LibGLX", "loaded"]

LIBGL = "libGL.so.1"

_CORE_PROFILE = 0x00000001
_PROFILE_MASK, _MAJOR_VERSION, _MINOR_VERSION = 0x9126, 0x2091, 0x2092
# RGBA, double buffer, RGB of 8 bits, depth of 24: what glcontext's X11 backend asks of a visual.
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
        self.choose_visual = declare(
            lib.glXChooseVisual, POINTER(_xconnection.Visual), c_void_p, c_int, c_void_p
        )
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

        Since 24, Mesa refuses one whose thread ended while it was current. Where its server is
        gone Mesa is not asked: it would read an answer that did not come, and can end the process.
        """
        _xlib.guard()
        if _xlib.is_dead(binding.display):
            return False
        return bool(
            self._make_current(binding.display, binding.draw, binding.read, binding.context)
        )

    def unbind(self, binding: Binding) -> bool:
        """Leave nothing current in this thread."""
        _xlib.guard()
        return bool(self._make_current(binding.display, 0, 0, None))

    def address(self, name: str) -> int:
        """The address of a GL function, 0 for an unknown one."""
        return self._get_proc_address(name.encode()) or 0

    def create_context(self) -> Callable[..., Any]:
        """glXCreateContextAttribsARB.

        Raises:
            GLXError: the library does not have it.
        """
        if not (address := self.address("glXCreateContextAttribsARB")):
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


class Context:
    """A core context with a connection and a window of its own, current when it is made.

    Nothing may be current in the calling thread.

    Arguments:
        version: for instance 330.
        display: its name; None for $DISPLAY.

    Raises:
        GLXError: a step was refused; nothing is left of the others.
        OSError: libGL or libX11 cannot be opened.
    """

    def __init__(self, version: int, display: str | None = None) -> None:
        self._glx = LibGLX()
        self._context: int | None = None
        try:
            self._connection = _xconnection.Connection(display)
        except _xconnection.DisplayError as error:
            raise GLXError(f"XOpenDisplay: {error}") from error
        try:
            with self._connection.errors() as errors:
                self._create(version, errors)
        except BaseException:
            self.release()
            raise

    @property
    def is_alive(self) -> bool:
        """False once its X server has ended."""
        return self._connection.is_alive

    def release(self) -> None:
        """Destroy it and close its connection; it may not be current in another thread."""
        context, self._context = self._context, None
        if context:
            if (binding := self._glx.current()) is not None and binding.context == context:
                self._glx.unbind(binding)
            _xlib.guard()
            self._glx.destroy_context(self._connection.display, context)
        self._connection.close()

    def _create(self, version: int, errors: list[str]) -> None:
        glx, x = self._glx, self._connection
        count = c_int(0)
        configs = glx.choose_config(x.display, x.screen, None, byref(count))
        self._check("glXChooseFBConfig", errors, " gave no config", configs)
        try:
            visual = glx.choose_visual(x.display, x.screen, _VISUAL)
            self._check("glXChooseVisual", errors, " gave no visual", visual)
            try:
                attributes = (c_int * 7)(
                    _PROFILE_MASK, _CORE_PROFILE,
                    _MAJOR_VERSION, version // 100 % 10,
                    _MINOR_VERSION, version // 10 % 10,
                )  # fmt: skip
                self._context = glx.create_context()(x.display, configs[0], None, 1, attributes)
                self._check("glXCreateContextAttribsARB", errors, ": no context", self._context)
                binding = self._binding(x.window(visual[0]))
                bound = glx.bind(binding) and glx.current() == binding
                self._check("glXMakeContextCurrent", errors, ": refused", bound)
            finally:
                x.free(visual)
        finally:
            x.free(configs)

    def _check(self, function: str, errors: list[str], otherwise: str, served: object) -> None:
        self._connection.sync()
        if not self._connection.is_alive:
            raise GLXError(f"{function}: the X server has ended")
        if errors or not served:
            raise GLXError(function + (f": {', '.join(errors)}" if errors else otherwise))

    def _binding(self, window: int) -> Binding:
        return Binding(self._connection.display, window, window, self._context or 0)
