"""Causes on the way over GLX: Xvfb, the display, the driver's consent."""

from __future__ import annotations

import re

from moderngl_colab import remedies
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "GLX_REFUSED",
    "GLX_WORKS",
    "display_remote",
    "glx_refused",
    "no_xvfb",
    "without_xvfb",
    "xvfb_failed",
]

GLX_WORKS = 535
"""The first branch of the driver whose GLX is known to serve over Xvfb."""
GLX_REFUSED = 418
"""The last one that is known to refuse (TigerVNC/tigervnc#1773)."""

_REMOTE = re.compile(r"(?!unix:)[^/:]+:\d+")


def no_xvfb(machine: Machine) -> Finding | None:
    """The program is not on the PATH."""
    return without_xvfb(machine) if machine.xvfb is None else None


def without_xvfb(machine: Machine) -> Finding:
    """For one who looked for the program himself."""
    return Finding(
        "no-xvfb",
        Severity.ERROR,
        "there is no Xvfb on the PATH",
        (),
        remedies.install(machine, "xvfb"),
    )


def xvfb_failed(machine: Machine) -> Finding | None:
    """The server ended at once, by itself or by a signal, or never answered."""
    trial = machine.trial("glx")
    if trial is None or trial.cause not in ("xvfb-start", "xvfb-crash"):
        return None
    return Finding(
        "xvfb-start" if trial.cause == "xvfb-start" else "xvfb-crash",
        Severity.ERROR,
        trial.reason,
        trial.stderr,
        trial.remedy or remedies.install(machine, "xkb"),
    )


def glx_refused(machine: Machine) -> Finding | None:
    """NVIDIA's GLX will not serve on a server that is not NVIDIA's own."""
    trial = machine.trial("glx")
    if trial is None or trial.cause != "glx-refused":
        return None
    version = machine.userland.version or "of unknown version"
    return Finding(
        "glx-refused",
        Severity.ERROR,
        trial.reason,
        (
            f"the driver is {version}; known to serve over Xvfb from {GLX_WORKS} on, to refuse up "
            f"to {GLX_REFUSED}",
            *trial.stderr,
        ),
        trial.remedy or remedies.ASK_SMI,
    )


def display_remote(machine: Machine) -> Finding | None:
    """DISPLAY is somebody else's screen, by ssh -X or so; GL there is theirs."""
    display = machine.environ.get("DISPLAY", "")
    if not _REMOTE.match(display) or not machine.gpus:
        return None
    return Finding(
        "display-remote",
        Severity.NOTE,
        "DISPLAY names a server of another machine; here a private one is used instead",
        (f"DISPLAY={display}",),
        remedies.unset(machine, "DISPLAY"),
    )
