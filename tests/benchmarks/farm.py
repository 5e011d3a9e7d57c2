"""What the render farm costs beside raw moderngl processes: frames per second, and a frame's way.

    python tests/benchmarks/farm.py [--runs N] [--frames N] [--size WxH]

farm   frames of examples/render_farm.py by 1 and by 2 Ray actors, as farm() gives them
raw    the same frames by 1 and by 2 spawned processes, each with
       ``moderngl.create_context(standalone=True, backend="egl")``, which send the bytes by a pipe
       and share the frames by a fixed split
engine an actor that renders nothing, and gives as many bytes: milliseconds a frame, one at a time
       and with as many ahead as the farm gives

Both sides take turns in one run of the program; what is printed are the medians. The clock starts
soon after every worker has given a frame, so that neither the start of Ray nor of a process is
in it: the benchmark startup.py tells what a context costs. LP_NUM_THREADS is 1 on both
sides, or what it is set to: on the CPU, a process renders with one thread of Mesa's. Two raw
processes take the GPU that EGL lists first; an actor takes its own. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import median
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
render_farm: Any = importlib.import_module("render_farm")

WORKERS = (1, 2)
WARM_UP = 10  # frames
Pictures = Iterator[tuple[int, bytes]]  # whose, and what it shows


def raw_process(job: Any, numbers: range, pipe: Connection) -> None:
    """Render some of the frames, and send their bytes."""
    import moderngl

    backend: Any = "egl"  # the stubs take it for a dictionary
    context = moderngl.create_context(standalone=True, backend=backend)
    shader = render_farm.FRAGMENT_SHADER.replace("FIELD", render_farm.SCENES[job.scene])
    program = context.program(vertex_shader=render_farm.VERTEX_SHADER, fragment_shader=shader)
    program["size"] = job.size
    screen = context.vertex_array(program, [])
    framebuffer = context.simple_framebuffer(job.size)
    framebuffer.use()
    pipe.send_bytes(context.info["GL_RENDERER"].encode())
    pipe.recv_bytes()  # begin
    for number in numbers:
        program["angle"] = 6.283185307179586 * number / job.frames
        screen.render(vertices=3)
        pipe.send_bytes(framebuffer.read())
    pipe.close()


def raw(job: Any, workers: int) -> Pictures:
    """Give the pictures of raw processes, all of which have their context by then."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for first in range(workers):
        ours, theirs = spawn.Pipe()
        numbers = range(first, job.frames, workers)
        processes.append(spawn.Process(target=raw_process, args=(job, numbers, theirs)))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    renderers.update(("raw", pipe.recv_bytes().decode()) for pipe in pipes)
    for pipe in pipes:
        pipe.send_bytes(b"begin")
    while pipes:
        for pipe in [pipe for pipe in pipes if pipe in wait(pipes)]:
            try:
                yield id(pipe), pipe.recv_bytes()
            except EOFError:
                pipes.remove(pipe)
    for process in processes:
        process.join()


def farmed(job: Any, workers: int) -> Pictures:
    """Give the pictures of the farm, slowly until all workers have begun."""
    begun = set()
    for frame in render_farm.farm(job, workers):
        renderers.add(("farm", frame.worker.gpu))
        begun.add(frame.worker)
        if len(begun) < workers:
            time.sleep(0.5)  # no frame is given out meanwhile
        yield frame.worker.pid, frame.pixels


renderers: set[tuple[str, str]] = set()


def per_second(pictures: Pictures, workers: int) -> float:
    """Frames in a second, counted from soon after each worker has given one.

    The warm-up takes what the farm had rendered ahead; raw processes are never kept waiting, so
    their pipes hold no frames from before.
    """
    seen: set[int] = set()
    before, counted, started = WARM_UP, 0, 0.0
    for who, _ in pictures:
        seen.add(who)
        if len(seen) < workers:
            continue
        if before:
            before -= 1
            started = time.perf_counter()
        else:
            counted += 1
    return counted / (time.perf_counter() - started)


class Empty:
    """An actor that renders nothing."""

    def __init__(self, size: int) -> None:
        self._size = size

    def render(self) -> bytes:
        """Give bytes that nobody had before, as a framebuffer does."""
        return bytes(self._size)


def engine(size: int, ahead: int, frames: int) -> float:
    """Milliseconds a frame through Ray, with `ahead` of them on the way."""
    import ray

    actor: Any = ray.remote(Empty).options(num_cpus=1).remote(size)
    for _ in range(WARM_UP):
        ray.get(actor.render.remote())
    started = time.perf_counter()
    tasks = [actor.render.remote() for _ in range(ahead)]
    for number in range(frames):
        ray.get(tasks.pop(0))
        if number + ahead < frames:
            tasks.append(actor.render.remote())
    return 1000 * (time.perf_counter() - started) / frames


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", default="3", help="of each side; default %(default)s")
    parser.add_argument("--frames", default="120", help="of each run; default %(default)s")
    parser.add_argument("--size", default="256x256", help="pixels; default %(default)s")
    given = parser.parse_args()
    for option, pattern, what in (
        ("runs", r"[1-9]\d{0,3}", "a number from 1 on"),
        ("frames", r"[6-9]\d|[1-9]\d{2,5}", "a number from 60 on"),
        ("size", r"[1-9]\d{0,3}x[1-9]\d{0,3}", "WIDTHxHEIGHT in pixels, such as 640x480"),
    ):
        if not re.fullmatch(pattern, text := getattr(given, option)):
            parser.error(f"argument --{option}: {text!r} is not {what}")
    width, height = map(int, given.size.split("x"))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    # Actors find the example as a module; a folder of our own holds what Ray writes.
    os.environ["PYTHONPATH"] = f"{EXAMPLES}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    with tempfile.TemporaryDirectory(prefix="farm-", dir="/tmp") as folder:
        os.environ["RAY_TMPDIR"] = folder
        # Or Ray keeps one in the home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        _measure((width, height), int(given.frames), int(given.runs))


def _measure(size: tuple[int, int], frames: int, runs: int) -> None:
    import ray

    warnings.simplefilter("ignore", RuntimeWarning)
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    sides: dict[str, Callable[[Any, int], Pictures]] = {"farm": farmed, "raw": raw}
    rates: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    costs: defaultdict[int, list[float]] = defaultdict(list)
    try:
        for _ in range(runs):
            for scene in render_farm.SCENES:
                for workers in WORKERS:
                    for side, pictures in sides.items():
                        job = render_farm.Job(scene, size, frames)
                        rate = per_second(pictures(job, workers), workers)
                        rates[scene, side, workers].append(rate)
            for ahead in (1, render_farm.AHEAD):
                costs[ahead].append(engine(3 * size[0] * size[1], ahead, frames))
    finally:
        ray.shutdown()
    threads = os.environ["LP_NUM_THREADS"]
    print(f"{size[0]}x{size[1]} pixels, {frames} frames, LP_NUM_THREADS={threads}")
    print(f"{'frames per second':<20}{'workers':>8}{'farm':>10}{'raw':>10}{'ratio':>10}")
    for scene in render_farm.SCENES:
        for workers in WORKERS:
            farm, alone = (median(rates[scene, side, workers]) for side in ("farm", "raw"))
            print(f"{scene:<20}{workers:>8}{farm:>10.1f}{alone:>10.1f}{farm / alone:>10.2f}")
    for ahead, cost in costs.items():
        print(f"engine, {ahead} at a time: {median(cost):.2f} ms a frame")
    for side, renderer in sorted(renderers):
        print(f"{side} on {renderer}")


if __name__ == "__main__":
    main()
