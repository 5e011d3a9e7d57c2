"""One call of get_gpu_context() at a time, and none while this process is forked.

Drivers load, and the environment changes, once for the whole process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from moderngl_colab import _signals

__all__ = ["BusyError", "alone"]

_lock = threading.RLock()

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


def _wait_before_fork() -> None:
    """Let a call of another thread end first: a child would keep what it has borrowed.

    A driver that hangs shall not keep the whole process from forking.
    """
    _lock.acquire(timeout=_PATIENCE)


def _release_after_fork() -> None:
    with contextlib.suppress(RuntimeError):  # It was waited for in vain.
        _lock.release()


def _renew_lock() -> None:
    """In a forked child nobody may be left to release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_wait_before_fork, after_in_parent=_release_after_fork, after_in_child=_renew_lock
    )
