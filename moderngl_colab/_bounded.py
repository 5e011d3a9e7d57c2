"""A question to a library that may never answer.

A call into a driver cannot be ended from outside. So a thread asks, and is left behind in the
library where it has to be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["SilentError", "ask"]

_T = TypeVar("_T")

_LONGEST = 10.0  # seconds
_MOMENT = 0.1  # seconds


class SilentError(Exception):
    """There was no answer in time, or nobody could be sent to wait for one."""


# Who is still waited for, and what was said of it then. No second thread is sent after the first.
_silent: dict[str, tuple[threading.Thread, str]] = {}


def ask(who: str, question: Callable[[], _T], until: float) -> _T:
    """The answer to a question, which a thread of its own asks; for 10 s at most.

    Arguments:
        who: is asked, as an error calls it.
        question: asks.
        until: when to give up, in seconds of :func:`time.monotonic`.

    Raises:
        SilentError: there is none in time, or a question from before still has none.
    """
    if who in _silent and _silent[who][0].is_alive():
        raise SilentError(_silent[who][1])
    seconds = min(until - time.monotonic(), _LONGEST)
    if seconds <= 0:
        raise SilentError(f"{who} was not asked, for no time was left")
    answers: list[_T] = []
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # noqa: BLE001  - it is raised in the thread that asks
            errors.append(error)

    thread = threading.Thread(target=wait, name=f"moderngl_colab: {who}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # The system has no more of them, or Python is about to end.
        raise SilentError(f"{who} was not asked: {error}") from error
    thread.join(seconds)
    if thread.is_alive():
        _silent[who] = thread, f"{who} did not answer within {seconds:.2g} s"
        raise SilentError(_silent[who][1])
    _see_off(thread)
    if errors:
        raise errors[0]
    return answers[0]


def _see_off(thread: threading.Thread) -> None:
    """Wait for the kernel's end of a thread, which comes shortly after Python's.

    Python warns of threads whoever forks in between.
    """
    until = time.monotonic() + _MOMENT
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < until:
        time.sleep(0)
