"""``device=`` and ``CUDA_VISIBLE_DEVICES``: which GPU is meant, and which EGL device that is.

EGL lists GPUs in an order of its own and takes no notice of ``CUDA_VISIBLE_DEVICES``
(google-deepmind/mujoco#3245), so the two lists are brought together by what both tell of a GPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from moderngl_colab import _cuda, _driver, _kernel, _nvml
from moderngl_colab._egl_devices import Details, Device

__all__ = ["Given", "NoneGivenError", "UnmatchedError", "select", "sole", "spelled", "visible"]

_ORDINAL = re.compile(r"(?:cuda:)?0*(?P<ordinal>\d{1,9})|cuda", re.ASCII)
_UUID = re.compile(r"GPU-[0-9a-f][0-9a-f-]{0,35}", re.IGNORECASE)
_POSSIBLE = (
    'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") and a '
    'PCI address ("pci:0000:0f:00.0")'
)


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


class UnmatchedError(Exception):
    """Nothing tells which EGL device a GPU is; the text has what was seen."""


def spelled(device: object, source: str) -> str:
    """A device that a user named, as ``"cuda:1"``, ``"GPU-57a2d1"`` or ``"pci:0000:0f:00.0"``.

    Arguments:
        device: an int, or anything whose ``str()`` is one of these, such as a ``torch.device``.
        source: how the error calls it.

    Raises:
        TypeError: it is a bool.
        ValueError: it is none of these.
    """
    if isinstance(device, bool):
        raise TypeError(f"{source}={device!r}: {_POSSIBLE}")
    text = str(device).strip()
    if (ordinal := _ORDINAL.fullmatch(text)) is not None:
        return f"cuda:{ordinal['ordinal'] or 0}"
    if _UUID.fullmatch(text):
        return f"GPU-{text[4:].lower()}"
    kind, _, address = text.partition(":")
    if kind.lower() == "pci" and (pci := _kernel.pci_address(address)) is not None:
        return f"pci:{pci}"
    what = "a MIG slice has no graphics; " if text.startswith("MIG-") else ""
    raise ValueError(f"{source}={text!r}: {what}{_POSSIBLE}{_listing()}")


def select(
    listed: Sequence[tuple[Device, Details]], device: str | None, gpus: Sequence[_nvml.GPU]
) -> tuple[tuple[Device, Given], ...]:
    """The EGL devices that will do, the best first, each with the GPU that it is.

    Arguments:
        listed: EGL's devices of NVIDIA's, with what they say of themselves.
        device: as :func:`spelled` has it; None for the first GPU of this process as CUDA counts
            them, then the next ones.
        gpus: what NVML lists, in its order, which is that of PCI addresses; empty where it does
            not answer.

    Raises:
        NoneGivenError: this process has no GPU.
        UnmatchedError: nothing tells which device it is.
        ValueError: this process has no GPU that `device` means, or more than one.
    """
    known: list[_Known] = [(gpu.uuid, gpu.pci, gpu.name) for gpu in gpus]
    known = known or [(details.uuid, details.pci, None) for _, details in listed]
    count = len(gpus) or max(len(listed), _kernel.count_gpus())
    given = _given(known, count)
    pairs = [(_matched(gpu, listed, len(given), count == 1), gpu) for gpu in given]
    found = tuple((pair and pair[0], _completed(gpu, pair, known)) for pair, gpu in pairs)
    best = _meant(device, tuple(gpu for _, gpu in found))
    chosen = tuple((egl, gpu) for egl, gpu in found if egl is not None and gpu in best)
    if best[0] not in [gpu for _, gpu in chosen]:
        seen = (f"EGL device {egl.number} has {details}" for egl, details in listed)
        raise UnmatchedError(f"it cannot be told which EGL device is {best[0]}: {'; '.join(seen)}")
    return chosen


def visible(gpus: Sequence[_nvml.GPU]) -> tuple[Given, ...]:
    """The GPUs of this process, in the order in which CUDA counts them.

    Arguments:
        gpus: as for :func:`select`.

    Raises:
        NoneGivenError: it has none.
    """
    known: list[_Known] = [(gpu.uuid, gpu.pci, gpu.name) for gpu in gpus]
    return _given(known, len(known) or _kernel.count_gpus())


def sole(device: str | None, gpus: Sequence[_nvml.GPU]) -> Given | None:
    """The GPU of a machine that has one; None where it has more.

    Arguments:
        device: as for :func:`select`.
        gpus: as for :func:`select`.

    Raises:
        NoneGivenError: this process is not given it.
        ValueError: it is not the one that `device` means.
    """
    if (len(gpus) or _kernel.count_gpus()) > 1:
        return None
    return _meant(device, visible(gpus))[0]


_Known = tuple[str | None, str | None, str | None]


def _given(known: Sequence[_Known], count: int) -> tuple[Given, ...]:
    """The GPUs of this process, in the order in which CUDA counts them.

    Arguments:
        known: UUID, PCI address and name of GPUs, in the order of PCI addresses if it is NVML that
            tells them, and so in no other case with a name.
        count: how many GPUs there are.
    """
    # The fastest is CUDA's first, by a measure of its own: of equal ones PCI's order remains.
    names = {name for *_, name in known}
    same = None not in names and (len(names) == 1 or _cuda.by_pci(os.environ))
    in_order = len(known) == count and (count == 1 or same)
    entries = _cuda.visible(os.environ)
    found: list[Given] = []
    for entry in range(count) if entries is None else entries:
        if isinstance(entry, int):
            if entry >= count:
                break
            facts = known[entry] if in_order else (None, None, None)
            gpu = Given(len(found), *facts, entry)
        elif entry.startswith("MIG-"):
            gpu = Given(len(found), entry)
        elif not any(uuid for uuid, *_ in known):
            gpu = Given(len(found))  # Whether it is there, EGL's ordinals may tell.
        else:
            gpus = [n for n, (uuid, *_) in enumerate(known) if uuid and uuid.startswith(entry)]
            if len(gpus) != 1:
                break
            gpu = Given(len(found), *known[gpus[0]], gpus[0] if in_order else None)
        if any(gpu[1:]) and gpu[1:] in [other[1:] for other in found]:
            raise NoneGivenError  # So CUDA has it: who names a GPU twice gets none.
        found.append(gpu)
    if not found:
        raise NoneGivenError
    return tuple(found)


def _meant(device: str | None, gpus: tuple[Given, ...]) -> tuple[Given, ...]:
    """Of a process's GPUs those that will do, the best first."""
    if device is None:
        return gpus
    kind, _, rest = device.partition(":")
    if kind == "cuda":
        meant = [gpu for gpu in gpus if gpu.ordinal == int(rest)]
    elif kind == "pci":
        meant = [gpu for gpu in gpus if gpu.pci == rest]
    else:
        meant = [gpu for gpu in gpus if gpu.uuid and gpu.uuid.startswith(device)]
    if len(meant) == 1:
        return (meant[0],)
    why = "this process has no such GPU"
    if meant:
        why = f"{len(meant)} GPUs of this process begin so"
    elif kind != "cuda" and any((gpu.pci if kind == "pci" else gpu.uuid) is None for gpu in gpus):
        why = "nothing tells which GPU of this process that is"
    raise ValueError(f"device={device!r}: {why}{_there_are(gpus)}")


