"""What contexts take and leave, of a process and of its GPU's memory."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from pathlib import Path

import moderngl_colab
from gpu.drawing import Answer, ours, pixel
from moderngl_colab import _driver, _nvml

__all__ = ["LIVE", "cycles", "memory"]

WARM_UP = 10
"""How many cycles come before the first look."""
LIVE = 8
"""How many contexts there are at once, to see what one takes."""


def cycles(strategy: str, times: int) -> Answer:
    """What a process and its GPU have more of after so many contexts that were released.

    And how much more there is while :data:`LIVE` contexts are kept.
    """

    def cycle() -> str:
        made = ours(strategy)
        seen = pixel(made)
        made.release()
        return seen

    first = ours(strategy)
    gpu, library = moderngl_colab.describe(first).gpu, _driver.find().nvml
    first.release()
    # Where it is not known which of several GPUs it is, all of them count.
    listed_gpus = [other.uuid for other in _nvml.ask(library).gpus]
    uuids = [gpu.uuid] if gpu and gpu.uuid else [uuid for uuid in listed_gpus if uuid]
    for _ in range(WARM_UP):
        cycle()
    alone = _counted(uuids, library)
    live, seen = [], set()
    for _ in range(LIVE):
        live.append(ours(strategy))
        seen.add(pixel(live[-1]))
    kept = _grown(alone, _counted(uuids, library))
    while live:
        live.pop().release()
    cycle()
    before, started = _counted(uuids, library), time.monotonic()
    seen |= {cycle() for _ in range(times)}
    seconds = time.monotonic() - started
    grown = _grown(before, _counted(uuids, library))
    return {"grown": grown, "kept": kept, "drawn": sorted(seen), "seconds": seconds}


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before if name in after}


def _counted(uuids: list[str], library: str | None) -> dict[str, int]:
    """What there is: of the GPUs' memory what NVML tells, for this process and for all."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    used = [told for uuid in uuids if (told := _nvml.used(uuid, library)) is not None]
    own = [told[2] for told in used if told[2] is not None]
    found = {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
    }
    if used:
        found["GPU memory"] = sum(told[1] for told in used)
    if own and len(own) == len(used):
        found["GPU memory of this process"] = sum(own)
    return found


def memory(textures: int) -> Answer:
    """GPU memory by NVML before, during and after textures of 64 MiB that are drawn into."""
    made = ours("egl")
    info = moderngl_colab.describe(made)
    before = info.gpu_memory()
    framebuffers = [
        made.framebuffer(color_attachments=[made.texture((4096, 4096), 4)]) for _ in range(textures)
    ]
    for framebuffer in framebuffers:
        framebuffer.clear(1.0, 0.0, 0.4, 1.0)
    drawn = {framebuffer.read(viewport=(4095, 4095, 1, 1)).hex() for framebuffer in framebuffers}
    during = info.gpu_memory()
    for framebuffer in framebuffers:
        framebuffer.color_attachments[0].release()
        framebuffer.release()
    made.finish()
    after = info.gpu_memory()
    gpu = info.gpu
    return {
        "gpu": None if gpu is None else gpu._asdict(),
        "drawn": sorted(drawn),
        **{
            when: None if told is None else told._asdict()
            for when, told in (("before", before), ("during", during), ("after", after))
        },
    }
