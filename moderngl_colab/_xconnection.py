"""A connection of our own to an X server: its errors and its server's death end nobody.

By itself Xlib ends the process at an X error. What keeps one from it is set for the connection
alone, and is a function of libX11's own: the process's error handler stays whose it was, and
nothing of Python's can be called where the interpreter is gone.
Facts: Xlib's manual, and its appendix C for XESetWireToError.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import POINTER, c_int, c_long, c_ubyte, c_ulong, c_void_p
from typing import Any

from moderngl_colab import _xlib

__all__ = ["Connection", "DisplayError", "Visual"]

_LAST_STANDARD_STREAM = 2
_ERROR_CODES = range(256)
_BORDER_PIXEL, _COLORMAP = 1 << 3, 1 << 13
_INPUT_OUTPUT = 1


class DisplayError(Exception):
    """A display that could not be opened."""


class Visual(ctypes.Structure):
    """XVisualInfo, as far as it is read."""

    _fields_ = (
        ("visual", c_void_p),
        ("number", c_ulong),
        ("screen", c_int),
        ("depth", c_int),
    )


class _Attributes(ctypes.Structure):
    """XSetWindowAttributes."""

    _fields_ = (
        ("background_pixmap", c_ulong),
        ("background_pixel", c_ulong),
        ("border_pixmap", c_ulong),
        ("border_pixel", c_ulong),
        ("bit_gravity", c_int),
        ("win_gravity", c_int),
        ("backing_store", c_int),
        ("backing_planes", c_ulong),
        ("backing_pixel", c_ulong),
        ("save_under", c_int),
        ("event_mask", c_long),
        ("do_not_propagate_mask", c_long),
        ("override_redirect", c_int),
        ("colormap", c_ulong),
        ("cursor", c_ulong),
    )


class _ErrorEvent(ctypes.Structure):
    """XErrorEvent."""

    _fields_ = (
        ("type", c_int),
        ("display", c_void_p),
        ("resource", c_ulong),
        ("serial", c_ulong),
        ("error_code", c_ubyte),
        ("request_code", c_ubyte),
        ("minor_code", c_ubyte),
    )


_ErrorHook = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(_ErrorEvent), c_void_p)


class Connection:
    """A connection to an X server; nothing that happens on it ends the process.

    Arguments:
        name: of the display; None for $DISPLAY.

    Raises:
        DisplayError: the display does not answer.
        OSError: libX11 cannot be opened.
    """

    def __init__(self, name: str | None = None) -> None:
        self._x11 = x11 = _xlib.opened()
        self._hook: Any = None
        with _standard_streams_taken():
            self.display = x11.open(None if name is None else os.fsencode(name)) or 0
        if not self.display:
            raise DisplayError("the display does not answer")
        try:
            _xlib.adopt(self.display)
            self._on_error(x11.nothing)
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """False once the server has ended, or this connection is closed."""
        return bool(self.display) and not _xlib.is_dead(self.display)

    @property
    def screen(self) -> int:
        """The number of its default screen."""
        return int(self._x11.screen(self.display))

    @contextmanager
    def errors(self) -> Iterator[list[str]]:
        """The X errors that come in a block, in Xlib's words.

        Those that come at other times are passed over: whatever asked for the thing, a driver or
        Mesa, sees that it did not get it, and no one else could make anything of them. (Mesa
        learns by an error handler whether the server shares memory with it. It is not told, and
        our server is on this machine and of this user.)
        """
        seen: list[str] = []

        def note(display: int, event: Any, _: int) -> int:
            code, text = event.contents.error_code, ctypes.create_string_buffer(256)
            self._x11.error_text(display, code, text, len(text))
            seen.append(f"X error {text.value.decode(errors='replace')} ({code})")
            return 0

        self._hook = _ErrorHook(note)
        self._on_error(ctypes.cast(self._hook, c_void_p))
        try:
            yield seen
        finally:
            self._on_error(self._x11.nothing)

    def window(self, visual: Visual) -> int:
        """Make a window of one pixel, which is never shown."""
        root = self._x11.root(self.display, visual.screen)
        colormap = self._x11.create_colormap(self.display, root, visual.visual, 0)
        attributes = _Attributes(colormap=colormap)
        place = (0, 0, 1, 1, 0)
        kind = (visual.depth, _INPUT_OUTPUT, visual.visual, _BORDER_PIXEL | _COLORMAP)
        return int(
            self._x11.create_window(self.display, root, *place, *kind, ctypes.byref(attributes))
        )

    def sync(self) -> None:
        """Wait for the server's answer to all that was asked of it."""
        self._x11.sync(self.display, 0)

    def free(self, memory: Any) -> None:
        """Give back what a function of Xlib or GLX gave."""
        self._x11.free(memory)

    def close(self) -> None:
        """Close it, and everything that was made on it; again, it does nothing."""
        display, self.display = self.display, 0
        if display:
            try:
                self._x11.close(display)
            finally:
                _xlib.forget(display)

    def _on_error(self, hook: object) -> None:
        for code in _ERROR_CODES:
            self._x11.set_error_hook(self.display, code, hook)


@contextmanager
def _standard_streams_taken() -> Iterator[None]:
    """A block in which no file is opened as descriptor 0, 1 or 2.

    In a process that closed those, what somebody prints would go to the X server.
    """
    with ExitStack() as held:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_STREAM:
            held.callback(os.close, descriptor)
        os.close(descriptor)
        yield
