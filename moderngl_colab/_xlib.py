"""Xlib by ctypes: its entry points, and what meets the death of a server of ours.

By itself Xlib prints a line then, and ends the process.
Facts: Xlib's manual; XSetIOErrorExitHandler is of libX11 1.7, and without it the process ends.
"""

from __future__ import annotations

import atexit
import ctypes
import select
import threading
from ctypes import c_char_p, c_int, c_uint, c_ulong, c_void_p
from functools import cache

from moderngl_colab import _fork
from moderngl_colab._process import declare

__all__ = ["adopt", "forget", "guard", "is_dead", "opened"]

_SONAME = "libX11.so.6"

_IOErrorHandler = ctypes.CFUNCTYPE(c_int, c_void_p)


class LibX11:
    """The entry points of libX11, and the two of its functions that serve as handlers.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self) -> None:
        lib = ctypes.CDLL(_SONAME)
        self.open = declare(lib.XOpenDisplay, c_void_p, c_char_p)
        self.close = declare(lib.XCloseDisplay, c_int, c_void_p)
        self.sync = declare(lib.XSync, c_int, c_void_p, c_int)
        self.free = declare(lib.XFree, c_int, c_void_p)
        self.connection_number = declare(lib.XConnectionNumber, c_int, c_void_p)
        self.screen = declare(lib.XDefaultScreen, c_int, c_void_p)
        self.root = declare(lib.XRootWindow, c_ulong, c_void_p, c_int)
        self.error_text = declare(lib.XGetErrorText, c_int, c_void_p, c_int, c_void_p, c_int)
        self.create_colormap = declare(
            lib.XCreateColormap, c_ulong, c_void_p, c_ulong, c_void_p, c_int
        )
        self.create_window = declare(
            lib.XCreateWindow, c_ulong, c_void_p, c_ulong, c_int, c_int, c_uint, c_uint, c_uint,
            c_int, c_uint, c_void_p, c_ulong, c_void_p,
        )  # fmt: skip
        self.set_error_hook = declare(lib.XESetWireToError, c_void_p, c_void_p, c_int, c_void_p)
        self.set_io_error_handler = declare(lib.XSetIOErrorHandler, c_void_p, c_void_p)
        # It does nothing and says False, by which an X error goes no further.
        self.nothing = ctypes.cast(lib._XUnknownWireEvent, c_void_p).value  # noqa: SLF001
        # Xlib locks the display for the thread that met the server's death; left so, every other
        # thread that releases or enters a context there would wait for ever.
        self.unlock = ctypes.cast(lib.XUnlockDisplay, c_void_p).value
        self.set_exit_handler = declare(
            getattr(lib, "XSetIOErrorExitHandler", lambda *_: None), None, c_void_p, c_void_p,
            c_void_p,
        )  # fmt: skip
        declare(lib.XInitThreads, c_int)()  # libX11 1.8 does so by itself


@cache
def opened() -> LibX11:
    """The library, opened at the first call.

    Raises:
        OSError: it cannot be opened.
    """
    return LibX11()


class _Head(ctypes.Structure):
    """The beginning of a Display, in which Xlib.h lays down where everything is."""

    _fields_ = (
        ("before_fd", c_void_p * 2),
        ("fd", c_int),
        ("versions", c_int * 3),
        ("vendor", c_void_p),
        ("resources", c_ulong * 3),
        ("shift", c_int),
        ("allocate", c_void_p),
        ("formats", c_int * 5),
        ("pixmap_format", c_void_p),
        ("releases", c_int * 2),
        ("queue", c_void_p * 2),
        ("queue_length", c_int),
        ("requests", c_ulong * 2),
        ("last_request", c_void_p),
        ("buffer", c_void_p),
        ("buffer_next", c_void_p),
        ("buffer_end", c_void_p),
    )


# Xlib's handler for a server's death is one for the process, and by itself it prints. Ours is in
# place while there are connections of ours, and calls the one before it for those of others.
_ours: dict[int, int] = {}
"""The displays, with the size of the buffer that Xlib writes requests to, in bytes."""
_before: list[int] = []
_depth = threading.local()
_lock = threading.RLock()
_ending = False


def _on_death(display: int) -> int:
    depth = getattr(_depth, "value", 0)
    if display in _ours:
        _empty(display)
    # Deeper, for one that was set after ours may call ours in its turn.
    elif depth < len(_before):
        _depth.value = depth + 1
        try:
            _IOErrorHandler(_before[-1 - depth])(display)
        finally:
            _depth.value = depth
    return 0


_met = _IOErrorHandler(_on_death)


def adopt(display: int) -> None:
    """Keep the process from the death of this display's server; to be called as it is opened."""
    # The exit handler first: Xlib looks it up before it calls the handler for the whole process.
    opened().set_exit_handler(display, opened().unlock, None)
    head = _Head.from_address(display)
    known = head.fd == opened().connection_number(display)
    _ours[display] = head.buffer_end - head.buffer if known else 0
    guard()


def _empty(display: int) -> None:
    """Make room for requests that nobody will read.

    Once a server is gone Xlib sends nothing; a request for which there is no room is written to
    address 0, and there is none at all if XCB, by which Mesa speaks, had the socket last.
    """
    if size := _ours.get(display):
        head = _Head.from_address(display)
        head.buffer_next, head.buffer_end = head.buffer, head.buffer + size


def forget(display: int) -> None:
    """Let go of a display that was closed; with the last, the handler before ours is put back."""
    with _lock:
        _ours.pop(display, None)
        if _ours or not _before:
            return
        found = opened().set_io_error_handler(_before[-1])
        if found in _handlers():
            _before.clear()
        else:  # Somebody replaced ours since.
            opened().set_io_error_handler(found)


def is_dead(display: int) -> bool:
    """Whether it is one of ours whose server has ended; the server is not asked.

    One that was merely stopped is not.
    """
    if display not in _ours:
        return False
    poll = select.poll()
    poll.register(opened().connection_number(display), 0)
    return bool(poll.poll(0))


def guard() -> None:
    """See that the death of a server of ours is met by our handler, whoever replaced it."""
    with _lock:
        if not _ours:
            return
        _register()
        before = opened().set_io_error_handler(_handlers()[_ending])
        if before not in _handlers():
            if before in _before:
                _before.remove(before)
            _before.append(before)


@cache
def _register() -> None:
    atexit.register(_end)


def _end() -> None:
    """Connections may be open still: from here on a function of C must serve.

    It makes no room for requests; those displays that are dead already get it now.
    """
    global _ending
    for display in tuple(_ours):
        if is_dead(display):
            opened().sync(display, 0)
    _ending = True
    guard()


def _handlers() -> tuple[int | None, int | None]:
    """Ours, until Python ends and from then on."""
    return ctypes.cast(_met, c_void_p).value, opened().nothing


def _forked() -> None:
    """In a forked child nobody may be left to release it."""
    global _lock
    _lock = threading.RLock()


_fork.in_child(_forked)
