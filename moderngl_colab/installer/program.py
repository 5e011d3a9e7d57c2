"""Another program, asked one thing: it ends in time, and with this process."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from moderngl_colab import _children, _leash, _process, _signals

__all__ = ["Done", "run"]

_MOST = 16 << 20  # bytes
_WORST_FIRST = ("E: ", "W: ")


class Done(NamedTuple):
    """What became of it."""

    status: int | None
    """Its exit status; None where it did not end in time, and was ended."""
    out: str
    """What it wrote to stdout."""
    said: tuple[str, ...]
    """What it wrote to stderr, line by line."""

    @property
    def complaint(self) -> str:
        """What it said was wrong, in one line: the first error, which the others come of."""
        for mark in _WORST_FIRST:
            for line in self.said:
                if line.startswith(mark):
                    return " ".join(line.removeprefix(mark).split())
        return " ".join(" ".join(self.said[-1:]).split())


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    folder: str,
    timeout: float = math.inf,
    watch: Callable[[], object] = lambda: None,
) -> Done:
    """Run a program to its end.

    Arguments:
        command: its path and its arguments.
        environ: its environment.
        folder: where it runs.
        timeout: in seconds.
        watch: called again and again meanwhile.

    Raises:
        OSError: the system refused a process or a file in memory.
    """
    with (
        _process.file_in_memory("out", b"") as out,
        _process.file_in_memory("said", b"") as said,
    ):
        # An interrupt amid the start would leave the program to nobody.
        with contextlib.ExitStack() as held:
            held.enter_context(_signals.held())
            leash = _leash.Leash(command, environ, (), (out, said), folder)
            try:
                in_time = _children.wait(leash.process, timeout, held, watch)
            finally:
                leash.cut()
        status = leash.process.returncode if in_time else None
        return Done(status, _text(out), tuple(filter(str.strip, _text(said).splitlines())))


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _MOST, 0).decode(errors="replace")
