"""The command line's commands, a module each.

Every one has ``HELP``, a line that says what it does, ``configure(parser)``, which adds its flags,
and ``execute(arguments)``, which does it and gives the exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any, NoReturn

__all__ = ["CANNOT_CREATE", "IO_ERROR", "USAGE", "Parser", "abandon_stdout", "complain", "write"]

# As sysexits.h has them.
USAGE = 64
CANNOT_CREATE = 73
IO_ERROR = 74


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and ends with :data:`USAGE` where it must.

    Arguments:
        prog: the program and its command.
        description: what it does.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say how it is used and what was wrong, and end."""
        complain(self.format_usage().rstrip())
        complain(f"{self.prog}: error: {message}")
        raise SystemExit(USAGE)

    def print_help(self, file: Any = None) -> None:
        """Print the help, to stdout whatever may become of that."""
        if file is None:
            write(self.format_help())
        else:
            super().print_help(file)


def write(text: str) -> None:
    """Write to stdout, whatever its encoding is; what that cannot write is written as escapes.

    Raises:
        BrokenPipeError: nobody reads it any more.
        SystemExit: it cannot be written for another reason, which is said on stderr.
    """
    if sys.stdout is None:  # The process was started without one.
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_stdout()
        complain(f"moderngl-colab: error: stdout: {error.strerror}")
        raise SystemExit(IO_ERROR) from None


def complain(text: str) -> None:
    """Write a line to stderr; a process that was started without one says nothing."""
    if sys.stderr is not None:  # print() would take stdout instead.
        print(text, file=sys.stderr)


def abandon_stdout() -> None:
    """Let what is left in stdout's buffer go nowhere, or Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
