"""Child processes, waited for no longer than they may take, and ended with all that they started.

Each of them is the leader of a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from moderngl_colab import _files, _signals

__all__ = ["wait"]

_GRACE = 5.0  # seconds


def wait(
    process: subprocess.Popen[bytes],
    timeout: float,
    held: contextlib.ExitStack,
    watch: Callable[[], object] = lambda: None,
) -> bool:
    """Whether a process ended in time; it is gone either way, or cannot be ended.

    Arguments:
        process: one that was started while handlers were held back.
        timeout: in seconds.
        held: what holds them back; it is closed as soon as an interrupt would end the process.
        watch: called again and again meanwhile; where it gives anything true, the time begins anew.
    """
    try:
        held.close()
        while _is_watched(process, timeout, watch):
            pass
    finally:  # of the wait; an interrupt may have ended that, too
        in_time = process.returncode is not None
        if not in_time:
            _end(process)
    return in_time


def _is_watched(
    process: subprocess.Popen[bytes], timeout: float, watch: Callable[[], object]
) -> bool:
    """Whether the time is to begin anew, before the process ended and before the time was over."""
    # Handlers are still held where the caller is within such a block.
    for pause in _signals.pauses(time.monotonic() + timeout):
        if _ended(process, pause):
            return False
        if watch():
            return True
    return False


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    # An X server is in a session of its own, and leaves nothing behind if it is asked to go.
    others = list(_descendants(process.pid))
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in others:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        # It sleeps inside the kernel, where no signal reaches it. Somebody must be there when
        # it wakes.
        with contextlib.suppress(RuntimeError):  # The system has no more threads.
            threading.Thread(target=process.wait, daemon=True).start()


def _descendants(pid: int) -> Iterator[int]:
    for task in _files.names(f"/proc/{pid}/task"):
        for child in map(int, _files.read_text(f"/proc/{pid}/task/{task}/children").split()):
            yield child
            yield from _descendants(child)
