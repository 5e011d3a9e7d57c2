"""Why a strategy could not serve: findings, as the errors that strategies raise.

To look takes milliseconds and starts no process. NVML is asked only after a driver refused. What
findings are made of is imported where one is made: a context that comes out well needs none.
"""

from __future__ import annotations

import ctypes
import math
import os
from typing import TYPE_CHECKING

from moderngl_colab import _cuda
from moderngl_colab.errors import (
    ForkedProcessError,
    Outcome,
    StrategyFailed,
    StrategyUnavailable,
)

if TYPE_CHECKING:
    from moderngl_colab import _driver, _nvml
    from moderngl_colab.findings.finding import Finding
    from moderngl_colab.findings.userland import Library
    from moderngl_colab.machine import Machine

__all__ = [
    "dispatch_absent",
    "forked",
    "hidden",
    "hides",
    "mesa_absent",
    "no_gpu",
    "not_listed",
    "obstacle",
    "overridden",
    "privileged",
    "refused",
    "unavailable",
    "unloadable",
]


def no_gpu() -> StrategyUnavailable | None:
    """No NVIDIA GPU is given to this process; None where one is."""
    return _raised(_no_gpu())


def hidden() -> StrategyUnavailable | None:
    """The environment is seen to leave this process no GPU; None where it leaves one, or may."""
    if _cuda.VISIBLE_VARIABLE not in os.environ:
        return None
    from moderngl_colab.findings import hardware
    from moderngl_colab.survey import glance

    return _raised(hardware.gpu_hidden(glance()))


def hides() -> StrategyUnavailable:
    """The environment names GPUs, and the machine has none of them."""
    from moderngl_colab.findings import hardware
    from moderngl_colab.survey import glance

    return unavailable(hardware.hidden(glance()))


def forked() -> ForkedProcessError:
    """The driver was used before this process was forked."""
    from moderngl_colab.findings.process import FORKED

    error = ForkedProcessError(FORKED.summary)
    error.remedy = FORKED.remedy
    return error


def privileged() -> StrategyUnavailable:
    """Real and effective ids differ, and no library is chosen here."""
    from moderngl_colab.findings.finding import PRIVILEGED

    return unavailable(PRIVILEGED)


def overridden(variable: str) -> StrategyUnavailable:
    """The user's own choice of vendors leaves NVIDIA out; it is obeyed."""
    from moderngl_colab.findings import dispatch
    from moderngl_colab.survey import glance

    return unavailable(dispatch.overridden(glance(), variable))


def dispatch_absent(error: OSError) -> StrategyUnavailable:
    """libEGL or libGL cannot be opened."""
    from moderngl_colab.findings import dispatch
    from moderngl_colab.survey import glance

    return unavailable(dispatch.unopened(glance(), error))


def unloadable(error: OSError) -> StrategyUnavailable:
    """A library of the driver is there, and cannot be opened."""
    from moderngl_colab.findings import userland
    from moderngl_colab.survey import look

    return unavailable(userland.unloadable(look(), error, _opens("libX11.so.6", "libXext.so.6")))


def _opens(*names: str) -> bool:
    try:
        for name in names:
            ctypes.CDLL(name)
    except OSError:
        return False
    return True


def mesa_absent(reason: str) -> StrategyUnavailable:
    """libEGL has no device of Mesa's."""
    from moderngl_colab.remedies import install
    from moderngl_colab.survey import glance

    return StrategyUnavailable(reason, remedy=install(glance(), "mesa"), cause="mesa-absent")


def obstacle(library: Library, driver: _driver.Userland) -> StrategyUnavailable | None:
    """What is known to keep NVIDIA's EGL or GLX from serving before it is asked; None if nothing.

    Arguments:
        library: the half of the driver that is needed.
        driver: the userland that was found.
    """
    if (absent := _no_gpu()) is not None:
        return unavailable(absent)
    from moderngl_colab.survey import look

    return _raised(_obstacle(look()._replace(userland=driver), library))


