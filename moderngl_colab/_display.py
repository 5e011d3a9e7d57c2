"""The one private display of the process, for all contexts that need one."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator

from moderngl_colab import _fork
from moderngl_colab._xvfb import Display

__all__ = ["retire", "shared"]

_shared: Display | None = None


@contextlib.contextmanager
def shared(until: float | None = None) -> Iterator[Display]:
    """The process's display, started if need be, selected for the length of a block.

    A display whose first block fails is stopped again.

    Arguments:
        until: as for :meth:`Display.start`.

    Raises:
        XvfbError: there is none, or it does not come up.
        OSError: as for :meth:`Display.start`.
    """
    global _shared
    if _shared is not None and not (_shared.is_alive() and _shared.answers(until)):
        retire(_shared)
    if _shared is None:
        display = Display()
        display.start(until)
        atexit.register(display.let_go)
        _shared = display
    display = _shared
    try:
        with display.selected():
            yield display
    except BaseException:
        if not display.blocks:
            retire(display)
        raise
    display.blocks += 1


def _forget() -> None:
    """In a forked child: the display is the parent's."""
    global _shared
    _shared = None


_fork.in_child(_forget)


def retire(display: Display) -> None:
    """Stop the display; the next :func:`shared` starts another one."""
    global _shared
    atexit.unregister(display.let_go)
    if _shared is display:
        _shared = None
    display.stop()
