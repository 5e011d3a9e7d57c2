"""A child process that ends when this one does, whichever way that is, from its first moment on.

The kernel closes what a process had open, and it sends a signal to the owner of a pipe's end when
the other end is closed (fcntl(2), F_SETOWN and F_SETSIG). The parent-death signal of prctl(2) would
come when the thread that started the child ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, cast

from moderngl_colab import _process

__all__ = ["Leash"]

# Until the leash is on, the child does nothing but wait; the end of this process ends the wait.
_WAIT_FOR_GO = 'read -r go && exec "$@"'


def _signal() -> signal.Signals:
    """The one that ends a child which inherits what this thread blocks, and this process ignores.

    By the first two an X server tidies up.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for number in (signal.SIGTERM, signal.SIGINT):
        if number not in blocked and signal.getsignal(number) is not signal.SIG_IGN:
            return number
    return signal.SIGKILL


class Leash:
    """Starts a program in a session of its own, and holds it.

    Arguments:
        command: the program and its arguments.
        environ: its environment.
        files: descriptors that it inherits.
        output: the descriptors that take what it writes to stdout and to stderr.
        folder: where it runs; here, unless one is named.

    Raises:
        OSError: the system refused a process or a pipe.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        files: Sequence[int],
        output: tuple[int, int],
        folder: str | None = None,
    ) -> None:
        theirs, ours = map(_process.above_standard_streams, os.pipe())
        self._end: int | None = ours
        try:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT_FOR_GO, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=output[0],
                stderr=output[1],
                cwd=folder,
                pass_fds=(*files, theirs),
                env=dict(environ),
                start_new_session=True,
            )
            with contextlib.suppress(OSError):  # gVisor may refuse.
                fcntl.fcntl(theirs, fcntl.F_SETOWN, self.process.pid)
                fcntl.fcntl(theirs, fcntl.F_SETSIG, _signal())
                flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
                fcntl.fcntl(theirs, fcntl.F_SETFL, flags | os.O_ASYNC)
        except BaseException:
            self.cut()
            raise
        finally:
            os.close(theirs)
        gate = cast("IO[bytes]", self.process.stdin)
        with contextlib.suppress(BrokenPipeError), gate:
            gate.write(b"go\n")

    def cut(self) -> None:
        """Close this process's end: the child is told to end, unless another process holds it."""
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def leave(self) -> None:
        """Hold the child until the kernel itself closes this process's end."""
        self._end = None