def _matched(
    gpu: Given, listed: Sequence[tuple[Device, Details]], count: int, alone: bool
) -> tuple[Device, Details] | None:
    """The EGL device of a GPU; None where nothing tells which it is.

    Arguments:
        gpu: one of this process's.
        listed: as for :func:`select`.
        count: how many GPUs this process has.
        alone: whether the machine has no other GPU.
    """
    for name in ("uuid", "pci"):
        wanted = getattr(gpu, name)
        told = {getattr(details, name): (device, details) for device, details in listed}
        if wanted is not None and wanted in told:
            return told[wanted]
        if wanted is not None and None not in told and not wanted.startswith("MIG-"):
            return None  # Every device says what it is, and this is none of them.
    told = {details.cuda: (device, details) for device, details in listed}
    ordinals = set(told) - {None}
    # More answers than this process has GPUs: the driver takes no notice of the variable.
    heedless = len(ordinals) > count or any(ordinal >= count for ordinal in ordinals)
    ordinal = gpu.number if heedless else gpu.ordinal
    if ordinal is not None and ordinal in told:
        return told[ordinal]
    return listed[0] if alone and len(listed) == 1 else None


def _completed(gpu: Given, pair: tuple[Device, Details] | None, known: Sequence[_Known]) -> Given:
    """With what is told by the EGL device, and by NVML of a GPU of that UUID or address."""
    if pair is not None:
        gpu = gpu._replace(uuid=gpu.uuid or pair[1].uuid, pci=gpu.pci or pair[1].pci)
    for uuid, pci, name in known:
        if (uuid is not None and uuid == gpu.uuid) or (pci is not None and pci == gpu.pci):
            return gpu._replace(uuid=gpu.uuid or uuid, pci=gpu.pci or pci, name=name)
    return gpu


def _there_are(gpus: Sequence[Given]) -> str:
    visible = os.environ.get(_cuda.VISIBLE_VARIABLE)
    why = "" if visible is None else f', for {_cuda.VISIBLE_VARIABLE} is "{visible}"'
    return "\n".join([f"; it has {len(gpus)}{why}:", *(f"  {gpu}" for gpu in gpus)])


def _listing() -> str:
    """The GPUs of this machine, as far as NVML tells them."""
    gpus = _nvml.ask(_driver.find().nvml).gpus
    lines = (
        f"  {'  '.join(filter(None, (g.name, g.uuid, g.pci and f'pci:{g.pci}')))}" for g in gpus
    )
    return "\n".join([f"; of GPUs there are {len(gpus)}:", *lines]) if gpus else ""
