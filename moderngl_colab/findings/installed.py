"""What may be wrong with a driver that ``install-driver`` fetched."""

from __future__ import annotations

from moderngl_colab import remedies
from moderngl_colab.findings import userland
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = ["userland_outdated"]


def userland_outdated(machine: Machine) -> Finding | None:
    """It was fetched for another kernel module, and is ignored since that was replaced."""
    module, kept = machine.module, machine.kept
    if module is None or not kept or module.version in kept:
        return None
    # Where the system's own serves, nothing needs to be fetched again.
    wanted = userland.obstacle(machine) is not None
    return Finding(
        "userland-outdated",
        Severity.NOTE,
        f"what install-driver fetched ({' and '.join(kept)}) is ignored: the kernel module is "
        f"{module.version}",
        (f"{module.path}: {module.version}", *(f"kept: {version}" for version in kept)),
        remedies.install_driver(machine)
        if wanted
        else remedies.forget_driver(machine, " ".join(kept)),
    )
