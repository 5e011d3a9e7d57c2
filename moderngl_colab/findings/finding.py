"""What a finding is."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, get_args

__all__ = ["CODES", "PRIVILEGED", "Code", "Finding", "Severity"]

Code = Literal[
    "apt-stub",
    "device-cgroup",
    "device-permission",
    "dispatch-absent",
    "dispatch-foreign",
    "display-remote",
    "driver-absent",
    "driver-crash",
    "driver-hang",
    "driver-refused",
    "forked",
    "glibcxx",
    "glx-refused",
    "gpu-hidden",
    "gpu-other",
    "gvisor",
    "icd-broken",
    "icd-missing",
    "icd-override",
    "jetson",
    "mesa-absent",
    "mig",
    "no-xvfb",
    "not-linux",
    "nvml-absent",
    "path-hidden",
    "privileged",
    "software-forced",
    "too-late",
    "two-drivers",
    "userland-absent",
    "userland-exposed",
    "userland-mismatch",
    "userland-outdated",
    "userland-partial",
    "wrong-thread",
    "wsl2",
    "xvfb-crash",
    "xvfb-start",
]
"""The causes that are known. Codes are stable."""

CODES: tuple[str, ...] = get_args(Code)


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """It keeps this process from the GPU."""
    WARNING = "warning"
    """It closes one way to the GPU; another one serves."""
    NOTE = "note"
    """It is mended or obeyed here, but other programs meet it."""


class Finding(NamedTuple):
    """One cause of trouble: what was seen, and what mends it."""

    code: Code
    severity: Severity
    summary: str
    """What is the case, in one sentence."""
    evidence: tuple[str, ...]
    """What was looked at and what it said."""
    remedy: str
    """One command or action that mends it, ready to paste."""


# Here, for it must be told where little can be imported: by somebody else's rights.
PRIVILEGED = Finding(
    "privileged",
    Severity.ERROR,
    "real and effective user or group differ, and which libraries such a process loads is left "
    "alone",
    (),
    "run it as an ordinary process, not by setuid or setgid",
)
