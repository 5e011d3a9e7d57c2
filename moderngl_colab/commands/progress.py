"""How far a command is, for somebody who looks at a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from moderngl_colab import commands

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Display", "Lines", "shown"]


class Display(Protocol):
    """What shows how far it is."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Show what is being done, how much of it is done, and of how much."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Leave the terminal to somebody else for the length of a block."""


@contextlib.contextmanager
def shown(*, in_bytes: bool = False) -> Iterator[Display | None]:
    """Show on stderr what is told, for the length of a block.

    It is a bar where rich is installed, else a line for each thing that is done. Where stderr is no
    terminal it is None: in a log the steps are no news, and the errors are to be seen.

    Arguments:
        in_bytes: whether bytes are counted, or steps.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
        )
    except ImportError:
        yield Lines()
        return
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (BarColumn(), count, TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)


class Lines:
    """A line for each thing that is done."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, _done: int, _total: int | None, /) -> None:
        """Write it, where it is another thing than before."""
        if what != self._last:
            self._last = what
            commands.complain(what)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """There is nothing in the way."""
        return contextlib.nullcontext()


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        self._bar.update(self._task, completed=done, total=total, description=what)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self._bar.stop()  # It gives stderr back, too.
        try:
            yield
        finally:
            self._bar.start()
