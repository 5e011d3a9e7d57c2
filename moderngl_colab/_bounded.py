"""A question to a library that may never answer.

A call into a driver cannot be ended from outside. So a thread asks, and is left behind in the
library where it has to be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from moderngl_colab import _fork, _signals

__all__ = ["NotAskedError", "SilentError", "ask"]

_T = TypeVar("_T")

_LONGEST = 10.0  # seconds
_MOMENT = 0.1  # seconds


class SilentError(Exception):
    """There was no answer in time."""


class NotAskedError(SilentError):
    """Nobody could be sent to ask, or no time was left; it says nothing of who was to answer."""

    late = False
    """Whether no time was left."""


class _Asking(threading.Thread):
    """A question under way."""

    def __init__(self, who: str, question: Callable[[], Any]) -> None:
        super().__init__(name=f"moderngl_colab: {who}", daemon=True)
        self.who = who
        self.question = question
        self.since = 0.0
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.answer = self.question()
        except BaseException as error:  # noqa: BLE001  - it is raised in the thread that asks
            self.error = error
        finally:
            self.end()

    def end(self) -> None:
        """Let the next question be asked."""
        del _under_way[self.who]
        self.ended.set()

    def wait_for(self, until: float) -> None:
        """Wait until it ends.

        Raises:
            SilentError: it does not in time, or has had 10 s already.
        """
        until = min(until, self.since + _LONGEST)
        if not any(self.ended.wait(pause) for pause in _signals.pauses(until)):
            seconds = min(time.monotonic() - self.since, _LONGEST)
            raise SilentError(f"{self.who} did not answer within {seconds:.2g} s")


# By who is asked: one at a time, so that of those who never come back there is one, too.
_under_way: dict[str, _Asking] = {}
_fork.in_child(_under_way.clear)


def ask(who: str, question: Callable[[], _T], until: float) -> _T:
    """The answer to a question, which a thread of its own asks; for 10 s at most.

    While one is under way, the next one waits for its end. Signal handlers run meanwhile.

    Arguments:
        who: is asked, as an error calls it.
        question: asks.
        until: when to give up, in seconds of :func:`time.monotonic`.

    Raises:
        SilentError: there is none in time, or one from before still has none.
    """
    until = min(until, time.monotonic() + _LONGEST)
    mine = _Asking(who, question)
    while (first := _begun(mine, until)) is not mine:
        first.wait_for(until)
    mine.wait_for(until)
    _see_off(mine)
    if mine.error is not None:
        raise mine.error
    answer: _T = mine.answer
    return answer


def _begun(mine: _Asking, until: float) -> _Asking:
    """Begin, unless another one is under way; the one that is.

    Raises:
        NotAskedError: no time is left, or there can be no thread.
    """
    mine.since = time.monotonic()
    if mine.since >= until:
        error = NotAskedError(f"{mine.who} was not asked, for no time was left")
        error.late = True
        raise error
    # What an interrupt left half begun would be waited for in vain.
    with _signals.held():
        first = _under_way.setdefault(mine.who, mine)
        if first is mine:
            try:
                mine.start()
            except RuntimeError as refusal:  # No more of them, or Python is about to end.
                mine.end()
                raise NotAskedError(f"{mine.who} was not asked: {refusal}") from refusal
    return first


def _see_off(thread: threading.Thread) -> None:
    """Wait for the kernel's end of a thread, which comes shortly after Python's.

    Python warns of threads whoever forks in between.
    """
    until = time.monotonic() + _MOMENT
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < until:
        time.sleep(0)