def _no_gpu() -> Finding | None:
    from moderngl_colab.findings import hardware
    from moderngl_colab.survey import glance

    machine = glance()
    if (wsl2 := hardware.wsl2(machine)) is not None:
        from moderngl_colab.findings import mesa

        return mesa.d3d12_forbidden(machine) or wsl2
    return hardware.driver_absent(machine)


def _obstacle(machine: Machine, library: Library) -> Finding | None:
    from moderngl_colab.findings import hardware, userland

    return (
        hardware.device_permission(machine)
        or hardware.device_cgroup(machine)
        or userland.obstacle(machine, library)
    )


def not_listed(
    driver: _driver.Userland,
    observed: str,
    error: OSError | None = None,
    until: float = math.inf,
) -> StrategyUnavailable:
    """Why libEGL lists no NVIDIA device, the decisive cause first.

    Arguments:
        driver: the userland that was offered to it.
        observed: what is to be said if nothing on the machine explains it.
        error: what the loader said, where libEGL_nvidia could not be opened.
        until: when to give up waiting for NVML, in seconds of :func:`time.monotonic`.
    """
    if (absent := _no_gpu()) is not None:
        return unavailable(absent)
    from moderngl_colab.findings import userland
    from moderngl_colab.remedies import ASK_SMI, give_graphics
    from moderngl_colab.survey import look

    machine = look()._replace(userland=driver)
    if (known := _obstacle(machine, "EGL")) is not None:
        return unavailable(known)
    if error is not None:
        return unavailable(userland.unloadable(machine, error))
    asked, nvml = _with_nvml(machine, until)
    if (known := _explanation(asked)) is not None:
        return unavailable(known)
    return StrategyUnavailable(
        f"{observed}, though {driver.libraries['EGL']} is there; {nvml}",
        remedy=give_graphics(machine) if nvml.error is None else ASK_SMI,
        cause="driver-refused",
    )


def refused(
    error: StrategyFailed,
    driver: _driver.Userland,
    cause: str = "driver-refused",
    until: float = math.inf,
) -> StrategyFailed:
    """A refusal of NVIDIA's driver, with what NVML has to say on it.

    Arguments:
        error: what the driver answered.
        driver: the userland that was asked.
        cause: the code for the case that nothing else explains it.
        until: as for :func:`not_listed`.
    """
    from moderngl_colab.remedies import ASK_SMI
    from moderngl_colab.survey import look

    machine, nvml = _with_nvml(look()._replace(userland=driver), until)
    if (known := _explanation(machine)) is not None:
        reason = f"{error.reason}; {known.summary}"
        return StrategyFailed(reason, remedy=known.remedy, cause=known.code)
    remedy = error.remedy or ASK_SMI
    return StrategyFailed(f"{error.reason}; {nvml}", remedy=remedy, cause=cause)


def _explanation(machine: Machine) -> Finding | None:
    from moderngl_colab.findings import hardware

    return hardware.mig(machine) or hardware.gvisor(machine) or hardware.jetson(machine)


def _with_nvml(machine: Machine, until: float) -> tuple[Machine, _nvml.Answer]:
    from moderngl_colab import _nvml
    from moderngl_colab.machine import Examined, Trial

    nvml = _nvml.ask(machine.userland.nvml, until)
    # It was tried, or nobody would ask.
    trial = Trial("egl", Outcome.FAILED, "")
    return machine._replace(examined=Examined(nvml=nvml), trials=(trial,)), nvml


def unavailable(finding: Finding) -> StrategyUnavailable:
    """A finding, as the error of the strategy that it keeps from serving."""
    return StrategyUnavailable(finding.summary, remedy=finding.remedy, cause=finding.code)


def _raised(finding: Finding | None) -> StrategyUnavailable | None:
    return None if finding is None else unavailable(finding)
