"""Causes in what was installed for the driver, by packages or by ``install-driver``."""

from __future__ import annotations

from moderngl_colab import remedies
from moderngl_colab.findings import userland
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = ["apt_stub", "userland_outdated"]


def apt_stub(machine: Machine) -> Finding | None:
    """A package of the driver that brings another version than its name promises."""
    stubs = machine.examined.stubs if machine.examined is not None else {}
    wrong = userland.userland_absent(machine) or userland.userland_mismatch(machine)
    if not stubs or wrong is None:
        return None
    package, version = next(iter(stubs.items()))
    return Finding(
        "apt-stub",
        Severity.ERROR,
        f"the package {package} is a stub: it brings version {version}, and the kernel module is "
        f"{machine.module.version if machine.module else 'of unknown version'}",
        tuple(f"{name}: {brought}" for name, brought in stubs.items()),
        remedies.give_graphics(machine),
    )


def userland_outdated(machine: Machine) -> Finding | None:
    """It was fetched for another kernel module, and nothing serves since that was replaced.

    Where the system's own serves, it is nobody's concern here: it may be another host's, which
    shares the home folder.
    """
    module, kept = machine.module, machine.kept
    if module is None or not kept or module.version in kept or userland.obstacle(machine) is None:
        return None
    return Finding(
        "userland-outdated",
        Severity.NOTE,
        f"what install-driver fetched ({' and '.join(kept)}) is ignored: the kernel module is "
        f"{module.version}",
        (f"{module.path}: {module.version}", *(f"kept: {version}" for version in kept)),
        remedies.install_driver(machine),
    )
