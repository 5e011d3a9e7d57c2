"""How long is waited: for a process, for a driver that hangs, and for the whole suite."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping

import pytest

__all__ = ["MOST_HANGS", "PATIENCE"]

MOST_HANGS = 2
"""After so many nothing is started any more: each costs minutes."""

_GRACE = 10  # seconds


class Patience:
    """Runs processes as long as that is worth it."""

    def __init__(self) -> None:
        self._until = math.inf
        self._hangs = 0

    def limit(self, seconds: float) -> None:
        """Let everything together take so long, from now on."""
        self._until = time.monotonic() + seconds

    def lost(self) -> str | None:
        """Why nothing should be started any more; None if it should."""
        if self._hangs >= MOST_HANGS:
            return f"not run: {MOST_HANGS} programs hung before, and each costs minutes"
        return self._used_up() if time.monotonic() >= self._until else None

    def run(
        self, argv: list[str], env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program until its end, or end it with all that it started; its test fails then.

        Arguments:
            argv: the program and its arguments.
            env: its environment, all of it.
            timeout: in seconds.
        """
        from moderngl_colab import _signals  # Where it is not installed, nothing is run.

        left = self._until - time.monotonic()
        with contextlib.ExitStack() as held:
            # An interrupt amid the start would leave the program to nobody.
            held.enter_context(_signals.held())
            process = subprocess.Popen(
                argv, env=env, text=True, errors="replace", process_group=0,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                held.close()
                stdout, stderr = process.communicate(timeout=max(0, min(timeout, left)))
            except subprocess.TimeoutExpired:
                if left < timeout:
                    pytest.skip(self._used_up())
                self._hangs += 1
                pytest.fail(f"it did not end within {timeout:g} s, and was ended", pytrace=False)
            finally:
                _end(process)
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def _used_up(self) -> str:
        return "not run to its end: the time of --gpu-limit is used up"


PATIENCE = Patience()


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that has not ended, and those which hold its pipes."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that waits inside the kernel's module is ended by nothing.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE)
