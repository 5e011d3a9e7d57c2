"""Running programs in simulated machines, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from rig import machines

PROGRAMS = Path(__file__).parent / "programs"

# Remedies fit the platform; this one is told by a variable, whatever machine the tests run on.
PLATFORM = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


class Python(Protocol):
    """Runs Python code or a program of tests/programs in a simulated machine."""

    def __call__(
        self,
        machine: str | machines.Machine,
        code: str | Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        uid: int | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> machines.Finished:
        """Give the finished process; without `check`, also one that failed."""


@pytest.fixture(scope="session")
def python() -> Python:
    """Run Python in a simulated machine; the tests that need one are skipped where none can be.

    In CI they fail instead: there, a machine can be made.
    """
    if (why := machines.available()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)

    def run(
        machine: str | machines.Machine,
        code: str | Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        uid: int | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> machines.Finished:
        what = machines.MACHINES[machine] if isinstance(machine, str) else machine
        program = [str(code)] if isinstance(code, Path) else ["-c", code]
        result = machines.run(
            what,
            [sys.executable, "-P", "-W", "error", *options, *program, *arguments],
            env=PLATFORM | dict(env or {}),
            timeout=timeout,
            uid=uid,
        )
        if check and (result.returncode != 0 or result.stderr or result.survivors):
            pytest.fail(
                f"status {result.returncode}, left {result.survivors}\n"
                f"{result.stdout}\n{result.stderr}"
            )
        return result

    return run


@pytest.fixture(scope="session")
def chain(python: Python) -> Callable[..., dict[str, Any]]:
    """Call get_gpu_context() in a simulated machine, as programs/chain.py does it."""

    def call(
        machine: str | machines.Machine,
        state: str = "clean",
        *,
        again: int = 0,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        uid: int | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        job = json.dumps({"state": state, "call": arguments, "again": again})
        result = python(machine, PROGRAMS / "chain.py", job, env=env, options=options, uid=uid)
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    return call
