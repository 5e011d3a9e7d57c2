"""Causes in the process that asks, and in what became of those that tried."""

from __future__ import annotations

from typing import Literal

from moderngl_colab import remedies
from moderngl_colab._handle import LEAVE_IT
from moderngl_colab.errors import Outcome
from moderngl_colab.findings.finding import PRIVILEGED, Finding, Severity
from moderngl_colab.machine import HUNG, Machine

__all__ = [
    "FORKED",
    "driver_crash",
    "driver_hang",
    "driver_refused",
    "forked",
    "privileged",
    "wrong_thread",
]

FORKED = Finding(
    "forked",
    Severity.ERROR,
    "NVIDIA's driver was used, by OpenGL or CUDA, before this process was forked, and in such a "
    "child it hangs",
    (),
    'start workers by multiprocessing.set_start_method("spawn") or "forkserver", or by '
    'DataLoader(..., multiprocessing_context="spawn"), and make the context in the worker',
)


def privileged(machine: Machine) -> Finding | None:
    """Real and effective ids differ: which libraries are loaded is not ours to say."""
    return PRIVILEGED if machine.privileged else None


def forked(machine: Machine) -> Finding | None:
    """The driver does not live through a fork."""
    return FORKED if machine.forked else None


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
        LEAVE_IT,
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
                trial.remedy or remedies.ASK_SMI,
            )
    return None


def _fatal(machine: Machine, cause: Literal["driver-crash", "driver-hang"]) -> Finding | None:
    """A strategy's end, or that of the process which asked the driver's libraries."""
    for number, trial in enumerate(machine.trials):
        if trial.cause == cause:
            # The chain never comes so far where an earlier one serves.
            spared = any(earlier.on_gpu for earlier in machine.trials[:number])
            chosen = machine.environ.get(remedies.STRATEGIES_VARIABLE, "").replace(",", " ").split()
            spared |= bool(chosen) and trial.strategy not in chosen
            others = ",".join(other.strategy for other in machine.trials if other.pixels)
            return Finding(
                cause,
                Severity.NOTE if spared else Severity.ERROR,
                f"{trial.strategy}: {trial.reason}",
                trial.stderr,
                remedies.assign(machine, remedies.STRATEGIES_VARIABLE, others)
                if others
                else remedies.ASK_SMI,
            )
    return _of_examination(machine, cause)


def _of_examination(
    machine: Machine, cause: Literal["driver-crash", "driver-hang"]
) -> Finding | None:
    for question, end in machine.examined.unanswered.items() if machine.examined else ():
        if ("driver-hang" if end == HUNG else "driver-crash") == cause:
            return Finding(
                cause,
                Severity.NOTE if machine.on_gpu else Severity.ERROR,
                f"{question}: the process that asked for it {end}",
                machine.examined.stderr if machine.examined else (),
                remedies.ASK_SMI,
            )
    return None
