"""How CUDA is told which GPUs a process may use, and in which order it counts them.

Facts: the CUDA C Programming Guide on environment variables; where it is silent, what PyTorch's
tests of its own reader pin down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ORDER_VARIABLE", "VISIBLE_VARIABLE", "Given", "NoneGivenError", "by_pci", "visible"]

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"

_IDS = ("GPU-", "MIG-")
# As strtol(3) reads a number, whatever comes after it; no machine has a GPU of more digits.
_ORDINAL = r"(?a)\s*(?P<sign>[+-]?)0*(?P<digits>\d{1,9})(?!\d)"


class Given(NamedTuple):
    """A GPU that this process was given; None for what nobody tells of it."""

    ordinal: int | None
    """The one that CUDA gives it in this process; None only for one that is hidden from it."""
    uuid: str | None = None
    """``"GPU-..."``, or ``"MIG-..."`` for a slice of one."""
    pci: str | None = None
    """Its PCI address, for instance ``"0000:0f:00.0"``."""
    name: str | None = None
    number: int | None = None
    """The ordinal that CUDA would give it if none were hidden."""

    def __str__(self) -> str:
        pci = None if self.pci is None else f"pci:{self.pci}"
        return "  ".join(filter(None, (f"cuda:{self.ordinal}", self.name, self.uuid, pci)))


class NoneGivenError(Exception):
    """``CUDA_VISIBLE_DEVICES`` leaves this process no GPU."""


def visible(environ: Mapping[str, str]) -> tuple[int | str, ...] | None:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` gives a process, in the order of their ordinals.

    Which of them exist is not known here: CUDA ends the list at the first that does not.

    Arguments:
        environ: where the variable is read.

    Returns:
        Ordinals of CUDA on the whole machine, or beginnings of UUIDs (``"GPU-..."``,
        ``"MIG-..."``); empty where the variable leaves none, None where it is not set.
    """
    value = environ.get(VISIBLE_VARIABLE)
    if value is None:
        return None
    kind = next((kind for kind in _IDS if value.startswith(kind)), None)
    named: dict[int | str, None] = {}
    for entry in value.split(","):
        gpu = _ordinal(entry) if kind is None else entry if entry.startswith(kind) else None
        if gpu in named:
            return ()
        if gpu is None:
            break
        named[gpu] = None
    return tuple(named)


def by_pci(environ: Mapping[str, str]) -> bool:
    """Whether CUDA counts a machine's GPUs by their PCI addresses; by default the fastest is 0."""
    return environ.get(ORDER_VARIABLE) == "PCI_BUS_ID"


def _ordinal(entry: str) -> int | None:
    import re

    number = re.match(_ORDINAL, entry)
    if number is None:
        return None
    value = int(number["digits"])
    return None if number["sign"] == "-" and value else value
