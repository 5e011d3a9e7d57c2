"""How far a command is, for somebody who looks at a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["shown"]


@contextlib.contextmanager
def shown(*, in_bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A function that shows on stderr what it is told, for the length of a block.

    It takes what is being done, how much of it is done, and of how much. It shows a bar where rich
    is installed, else a line for each thing that is done. Where stderr is no terminal it is None:
    in a log the steps are no news, and the errors are to be seen.

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
        last = [""]

        def line(what: str, _done: int, _total: int | None) -> None:
            if what != last[0]:
                last[0] = what
                print(what, file=sys.stderr)

        yield line
        return
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (BarColumn(), count, TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, completed=done, total=total, description=what
        )
