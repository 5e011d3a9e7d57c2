"""How far the benchmark is, for somebody who looks at a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["shown"]


@contextlib.contextmanager
def shown() -> Iterator[Callable[[int, int, str], None] | None]:
    """A function that shows on stderr what it is told, for the length of a block.

    It is a bar where rich is installed, else a line for each step. Where stderr is no terminal it
    is None: in a log the steps are no news, and the errors are to be seen.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        yield _line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        )


def _line(done: int, total: int, what: str) -> None:
    print(f"{done} of {total}: {what}", file=sys.stderr)
