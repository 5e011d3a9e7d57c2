"""One call of get_gpu_context() at a time, and nothing under way while this process is forked.

Drivers load, and the environment changes, once for the whole process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator

from moderngl_colab import _signals

__all__ = ["BusyError", "alone", "unforked"]

_lock = threading.RLock()
_changed = threading.Condition()
_inside: Counter[int] = Counter()
"""How many blocks that must not be forked each thread is in; `_changed` guards it."""

_PATIENCE = 5.0  # seconds


class BusyError(Exception):
    """Another thread's call did not end in time."""


@contextlib.contextmanager
def alone(until: float) -> Iterator[None]:
    """A block that no other thread is in.

    Arguments:
        until: when to give up waiting, in seconds of :func:`time.monotonic`.

    Raises:
        BusyError: another thread was in it until then.
    """
    lock = _lock  # A child that is forked in the block has another one.
    try:
        if not any(lock.acquire(timeout=pause) for pause in _signals.pauses(until)):
            raise BusyError
        yield
    finally:  # An exception may strike between the lock's call and the block.
        with contextlib.suppress(RuntimeError):  # It is not this thread's.
            lock.release()


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """A block in the middle of which no other thread forks this process.

    A child would find the locks of Mesa, of Xlib and of the loader as they were, and nobody there
    to open them.
    """
    changed, thread = _changed, threading.get_ident()  # as above
    try:
        with changed:
            _inside[thread] += 1
        yield
    finally:  # An exception may strike before it is counted, too.
        with changed:
            _inside[thread] -= 1
            if _inside[thread] <= 0:
                del _inside[thread]
            changed.notify_all()


def _wait_before_fork() -> None:
    """Let what other threads do end first: a child would keep what it has borrowed.

    A driver that hangs shall not keep the whole process from forking.
    """
    _lock.acquire(timeout=_PATIENCE)
    _changed.acquire()  # Nobody begins anew.
    _changed.wait_for(lambda: not _inside.keys() - {threading.get_ident()}, _PATIENCE)


def _release_after_fork() -> None:
    for lock in (_changed, _lock):
        with contextlib.suppress(RuntimeError):  # It was waited for in vain.
            lock.release()


def _renew_locks() -> None:
    """In a forked child nobody may be left to release them."""
    global _lock, _changed
    _lock, _changed = threading.RLock(), threading.Condition()
    for thread in _inside.keys() - {threading.get_ident()}:
        del _inside[thread]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_wait_before_fork, after_in_parent=_release_after_fork, after_in_child=_renew_locks
    )
