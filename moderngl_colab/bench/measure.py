"""One strategy, measured in a process of its own: its context, and each scene at each size."""

from __future__ import annotations

import base64
import os
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Any

from moderngl_colab.diagnostics import trial
from moderngl_colab.options import DEVICE_VARIABLE

if TYPE_CHECKING:
    import moderngl

    from moderngl_colab.bench.scenes import Scene, Size
    from moderngl_colab.info import ContextInfo

__all__ = ["PICTURE", "SCENES", "ask_nvml", "measure"]

SCENES = ("fill", "vertices", "transfer")
"""The scenes, in the order in which they are measured."""
PICTURE = (1280, 720)
"""The size of the pictures that go with the figures, in pixels."""

_OWN_SHARE = 0.8
_WARM = 0.25
_SHORT = 0.02  # seconds
_PULSE = 0.25  # seconds
_CONTEXT = ("vendor", "renderer", "version", "software")
_LIMITS = ("GL_MAX_TEXTURE_SIZE", "GL_MAX_RENDERBUFFER_SIZE", "GL_MAX_VIEWPORT_DIMS")

Answers = Iterator[dict[str, Any]]


def measure(
    strategy: str, sizes: list[Size], seconds: float, timeout: float, extras: list[str]
) -> Answers:
    """Be the process that measures: say what comes next, and what came of it.

    Arguments:
        strategy: its name.
        sizes: width and height in pixels.
        seconds: how long each scene is measured at each size; one frame is, in any case.
        timeout: how long the context may take, in seconds.
        extras: what there shall be beside the figures: ``"memory"``, which NVML is asked for;
            ``"pictures"``, for which the scenes are drawn once more.
    """
    if strategy == "mesa":  # It is compared with the GPU that the user chose, and is none.
        os.environ.pop(DEVICE_VARIABLE, None)
    yield {"began": True}
    began = time.perf_counter()
    from moderngl_colab import describe

    ctx = trial.opened(strategy, _OWN_SHARE * timeout)
    if isinstance(ctx, dict):
        yield ctx
        return
    taken = time.perf_counter() - began
    info = describe(ctx)
    yield {name: getattr(info, name) for name in _CONTEXT} | {"first_context_seconds": taken}
    asked = info if "memory" in extras else None
    if asked is not None and (gpu := asked.gpu) is not None:
        yield {"gpu": gpu.name, "driver": gpu.driver, "memory_before": _memory(asked)}
    if (too_large := _too_large(ctx, sizes)) is not None:
        yield {"failed": ("failed", too_large, None, None)}
    else:
        ctx.gc_mode = "auto"
        for width, height in sizes:
            yield from _measured(ctx, asked, (width, height), seconds)
        if "pictures" in extras:
            yield from _pictures(ctx)
    ctx.release()
    if info.egl_device is None:
        trial.stop_server()


def ask_nvml() -> Answers:
    """Be the process that asks NVML first: it explains, and shall cost no measurement.

    All is asked that :func:`measure` asks, of each GPU.
    """
    from moderngl_colab import _driver, _nvml

    library = _driver.find().nvml
    for gpu in _nvml.ask(library).gpus:
        if gpu.uuid is not None:
            _nvml.used(gpu.uuid, library)
    yield {"answered": True}


def _measured(
    ctx: moderngl.Context, info: ContextInfo | None, size: Size, seconds: float
) -> Answers:
    """Measure each scene at a size."""
    from moderngl_colab.bench import scenes

    for name in SCENES:
        yield {"doing": (name, *size)}
        scene = scenes.SCENES[name](ctx, size)
        slowest = yield from _warm_up(ctx, scene, _WARM * seconds)
        scene.spent()
        began = time.perf_counter()
        frames = 1 + (yield from _frames(ctx, scene, began + seconds - slowest))
        scene.frame(scenes.CHECKED)
        ctx.finish()
        taken = time.perf_counter() - began
        figures = {"frames": frames, "seconds": taken, **scene.spent()}
        memory = _memory(info)
        yield {
            "memory_during": memory,
            "measured": {"scene": name, "width": size[0], "height": size[1], **figures}
            | {"wrong": _wrong(ctx, scene)},
        }


def _warm_up(
    ctx: moderngl.Context, scene: Scene, seconds: float
) -> Generator[dict[str, Any], None, float]:
    """Draw until shaders are compiled and clocks are up; how long the last frame took."""
    from moderngl_colab.bench.scenes import TURNS

    told = time.perf_counter()
    until = told + seconds
    for turn in cycle(TURNS):
        began = time.perf_counter()
        scene.frame(turn)
        ctx.finish()
        now = time.perf_counter()
        if now >= until:
            break
        if now - told >= _PULSE:
            yield {"alive": True}
            told = now
    return now - began


def _frames(
    ctx: moderngl.Context, scene: Scene, until: float
) -> Generator[dict[str, Any], None, int]:
    """Draw until then, and no more than is finished; how many frames that were.

    What a driver has to do between two of them it does not do once a batch is short: batches
    double until one takes long enough for the wait at its end to be nothing.
    """
    from moderngl_colab.bench.scenes import TURNS

    frames, batch, turns = 0, 1, cycle(TURNS)
    told = time.perf_counter()
    while (began := time.perf_counter()) < until:
        for _ in range(batch):
            scene.frame(next(turns))
        ctx.finish()
        frames += batch
        now = time.perf_counter()
        if now - began < _SHORT:
            batch *= 2
        if now - told >= _PULSE:
            yield {"alive": True}
            told = now
    return frames


def _wrong(ctx: moderngl.Context, scene: Scene) -> str | None:
    wrong = scene.wrong()
    return wrong if (error := ctx.error) == "GL_NO_ERROR" else f"OpenGL says {error}"


def _pictures(ctx: moderngl.Context) -> Answers:
    """Draw the scenes that are worth looking at, once more."""
    from moderngl_colab.bench import scenes

    for kind in (scenes.Fill, scenes.Vertices):
        scene = kind(ctx, PICTURE)
        scene.frame(scenes.CHECKED)
        if _wrong(ctx, scene) is None:
            content = zlib.compress(scene.pixels(), 1)
            yield {"picture": base64.b64encode(content).decode()}


def _memory(info: ContextInfo | None) -> tuple[int | None, int] | None:
    """How much of the GPU's memory is used by this process, and by everybody, in bytes."""
    memory = None if info is None else info.gpu_memory()
    return None if memory is None else (memory.used_by_process, memory.used)


def _too_large(ctx: moderngl.Context, sizes: Iterable[Size]) -> str | None:
    """Which size is larger than this context can draw; None where none is."""
    limits = [ctx.info.get(name, ()) for name in _LIMITS]
    most = min(min(limit) if isinstance(limit, tuple) else limit for limit in limits if limit)
    for width, height in sizes:
        if max(width, height) > most:
            return f"{width}x{height} is too large: it draws {most} pixels each way, and no more"
    return None
