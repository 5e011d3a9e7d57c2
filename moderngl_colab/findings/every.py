"""Every cause that is known, in the order in which they matter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from moderngl_colab.findings import (
    dispatch,
    display,
    hardware,
    installed,
    mesa,
    process,
    userland,
)
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = ["blocking", "findings"]

Detector = Callable[[Machine], Finding | None]

# Before these nothing else can matter: no driver is asked where one of them is found.
_OF_PROCESS: tuple[Detector, ...] = (hardware.not_linux, process.privileged)
_OF_WSL2: tuple[Detector, ...] = (mesa.d3d12_forbidden, hardware.wsl2)
_OF_DEVICES: tuple[Detector, ...] = (
    hardware.driver_absent,
    hardware.device_permission,
    hardware.device_cgroup,
    hardware.gpu_hidden,
)
_OF_EGL: tuple[Detector, ...] = (
    installed.apt_stub,
    userland.userland_mismatch,
    userland.userland_absent,
    userland.userland_partial,
    userland.egl_broken,
    hardware.mig,
    dispatch.dispatch_absent,
    dispatch.icd_override,
)
# Only where EGL does not serve: nobody needs GLX and its server where it does.
_OF_GLX: tuple[Detector, ...] = (
    dispatch.glx_override,
    userland.glx_broken,
    display.no_xvfb,
    display.xvfb_failed,
    display.glx_refused,
)
_OF_TRIALS: tuple[Detector, ...] = (
    process.driver_crash,
    process.driver_hang,
    hardware.gpu_other,
    hardware.jetson,
    process.driver_refused,
    mesa.glibcxx,
    mesa.mesa_absent,
)
_OF_OTHERS: tuple[Detector, ...] = (
    mesa.strategies_narrowed,
    mesa.software_forced,
    userland.two_drivers,
    userland.path_hidden,
    userland.userland_split,
    installed.userland_outdated,
    dispatch.icd_broken,
    dispatch.icd_missing,
    dispatch.dispatch_foreign,
    dispatch.too_late,
    process.wrong_thread,
    display.display_remote,
    hardware.nvml_absent,
)
_SEVERITIES = tuple(Severity)


def findings(machine: Machine) -> tuple[Finding, ...]:
    """Every cause of trouble on a machine, the one that matters most first.

    Arguments:
        machine: what was seen; the more of it was asked, the more is told.

    Returns:
        One finding for each code; none for a healthy machine.
    """
    if (foreign := hardware.not_linux(machine)) is not None:
        return (foreign,)
    drawn = any(trial.pixels for trial in machine.trials)
    # What was not tried is not held against a machine. Without a GPU, GLX is needed only where Mesa
    # cannot be had otherwise.
    first = machine.trial("egl") or machine.trial("glx")
    needs_glx = first is not None and not first.on_gpu and bool(machine.gpus or not drawn)
    of_glx = _OF_GLX if needs_glx else ()
    halves = (
        (_OF_EGL, of_glx) if "EGL" in machine.userland.libraries else (of_glx[:1], _OF_EGL, of_glx)
    )
    detectors = [*_OF_PROCESS, process.forked, *_OF_WSL2, *_OF_DEVICES, *chain(*halves)]
    detectors += [hardware.gvisor, *(_OF_TRIALS if machine.trials else ()), *_OF_OTHERS]
    found: dict[str, Finding] = {}
    for detect in detectors:
        if (finding := detect(machine)) is not None:
            found.setdefault(finding.code, _weighed(machine, finding))
    return tuple(sorted(found.values(), key=lambda finding: _SEVERITIES.index(finding.severity)))


def blocking(machine: Machine) -> Finding | None:
    """What keeps every program on this machine from the GPU, whichever half of the driver serves.

    Arguments:
        machine: what was seen by looking.
    """
    # On WSL2 every program has the GPU, unless something keeps Mesa from it.
    of_wsl2 = _OF_WSL2 if not (machine.wsl_libraries and machine.d3d12) else _OF_WSL2[:1]
    detectors = (*_OF_PROCESS, *of_wsl2, *_OF_DEVICES)
    return next(filter(None, (detect(machine) for detect in detectors)), None)


def _weighed(machine: Machine, finding: Finding) -> Finding:
    """A cause that closes one way to the GPU is less than an error where another one serves."""
    # A crash or a hang takes the process with it before the next way is tried.
    fatal = finding.code in ("driver-crash", "driver-hang", "forked")
    if finding.severity is Severity.ERROR and machine.on_gpu and not fatal:
        return finding._replace(severity=Severity.WARNING)
    return finding
