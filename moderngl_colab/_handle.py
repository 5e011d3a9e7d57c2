"""A context that was made here: entering it, leaving it, releasing it.

glcontext leaves a released EGL context current, forgets what was current before a with-block,
and ends the process when a GLX context is entered while an EGL one is current.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from moderngl_colab import _calls, _current, _fork, _signals
from moderngl_colab.errors import ForkedProcessError, GPUContextError

if TYPE_CHECKING:
    from moderngl_colab._cuda import Given

__all__ = ["LEAVE_IT", "WRONG_THREAD", "Handle", "made_elsewhere"]

LEAVE_IT = (
    "use a context in the thread that made it, or leave it there, by "
    "ctx.__exit__(None, None, None), and enter it here: with ctx:"
)
WRONG_THREAD = (
    "this context is current in another thread, and a context is current in one thread at a time\n"
    f"  fix: {LEAVE_IT}"
)
_FORKED = (
    "this context was made before this process was forked, and belongs to the one that made it\n"
    "  fix: make a context in the process that uses it; where the GPU was used before, start that "
    "one by spawn or forkserver"
)
_ENDED = "the X server of this context has ended, and the context cannot be entered any more"
_ANOTHER = "make a new context; get_gpu_context() starts a new server"


class Handle:
    """A context made here, as moderngl takes one.

    Arguments:
        backend: the context itself: of glcontext's EGL backend, or a :class:`_glx.Context`.
        load: address of a GL function by name.
        egl_device: index of the EGL device it was made on; None for GLX.
    """

    gpu: Given | None = None
    """The GPU that it was made on; None where that is not known, and for Mesa."""
    passed_over: tuple[str, ...] = ()
    """What the devices before it refused."""

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
        _current.hold(self._binding)
        self._entered: list[tuple[_current.Binding | None, Handle | None]] = []
        self.released = False
        self._holder: threading.Thread | None = None
        self.thread = threading.get_ident()
        self.process = os.getpid()
        _living[self._binding] = self

    def release(self) -> None:
        """Destroy the context; if another one is current, it stays so.

        One that is current in another thread is destroyed when it is so no longer: EGL puts it
        off by itself, and for GLX it is done at a later call, for its owner would crash at the
        next one of his.

        In a forked child nothing is done: what would be said to the X server or the driver there
        would come to the parent's.
        """
        try:
            with _signals.held(), _calls.unforked():
                self._release()
        except BaseException:  # A handler may have raised before they were held: nobody asks again.
            self._release()
            raise

    def _release(self) -> None:
        if self.released:
            return
        self.released = True
        if self.process == os.getpid():
            self._holder = _current.holder(self._binding)
            if self._holder is threading.current_thread():
                self._holder = None
            _postponed.append(self)
            _destroy_what_was_left()

    def is_left(self) -> bool:
        """Whether the thread in which it was current when it was released would not miss it."""
        if self._holder is threading.current_thread():
            return _current.current() != self._binding
        return self._holder is None or not self._holder.is_alive()

    def destroy(self) -> None:
        """Destroy it now."""
        if _living.get(self._binding) is self:
            del _living[self._binding]
        if _current.current() == self._binding:
            _current.unbind(self._binding)
        self._backend.release()
        _current.release(self._binding)

    def __enter__(self) -> Self:
        if self.process != os.getpid():
            raise ForkedProcessError(_FORKED)
        if self.released:
            raise RuntimeError("this context was released")
        depth = len(self._entered)
        try:
            with _signals.held(), _calls.unforked():
                self._enter()
            return self
        except BaseException:  # Who is told of one has not entered.
            if len(self._entered) > depth:
                self._exit()
            raise

    def _enter(self) -> None:
        before = _current.current()
        if before != self._binding:
            self.require_server()
            _current.unbind(before)
            _current.bind(self._binding)
            if _current.current() != self._binding:
                _current.bind(before)
                self.require_server()
                raise RuntimeError(WRONG_THREAD)
        self._entered.append((before, _living.get(before)))

    def require_server(self) -> None:
        """See that it can be entered.

        Raises:
            GPUContextError: its X server has ended.
        """
        if not getattr(self._backend, "is_alive", True):
            error = GPUContextError(_ENDED)
            error.remedy = _ANOTHER
            raise error

    def __exit__(self, *exc_info: object) -> None:
        if self.process != os.getpid():
            return
        depth = len(self._entered)
        try:
            with _signals.held(), _calls.unforked():
                self._exit()
        except BaseException:  # Who is told of one has left.
            if len(self._entered) == depth > 0:
                self._exit()
            raise

    def _exit(self) -> None:
        # Without an __enter__ before it, as glcontext's EGL backend has it: leave nothing current.
        before, owner = self._entered.pop() if self._entered else (None, None)
        if owner is not None and owner.released:
            before = None  # To bind what is gone would end the process.
        if before != self._binding:
            _current.unbind(_current.current())
            _current.bind(before)
        _destroy_what_was_left()
        if before is not None and owner is not None and before != self._binding:
            owner.require_server()  # or what is drawn next would be lost without a word


# To know, when a with-block ends, whether what was current before it still is there.
_living: WeakValueDictionary[_current.Binding | None, Handle] = WeakValueDictionary()


# Those that were released, and are current in another thread still.
_postponed: list[Handle] = []

_fork.in_child(_living.clear)
_fork.in_child(_postponed.clear)


def _destroy_what_was_left() -> None:
    for handle in tuple(_postponed):
        if handle.is_left():
            with contextlib.suppress(ValueError):  # Another thread was faster.
                _postponed.remove(handle)
                handle.destroy()


def made_elsewhere() -> bool:
    """Whether contexts live that were made here, but none of them in this thread."""
    # Other threads may make contexts meanwhile; a list of references is had at once.
    handles = [reference() for reference in _living.valuerefs()]
    threads = {handle.thread for handle in handles if handle is not None}
    return bool(threads) and threading.get_ident() not in threads
