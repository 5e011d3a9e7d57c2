"""Python's signal handlers, held back while what they could break is under way.

An exception that a handler raises, as SIGINT's does, can come between any two steps of Python's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import FrameType
from typing import Any

from moderngl_colab._process import declare

__all__ = ["PAUSE", "held", "let_in", "pauses"]

# The public one makes an enum of every answer, which takes twenty times as long.
_getsignal: Any = import_module("_signal").getsignal
PAUSE = 0.1
"""How long to wait at a time, in seconds, where handlers are to run meanwhile."""
# More than struct sigaction is anywhere; it begins with the handler.
_ACTION_SIZE = 512  # bytes

_Handler = Callable[[int, FrameType | None], Any]

# What came while handlers were held back: each signal once, as the kernel keeps them.
_came: dict[int, FrameType | None] = {}
_held: dict[int, tuple[_Handler, bytes]] = {}
"""Handlers, each with what the kernel was told of it: a library may have put its own there, and
signal.signal() tells it anew."""
_pythons: bytes | None = None
"""The function by which Python hears of signals, once it is known."""


@contextmanager
def held() -> Iterator[None]:
    """Keep the handlers of Python's signals out of a block; they run at its end.

    Only the main thread of the main interpreter runs handlers; in another one, and in a block
    within such a block, this does nothing. A handler that is not Python's is left alone.
    """
    if _held or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        for number in range(1, signal.NSIG):
            if callable(handler := _getsignal(number)):
                _hold(number, handler)
        yield
    finally:
        try:
            _give_back()
        except BaseException:  # A handler that is back already can raise at once.
            _give_back()
            raise
        finally:
            try:
                let_in()
            finally:
                _held.clear()


def let_in() -> None:
    """Run the handlers that are held back, at a moment when what one raises does no harm."""
    if _came and threading.current_thread() is threading.main_thread():
        number = next(iter(_came))
        try:
            _held[number][0](number, _came.pop(number))
        finally:
            let_in()  # the others


def pauses(until: float) -> Iterator[float]:
    """How long to wait at a time, in seconds; handlers run in between.

    Arguments:
        until: when to give up, in seconds of :func:`time.monotonic`; there is one pause at least.
    """
    while True:
        yield max(0.0, min(PAUSE, until - time.monotonic()))
        let_in()
        if time.monotonic() >= until:
            return


def _note(number: int, frame: FrameType | None) -> None:
    _came[number] = frame


def _hold(number: int, handler: _Handler) -> None:
    global _pythons
    action = _action(number)
    if _pythons not in (None, _function(action)):
        return
    _held[number] = handler, action
    try:
        signal.signal(number, _note)
    except ValueError:  # Another interpreter's main thread is not one that runs handlers.
        del _held[number]
        return
    _pythons = _function(_action(number))
    if _function(action) != _pythons:
        del _held[number]
        signal.signal(number, handler)
        _set_action(number, action)


def _give_back() -> None:
    for number, (handler, action) in _held.items():
        if _getsignal(number) is _note:  # One may have put another in the place of ours.
            now = _action(number)
            signal.signal(number, handler)
            # What was loaded meanwhile may have set its own.
            _set_action(number, action if _function(now) == _function(action) else now)


def _action(number: int) -> bytes:
    """What the kernel is told of a signal, by sigaction(2)."""
    action = ctypes.create_string_buffer(_ACTION_SIZE)
    _sigaction()(number, None, action)
    return action.raw


def _set_action(number: int, action: bytes) -> None:
    _sigaction()(number, action, None)


@cache
def _sigaction() -> Callable[..., Any]:
    function = ctypes.CDLL(None).sigaction
    return declare(function, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)


def _function(action: bytes) -> bytes:
    return action[: ctypes.sizeof(ctypes.c_void_p)]


def _hold_nothing() -> None:
    """In a child that another thread forked meanwhile nobody is left to let signals in."""
    _give_back()
    _held.clear()
    _came.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_hold_nothing)
