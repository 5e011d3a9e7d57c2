"""A context that was made here: entering it, leaving it, releasing it.

glcontext leaves a released EGL context current, forgets what was current before a with-block,
and ends the process when a GLX context is entered while an EGL one is current.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Self
from weakref import WeakValueDictionary

from moderngl_colab import _current

__all__ = ["Handle", "made_before_fork", "made_elsewhere", "note_driver"]


class Handle:
    """A context made here, as moderngl takes one.

    Arguments:
        backend: glcontext's object.
        load: address of a GL function by name.
        egl_device: index of the EGL device it was made on; None for GLX.
    """

    def __init__(
        self, backend: Any, load: Callable[[str], int], egl_device: int | None = None
    ) -> None:
        # An attribute, not a method: moderngl calls it for every GL function there is.
        self.load = load
        self.egl_device = egl_device
        self.undo: Callable[[], None] | None = None
        """What takes back whatever was started for this context alone."""
        self._backend = backend
        self._binding = _current.current()
        self._entered: list[tuple[_current.Binding | None, Handle | None]] = []
        self.released = False
        self.thread = threading.get_ident()
        _living[self._binding] = self

    def release(self) -> None:
        """Destroy the context; if another one is current, it stays so."""
        self.released = True
        if _living.get(self._binding) is self:
            del _living[self._binding]
        before = _current.current()
        _current.unbind(before)
        self._backend.release()
        if before != self._binding:
            _current.bind(before)

    def __enter__(self) -> Self:
        before = _current.current()
        self._entered.append((before, _living.get(before)))
        if before != self._binding:
            _current.unbind(before)
            _current.bind(self._binding)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Without an __enter__ before it, as glcontext's EGL backend has it: leave nothing current.
        before, owner = self._entered.pop() if self._entered else (None, None)
        if owner is not None and owner.released:
            before = None  # To bind what is gone would end the process.
        if before != self._binding:
            _current.unbind(_current.current())
            _current.bind(before)


# To know, when a with-block ends, whether what was current before it still is there.
_living: WeakValueDictionary[_current.Binding | None, Handle] = WeakValueDictionary()


_drivers: set[int] = set()


def note_driver() -> None:
    """Keep in mind that this process uses a driver that does not live through a fork."""
    _drivers.add(os.getpid())


def made_before_fork() -> bool:
    """Whether the process that this one was forked from used such a driver."""
    return bool(_drivers - {os.getpid()})


def made_elsewhere() -> bool:
    """Whether contexts live that were made here, but none of them in this thread."""
    threads = {handle.thread for handle in _living.values()}
    return bool(threads) and threading.get_ident() not in threads
