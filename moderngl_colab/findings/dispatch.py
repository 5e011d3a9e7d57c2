"""Causes in what lies between a program and the driver: libglvnd and its ICDs."""

from __future__ import annotations

import os

from moderngl_colab import _glvnd, remedies
from moderngl_colab.findings import userland
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "dispatch_absent",
    "dispatch_foreign",
    "glx_override",
    "icd_broken",
    "icd_missing",
    "icd_override",
    "overridden",
    "too_late",
    "unopened",
]

_SYSTEM = ("/lib", "/usr/lib", "/.singularity.d/", "/run/opengl-driver/")


def dispatch_absent(machine: Machine) -> Finding | None:
    """libglvnd's own libraries are not there; no container runtime brings them."""
    opened = machine.examined.opened if machine.examined is not None else {}
    if (error := opened.get("libEGL.so.1")) is None:
        return None
    also = opened.get("libGL.so.1")
    return unopened(machine, error)._replace(evidence=() if also is None else (also,))


def unopened(machine: Machine, error: OSError | str) -> Finding:
    """libEGL or libGL cannot be opened; the error is the loader's own."""
    return Finding(
        "dispatch-absent",
        Severity.ERROR,
        f"the loader says: {error}",
        (),
        remedies.install(machine, "dispatch"),
    )


def dispatch_foreign(machine: Machine) -> Finding | None:
    """Another libEGL comes first, which looks for vendors in directories of its own."""
    mapped = machine.examined.mapped if machine.examined is not None else {}
    path = mapped.get("libEGL.so.1")
    if path is None or path.startswith(_SYSTEM) or not machine.gpus:
        return None
    return Finding(
        "dispatch-foreign",
        Severity.NOTE,
        f"libEGL.so.1 is {path}, which reads vendors from directories of its own; here NVIDIA's is "
        "offered to it",
        (),
        remedies.other_programs(machine),
    )


def icd_override(machine: Machine) -> Finding | None:
    """The user's own choice of EGL vendors leaves NVIDIA out; it is obeyed."""
    choice = _glvnd.user_choice(machine.environ)
    if choice is None or any(vendor.is_nvidia for vendor in machine.vendors) or not machine.gpus:
        return None
    return overridden(machine, choice)


def glx_override(machine: Machine) -> Finding | None:
    """The user's own choice of GLX's vendor is another than NVIDIA's; it is obeyed."""
    choice = _glvnd.glx_choice(machine.environ)
    if choice is None or machine.environ[choice] == "nvidia" or not machine.gpus:
        return None
    return overridden(machine, choice)


def overridden(machine: Machine, variable: str) -> Finding:
    """A variable of libglvnd's that leaves NVIDIA out."""
    value = machine.environ[variable] or "nothing"
    software = value == "mesa" and variable in (_glvnd.GLX_VARIABLE, _glvnd.FORCED_GLX_VARIABLE)
    # One that libglvnd reads only where the first is not set would take its place.
    others = [_glvnd.DIRECTORIES_VARIABLE] if variable == _glvnd.FILENAMES_VARIABLE else []
    return Finding(
        "software-forced" if software else "icd-override",
        Severity.ERROR,
        f"{variable} is set to {value}, and that leaves NVIDIA's vendor library out",
        (),
        remedies.unset(machine, variable, *(name for name in others if name in machine.environ)),
    )


def icd_broken(machine: Machine) -> Finding | None:
    """An ICD that libglvnd passes over, or waits for, without a word."""
    absent = not machine.userland.libraries
    broken = [
        vendor
        for vendor in machine.vendors
        # Nothing is wrong with an ICD of a driver that is not there, nor with a list that is empty.
        if vendor.found is None and not (absent and vendor.is_nvidia) and vendor.path != os.devnull
    ]
    if not broken:
        return None
    first = next((vendor for vendor in broken if vendor.is_nvidia), broken[0])
    if first.waits:
        what = "is no regular file, and libglvnd may wait for ever for it"
    elif first.library is None:
        what = "is no ICD: libglvnd passes over it"
    else:
        what = f"names {first.library}, which the loader does not find"
    choice = _glvnd.user_choice(machine.environ)
    # A vendor of the user's own choice that cannot be opened is not replaced.
    spoiled = choice is not None and bool(machine.gpus) and not machine.on_gpu
    severity = Severity.ERROR if spoiled and first.is_nvidia else Severity.NOTE
    if choice is not None:
        remedy = remedies.unset(machine, choice)
    elif first.library is not None and "mesa" in first.library:
        remedy = remedies.install(machine, "mesa")
    elif userland.fits(machine):
        remedy = remedies.other_programs(machine)
    else:
        remedy = remedies.remove(machine, first.path)
    return Finding(
        "icd-broken",
        severity,
        f"{first.path} {what}",
        tuple(
            f"{v.path}: {v.library if v.library is not None else 'unreadable'}"
            for v in machine.vendors
        ),
        remedy,
    )


def icd_missing(machine: Machine) -> Finding | None:
    """The driver is there, and nothing tells libglvnd so."""
    path = machine.userland.libraries.get("EGL")
    named = any(vendor.is_nvidia for vendor in machine.vendors)
    if path is None or named or _glvnd.user_choice(machine.environ) or not userland.fits(machine):
        return None
    return Finding(
        "icd-missing",
        Severity.NOTE,
        f"no ICD tells libglvnd of {path}; here it is told in memory",
        tuple(f"{vendor.path}: {vendor.library or 'unreadable'}" for vendor in machine.vendors),
        remedies.other_programs(machine),
    )


def too_late(machine: Machine) -> Finding | None:
    """libEGL has read its vendors in this process before, and never will again."""
    if not machine.late or not userland.fits(machine):
        return None
    return Finding(
        "too-late",
        Severity.NOTE,
        "libEGL read its vendors in this process before NVIDIA's was offered; contexts made here "
        "use an instance of their own",
        (),
        remedies.other_programs(machine),
    )
