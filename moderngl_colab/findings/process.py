"""Causes in the process that asks, and in what became of those that tried."""

from __future__ import annotations

from typing import Literal

from moderngl_colab import remedies
from moderngl_colab.errors import Outcome
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "driver_crash",
    "driver_hang",
    "driver_refused",
    "forked",
    "privileged",
    "unlike_ids",
    "wrong_thread",
]

ASK_SMI = "nvidia-smi shows whether the driver itself works"


def privileged(machine: Machine) -> Finding | None:
    """Real and effective ids differ: which libraries are loaded is not ours to say."""
    return unlike_ids() if machine.privileged else None


def unlike_ids() -> Finding:
    """For one who looked at the ids himself."""
    return Finding(
        "privileged",
        Severity.ERROR,
        "real and effective user or group differ, and which libraries such a process loads is "
        "left alone",
        (),
        "run it as an ordinary process, not by setuid or setgid",
    )


def forked(machine: Machine) -> Finding | None:
    """The driver does not live through a fork."""
    if not machine.forked:
        return None
    return Finding(
        "forked",
        Severity.ERROR,
        "contexts were made before this process was forked, and drivers hang in such a child",
        (),
        'multiprocessing.set_start_method("spawn"), and make the context in the worker',
    )


def wrong_thread(machine: Machine) -> Finding | None:
    """A context is current in one thread at a time."""
    if not machine.elsewhere:
        return None
    return Finding(
        "wrong-thread",
        Severity.NOTE,
        "the contexts of this process were made in another thread, and a context is current in one "
        "thread at a time",
        (),
        "use a context in the thread that made it, or leave it there and enter it here: with ctx:",
    )


def driver_crash(machine: Machine) -> Finding | None:
    """The driver ended a process that tried it; it would end this one."""
    return _fatal(machine, "driver-crash")


def driver_hang(machine: Machine) -> Finding | None:
    """The driver did not answer one that tried it; it would stop this one."""
    return _fatal(machine, "driver-hang")


def driver_refused(machine: Machine) -> Finding | None:
    """NVIDIA's driver refused, and nothing that was seen on the machine explains it."""
    for trial in machine.trials:
        tried = trial.outcome not in (Outcome.SELECTED, Outcome.SKIPPED)
        if trial.strategy in ("egl", "glx") and tried and trial.cause in (None, "driver-refused"):
            return Finding(
                "driver-refused",
                Severity.ERROR,
                f"{trial.strategy}: {trial.reason}",
                trial.stderr,
                trial.remedy or ASK_SMI,
            )
    return None


def _fatal(machine: Machine, cause: Literal["driver-crash", "driver-hang"]) -> Finding | None:
    trial = next((trial for trial in machine.trials if trial.cause == cause), None)
    if trial is None:
        return None
    others = ",".join(other.strategy for other in machine.trials if other.pixels)
    return Finding(
        cause,
        Severity.ERROR,
        f"{trial.strategy}: {trial.reason}",
        trial.stderr,
        remedies.assign(machine, "MODERNGL_COLAB_STRATEGIES", others) if others else ASK_SMI,
    )
