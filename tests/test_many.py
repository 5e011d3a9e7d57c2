"""Two hundred processes start at once, and each gets a context over GLX on a display of its own.

Thirty-two threads of one process: test_threads.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conftest import PROGRAMS, without_noise

PROCESSES = 200
# Their work takes both cores of a small machine for 40 s, and each of them waits for all the
# others: its own part of it, 0.4 s, is no longer a measure. The limit of a call is out of the way
# here, and docs/promises.md says how long the slowest took.
PATIENT = {"MODERNGL_COLAB_TIMEOUT": "500"}


def gone(pids: list[int], seconds: float) -> list[int]:
    """The processes that are still there after so long."""
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and (
        time.monotonic() < until
    ):
        time.sleep(0.05)
    return left


def test_two_hundred_processes_at_once_get_a_context_and_a_display_each() -> None:
    # What the tests beside this one wait for shall not wait for two hundred others.
    command = ["chrt", "--idle", "0"]
    command += [sys.executable, "-P", "-W", "error", str(PROGRAMS / "side.py"), "ours by GLX"]
    running = [
        subprocess.Popen(
            [*command, "wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | PATIENT,
            start_new_session=True,
        )
        for _ in range(PROCESSES)
    ]
    answers: list[dict[str, Any]] = []
    errors: list[str] = []
    try:
        for process in running:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline() or "{}"))
    finally:
        for process in running:  # All at once: an end waits for its turn as a start does.
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        errors += [without_noise(process.communicate(timeout=200)[1]) for process in running]

    slowest = max((answer.get("seconds", 0) for answer in answers), default=0)
    print(f"the slowest call took {slowest:.1f} s")  # pytest -rP shows it.
    assert errors == [""] * PROCESSES
    assert [answer.get("pixel") for answer in answers] == ["right"] * PROCESSES
    assert [process.returncode for process in running] == [0] * PROCESSES
    numbers = {answer["display"] for answer in answers}
    assert len(numbers) == PROCESSES
    assert gone([answer["server"] for answer in answers], 20) == []
    left = [
        path
        for number in numbers
        for path in (f"/tmp/.X{number}-lock", f"/tmp/.X11-unix/X{number}")
        if os.path.lexists(path)
    ]
    assert left == []
