"""``device=`` and ``CUDA_VISIBLE_DEVICES``: which GPU is meant, and which EGL device that is.

EGL lists GPUs in an order of its own and takes no notice of ``CUDA_VISIBLE_DEVICES``
(google-deepmind/mujoco#3245), so the two lists are brought together by what both tell of a GPU.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence

from moderngl_colab import _cuda, _driver, _kernel, _match, _nvml
from moderngl_colab._cuda import Given, NoneGivenError
from moderngl_colab._egl_devices import Details, Device
from moderngl_colab.errors import GPUContextError, quoted
from moderngl_colab.options import DEVICE_VARIABLE

__all__ = [
    "Given",
    "NoneGivenError",
    "SeveralError",
    "UnmatchedError",
    "leave_out",
    "named",
    "select",
    "sole",
    "spelled",
    "visible",
]

_ORDINAL = re.compile(r"(?:cuda:)?0*(?P<ordinal>\d{1,9})|cuda", re.ASCII)
_UUID = re.compile(r"GPU-[0-9a-f][0-9a-f-]{0,35}", re.IGNORECASE)
_POSSIBLE = (
    'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") and a '
    'PCI address ("pci:0000:0f:00.0")'
)

NVML = Callable[[], Sequence[_nvml.GPU]]
"""Gives what NVML lists, in the order of PCI addresses; nothing where it does not answer."""


class UnmatchedError(GPUContextError):
    """Nothing tells which EGL device a GPU is; the text has what was seen."""

    cause = "gpu-other"
    remedy = (
        "name the GPU to CUDA by its UUID, which nvidia-smi -L tells: "
        "export CUDA_VISIBLE_DEVICES=GPU-..."
    )


class SeveralError(Exception):
    """A certain one of several GPUs is meant."""


def spelled(device: object, source: str, until: float = math.inf) -> str:
    """A device that a user named, as ``"cuda:1"``, ``"GPU-57a2d1"`` or ``"pci:0000:0f:00.0"``.

    Arguments:
        device: an int, or anything whose ``str()`` is one of these, such as a ``torch.device``.
        source: how the error calls it.
        until: when to give up waiting for NVML, in seconds of :func:`time.monotonic`.

    Raises:
        TypeError: it is a bool.
        ValueError: it is none of these; the GPUs that there are are listed, if NVML tells them.
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
    raise ValueError(f"{source}={quoted(text)}: {what}{_POSSIBLE}{_listing(until)}")


def named(device: str) -> str:
    """A device as the user gave it, by our variable or by an argument."""
    return f"{DEVICE_VARIABLE if _by_variable(device) else 'device'}={device!r}"


def leave_out(device: str) -> str:
    """What takes it back."""
    return f"unset {DEVICE_VARIABLE}" if _by_variable(device) else "leave the device out"


def select(
    listed: Sequence[tuple[Device, Details]], device: str | None, nvml: NVML
) -> tuple[tuple[Device, Given], ...]:
    """The EGL devices that will do, the best first, each with the GPU that it is.

    NVML is asked only where EGL's devices do not tell enough.

    Arguments:
        listed: EGL's devices of NVIDIA's, with what they say of themselves.
        device: as :func:`spelled` has it; None for the first GPU of this process as CUDA counts
            them, then the next ones.
        nvml: asks it.

    Raises:
        NoneGivenError: this process has no GPU.
        UnmatchedError: nothing tells which device it is.
        ValueError: this process has no GPU that `device` means, or more than one.
    """
    try:
        return _selected(listed, device, ())
    except (NoneGivenError, UnmatchedError, ValueError):
        gpus = nvml()
        if not gpus:
            raise
    return _selected(listed, device, gpus)


def sole(device: str | None, nvml: NVML) -> Given | None:
    """The GPU of a machine that has one; None where any of several will do.

    Arguments:
        device: as for :func:`select`.
        nvml: asks it.

    Raises:
        NoneGivenError: this process has no GPU.
        SeveralError: a certain one of several is meant.
        ValueError: the only one is not the one that `device` means.
    """
    if device is None and _cuda.VISIBLE_VARIABLE not in os.environ:
        return Given(0) if _kernel.count_gpus() <= 1 else None
    gpus = nvml()
    count = len(gpus) or max(1, _kernel.count_gpus())
    given = _match.given(gpus, count)
    if count == 1:
        return _meant(device, given)[0]
    if device is not None or [gpu.number for gpu in given] != list(range(count)):
        raise SeveralError
    return None


def visible(gpus: Sequence[_nvml.GPU]) -> tuple[Given, ...]:
    """The GPUs of this process, in the order in which CUDA counts them.

    Arguments:
        gpus: what NVML lists; empty where it does not answer.

    Raises:
        NoneGivenError: it has none.
    """
    return _match.given(gpus, len(gpus) or _kernel.count_gpus())


def _selected(
    listed: Sequence[tuple[Device, Details]], device: str | None, gpus: Sequence[_nvml.GPU]
) -> tuple[tuple[Device, Given], ...]:
    found = _match.matched(listed, gpus, len(gpus) or max(len(listed), _kernel.count_gpus()))
    best = _meant(device, tuple(gpu for gpu, _ in found))
    chosen = tuple((egl, gpu) for gpu, egl in found if egl is not None and gpu in best)
    if not chosen:
        seen = "; ".join(f"EGL device {egl.number} has {details}" for egl, details in listed)
        error = UnmatchedError(f"it cannot be told which EGL device is {best[0]}: {seen}")
        if (best[0].uuid or "").startswith("MIG-"):
            error.cause = "mig"
            error.remedy = "ask for a whole GPU; a MIG slice of a compute card has no graphics"
        elif not any(details.uuid for _, details in listed):
            error.remedy = "take it as EGL counts, if you know which is yours: device_index=0"
        raise error
    return chosen


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
    raise ValueError(f"{named(device)}: {why}{_there_are(gpus)}")


def _by_variable(device: str) -> bool:
    text = os.environ.get(DEVICE_VARIABLE, "").strip()
    return bool(text) and spelled(text, DEVICE_VARIABLE) == device


def _there_are(gpus: Sequence[Given]) -> str:
    value = os.environ.get(_cuda.VISIBLE_VARIABLE)
    why = "" if value is None else f', for CUDA_VISIBLE_DEVICES is "{value}"'
    return "\n".join([f"; it has {len(gpus)}{why}:", *(f"  {gpu}" for gpu in gpus)])


def _listing(until: float) -> str:
    """The GPUs of this machine, as far as NVML tells them."""
    gpus = _nvml.ask(_driver.find().nvml, until).gpus
    facts = ((gpu.name, gpu.uuid, gpu.pci and f"pci:{gpu.pci}") for gpu in gpus)
    lines = (f"  {'  '.join(filter(None, each))}" for each in facts)
    return "\n".join([f"; of GPUs there are {len(gpus)}:", *lines]) if gpus else ""
