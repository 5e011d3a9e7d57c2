"""Causes in Mesa: where it is the way to the GPU, or what is left without one."""

from __future__ import annotations

import os
import re

from moderngl_colab import remedies
from moderngl_colab.findings.dispatch import glx_override
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "d3d12_forbidden",
    "glibcxx",
    "mesa_absent",
    "software_forced",
    "strategies_narrowed",
]


_STDCXX = "libstdc++.so.6"
_SOFTWARE = {
    "LIBGL_ALWAYS_SOFTWARE": re.compile(r"1|true|yes|on", re.IGNORECASE),
    "GALLIUM_DRIVER": re.compile(r"llvmpipe|softpipe|swr"),
    "MESA_LOADER_DRIVER_OVERRIDE": re.compile(r"(kms_)?swrast|llvmpipe|softpipe"),
}


def d3d12_forbidden(machine: Machine) -> Finding | None:
    """Where Mesa is the way to the GPU, a variable that keeps it on the CPU closes that way."""
    if machine.on_gpu or not any(node.path.endswith("/dxg") for node in machine.nodes):
        return None
    forced = software_forced(machine)
    return None if forced is None else forced._replace(severity=Severity.ERROR)


def software_forced(machine: Machine) -> Finding | None:
    """A variable that keeps Mesa on the CPU."""
    environ = machine.environ
    found = [name for name, values in _SOFTWARE.items() if values.fullmatch(environ.get(name, ""))]
    if not found:
        override = glx_override(machine)
        return None if override is None else override._replace(severity=Severity.NOTE)
    return Finding(
        "software-forced",
        Severity.NOTE,
        f"{found[0]} is set to {environ[found[0]]}, and that keeps Mesa on the CPU",
        tuple(f"{name}={environ[name]}" for name in found),
        remedies.unset(machine, *found),
    )


def strategies_narrowed(machine: Machine) -> Finding | None:
    """Our own variable leaves out the strategies that lead to NVIDIA's driver."""
    value = machine.environ.get(remedies.STRATEGIES_VARIABLE, "").strip()
    if not value or not machine.gpus or {"egl", "glx"} & set(value.replace(",", " ").split()):
        return None
    return Finding(
        "software-forced",
        Severity.ERROR,
        f"{remedies.STRATEGIES_VARIABLE} is set to {value}, and that leaves NVIDIA's driver out",
        (),
        remedies.unset(machine, remedies.STRATEGIES_VARIABLE),
    )


def glibcxx(machine: Machine) -> Finding | None:
    """Mesa's drivers need a newer libstdc++ than the one that comes first."""
    if machine.examined is None or machine.on_gpu:
        return None
    has = machine.examined.glibcxx.get(_STDCXX)
    for path, error in machine.examined.opened.items():
        needs = machine.examined.glibcxx.get(path)
        if error and needs and has and _numbers(needs) > _numbers(has):
            first = machine.examined.mapped.get(_STDCXX, _STDCXX)
            return Finding(
                "glibcxx",
                Severity.ERROR,
                f"{os.path.basename(path)} needs GLIBCXX_{needs}, and {first} ends at "
                f"GLIBCXX_{has}",
                (error,),
                "conda install -y -c conda-forge libstdcxx-ng"
                if machine.conda
                else f"put a libstdc++.so.6 with GLIBCXX_{needs} first on LD_LIBRARY_PATH",
            )
    return None


def mesa_absent(machine: Machine) -> Finding | None:
    """There is no context at all, not even on the CPU, because Mesa is not there."""
    trial = machine.trial("mesa")
    if trial is None or trial.cause != "mesa-absent" or any(t.pixels for t in machine.trials):
        return None
    return Finding(
        "mesa-absent",
        Severity.ERROR,
        f"Mesa gives no context, not even on the CPU: {trial.reason}",
        trial.stderr,
        remedies.install(machine, "mesa"),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
