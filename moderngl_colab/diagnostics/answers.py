"""What a child process answers, as it comes, and what else it says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

__all__ = ["Answers", "lines"]

_MOST = 64 << 10  # bytes


class Answers:
    """The lines of JSON that a process appends to a file.

    Arguments:
        descriptor: the file's.
        heard: called with what each line says, once it was read.
    """

    def __init__(self, descriptor: int, heard: Callable[[Any], None] | None = None) -> None:
        self.all: list[Any] = []
        """What those say that were read."""
        self._descriptor = descriptor
        self._heard = heard
        self._read = 0

    def read(self) -> bool:
        """Read those that came since; whether there were any, and somebody heard them."""
        size = os.fstat(self._descriptor).st_size - self._read
        content = os.pread(self._descriptor, size, self._read)
        # What follows the last line's end is being written, or was when the process was ended.
        lines = content[: content.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            self.all.append(json.loads(line))
            if self._heard is not None:
                self._heard(self.all[-1])
        return bool(lines) and self._heard is not None


def lines(descriptor: int) -> tuple[str, ...]:
    """What a file says, line by line; of much, the last 64 KiB."""
    size = os.fstat(descriptor).st_size
    said = os.pread(descriptor, min(size, _MOST), max(0, size - _MOST)).decode(errors="replace")
    return tuple(line.rstrip() for line in said.splitlines() if line.strip())
