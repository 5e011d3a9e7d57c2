"""CUDA's list of a process's GPUs and EGL's list of devices, brought together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from moderngl_colab import _cuda, _nvml
from moderngl_colab._cuda import Given, NoneGivenError
from moderngl_colab._egl_devices import Details, Device

__all__ = ["given", "matched"]


Pair = tuple[Device, Details]


def given(
    gpus: Sequence[_nvml.GPU], count: int, environ: Mapping[str, str] = os.environ
) -> tuple[Given, ...]:
    """The GPUs of this process, in the order in which CUDA counts them.

    Arguments:
        gpus: what NVML lists, in its order, which is that of PCI addresses.
        count: how many GPUs the machine has.
        environ: where CUDA's variables are read.

    Raises:
        NoneGivenError: it has none.
    """
    known = [Given(None, gpu.uuid, gpu.pci, gpu.name) for gpu in gpus]
    return _given(known, count, _in_order(gpus, count, environ), environ)


def matched(
    listed: Sequence[Pair], gpus: Sequence[_nvml.GPU], count: int
) -> list[tuple[Given, Device | None]]:
    """The GPUs of this process, each with its EGL device; None where nothing tells which it is.

    What names a GPU for certain comes first: a UUID, or CUDA's order where that is PCI's. Then
    the driver's own word, the ordinal; then the order that CUDA gives to GPUs which are alike.

    Arguments:
        listed: EGL's devices of NVIDIA's, with what they say of themselves.
        gpus: as for :func:`given`.
        count: how many GPUs the machine has.

    Raises:
        NoneGivenError: this process has none.
    """
    known = [Given(None, gpu.uuid, gpu.pci, gpu.name) for gpu in gpus]
    known = known or [Given(None, details.uuid, details.pci) for _, details in listed]
    certain = count == 1 or (bool(gpus) and _cuda.by_pci(os.environ))
    ours = _given(known, count, certain and len(known) == count)
    likely = _given(known, count, _in_order(gpus, count))
    by_ordinal = _by_ordinal(listed, likely, known if _in_order(gpus, count) else [])
    silent = all(details.cuda is None for _, details in listed)
    found: list[tuple[Given, Device | None]] = []
    for gpu, guess in zip(ours, likely, strict=True):
        pair = _by_identity(gpu, listed) or by_ordinal.get(gpu.ordinal or 0)
        if pair is not None and _is_another(gpu, pair[1]):
            pair = None
        if pair is None and silent:
            pair = _by_identity(guess, listed)
        if pair is None and count == len(listed) == 1:
            pair = listed[0]
        # Without a device, too, a GPU is named by what is likely.
        found.append((_completed(gpu if pair else guess, pair, known), pair and pair[0]))
    return found


def _in_order(
    gpus: Sequence[_nvml.GPU], count: int, environ: Mapping[str, str] = os.environ
) -> bool:
    """Whether NVML's order is CUDA's.

    The fastest is CUDA's first, by a measure of its own; of equal ones PCI's order remains.
    """
    # Models of one name are told apart by their memory, in GiB.
    alike = len({(gpu.name, (gpu.memory_total or 0) >> 30) for gpu in gpus}) == 1
    return len(gpus) == count and (alike or _cuda.by_pci(environ))


def _given(
    known: Sequence[Given],
    count: int,
    in_order: bool,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Given, ...]:
    entries = _cuda.visible(environ)
    found: list[Given] = []
    for entry in range(count) if entries is None else entries:
        gpu = Given(len(found))
        if isinstance(entry, int):
            if entry >= count:
                break
            facts = known[entry] if in_order else gpu
            gpu = facts._replace(ordinal=len(found), number=entry)
        elif entry.startswith("MIG-"):
            gpu = gpu._replace(uuid=entry)
        elif any(facts.uuid for facts in known):
            same = [n for n, facts in enumerate(known) if (facts.uuid or "").startswith(entry)]
            if len(same) != 1:
                break
            number = same[0] if in_order else None
            gpu = known[same[0]]._replace(ordinal=len(found), number=number)
        # Else whether it is there, EGL's ordinals may tell.
        if gpu.uuid is not None and gpu.uuid in [other.uuid for other in found]:
            raise NoneGivenError  # So CUDA has it: who names a GPU twice gets none.
        found.append(gpu)
    if not found:
        raise NoneGivenError
    return tuple(found)


def _by_identity(gpu: Given, listed: Sequence[Pair]) -> Pair | None:
    for name in ("uuid", "pci"):
        wanted = getattr(gpu, name)
        for pair in listed if wanted is not None else ():
            if getattr(pair[1], name) == wanted:
                return pair
    return None


def _is_another(gpu: Given, details: Details) -> bool:
    whole = gpu.uuid is not None and not gpu.uuid.startswith("MIG-")
    return whole and details.uuid not in (None, gpu.uuid)


def _by_ordinal(
    listed: Sequence[Pair], ours: Sequence[Given], known: Sequence[Given]
) -> Mapping[int, Pair]:
    """EGL's devices by the ordinals of this process; none where the driver's are not clear.

    Most drivers heed ``CUDA_VISIBLE_DEVICES``: hidden GPUs have no ordinal, and the others those of
    the process. Some do not: every GPU has CUDA's number on the whole machine.

    Arguments:
        listed: EGL's devices.
        ours: the GPUs of this process.
        known: the GPUs of the machine in CUDA's order, where that is known or likely.
    """
    told = {pair[1].cuda: pair for pair in listed if pair[1].cuda is not None}
    heeded = {gpu.ordinal: told[gpu.ordinal] for gpu in ours if gpu.ordinal in told}
    whole = {gpu.ordinal: told[gpu.number] for gpu in ours if gpu.number in told}
    may_heed = all(ordinal < len(ours) for ordinal in told)
    may_not = len(told) == len(listed) and all(gpu.number in (None, *told) for gpu in ours)
    if may_heed and may_not and heeded != whole:
        places = {facts: n for n, gpu in enumerate(known) for facts in gpu[1:3] if facts}
        seen = {
            ordinal: places.get(details.uuid or "", places.get(details.pci or ""))
            for ordinal, (_, details) in told.items()
        }
        known_all = None not in seen.values()
        may_not = known_all and all(ordinal == place for ordinal, place in seen.items())
        may_heed = known_all and all(ours[o].number == place for o, place in seen.items())
    if may_heed == may_not and heeded != whole:
        return {}
    return {o: pair for o, pair in (heeded if may_heed else whole).items() if o is not None}


def _completed(gpu: Given, pair: Pair | None, known: Sequence[Given]) -> Given:
    """With what is told by the EGL device, and by NVML of a GPU of that UUID or address."""
    if pair is not None:
        gpu = gpu._replace(uuid=pair[1].uuid or gpu.uuid, pci=pair[1].pci or gpu.pci)
    for facts in known:
        if any(fact is not None and fact in gpu[1:3] for fact in facts[1:3]):
            return gpu._replace(
                uuid=gpu.uuid or facts.uuid, pci=gpu.pci or facts.pci, name=facts.name
            )
    return gpu
