"""Renders a turntable on all GPUs of a Ray cluster: a film, and a contact sheet beside it.

On one machine it runs as it is. For several, run `ray start --head` on one of them and
`ray start --address=HOST:6379` on the others, each with the same Python and packages; then run
this program on any of them.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import secrets
import shutil
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, NamedTuple

CURE = 'pip install "moderngl_colab[farm]"'
try:
    from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f"render_farm.py: error: {error}; {CURE}")

AHEAD = 2  # frames given to a worker at a time: the next one is there when one is done
PATIENCE = 120  # seconds that a worker may take to begin while no other renders
FILMS = {  # as ffmpeg is told; each frame of a GIF has colours of its own
    ".mp4": "-pix_fmt yuv420p",
    ".gif": "-lavfi split[a],palettegen=stats_mode=single[p];[a][p]paletteuse=new=1:dither=none",
}
VERTEX_SHADER = """
#version 330
void main() {  // one triangle that covers everything
    gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
"""
FRAGMENT_SHADER = """
#version 330
uniform vec2 size;
uniform float angle;
out vec4 fragment;
mat2 turn(float by) { return mat2(cos(by), -sin(by), sin(by), cos(by)); }
float field(vec3 p) { FIELD }
vec3 turned(vec3 v) {
    v.yz *= turn(-0.5);  // seen from above
    v.xz *= turn(angle);
    return v;
}
void main() {
    vec2 at = (2.0 * gl_FragCoord.xy - size) / size.y;
    at.y = -at.y;  // OpenGL's rows begin at the bottom
    vec3 ray = turned(normalize(vec3(at, -2.2))), p = turned(vec3(0.0, 0.0, 3.5));
    float left = 1.0;
    for (int step = 0; step < 128 && left > 0.001 && left < 5.0; step++)
        p += ray * (left = field(p));
    vec2 e = vec2(0.001, 0.0);
    vec3 slope = vec3(field(p + e.xyy), field(p + e.yxy), field(p + e.yyx)) - field(p);
    vec3 normal = normalize(slope + 1e-9);
    float light = 0.2 + 0.8 * max(dot(normal, turned(vec3(0.4, 0.6, 0.7))), 0.0);
    fragment = vec4(left < 0.001 ? light * (0.6 + 0.4 * normal) : vec3(0.1), 1.0);
}
"""
# How far a point is from what is seen.
SCENES = {
    "knot": """
        vec2 two = vec2(length(p.xy) - 0.8, p.z) * turn(1.5 * atan(p.y, p.x));
        return 0.6 * (length(vec2(abs(two.x) - 0.3, two.y)) - 0.15);""",
    "ring": """
        float ring = length(vec2(length(p.xy) - 0.8, p.z)) - 0.22;
        float ball = length(p - vec3(0.55, 0.35, 0.4)) - 0.42;
        float blend = max(0.3 - abs(ring - ball), 0.0);
        return min(ring, ball) - 0.83 * blend * blend;""",
}


class Job(NamedTuple):
    """A scene, its size in pixels, and how many frames make a turn."""

    scene: str
    size: tuple[int, int]
    frames: int


class Worker(NamedTuple):
    """Who renders, and on which GPU; the warning says why it is none."""

    host: str
    pid: int
    gpu: str
    warning: str


class Frame(NamedTuple):
    """A picture in RGB, its upper row first, and who rendered it."""

    number: int
    pixels: bytes
    worker: Worker


class Renderer:
    """The actor: it has one context for as long as it lives."""

    def __init__(self, job: Job) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ctx = moderngl_colab.get_gpu_context()
        info = moderngl_colab.describe(ctx)
        gpu = f"{info.gpu.name} {info.gpu.uuid}" if info.gpu else info.renderer
        warning = "\n".join(str(one.message) for one in caught)
        self._worker = Worker(platform.node(), os.getpid(), gpu, warning)
        self._frames = job.frames
        shader = FRAGMENT_SHADER.replace("FIELD", SCENES[job.scene])
        self._program = ctx.program(vertex_shader=VERTEX_SHADER, fragment_shader=shader)
        self._program["size"] = job.size
        self._screen = ctx.vertex_array(self._program, [])
        self._framebuffer = ctx.simple_framebuffer(job.size)
        self._framebuffer.use()

    def render(self, number: int) -> Frame:
        """Render one frame of the turn."""
        self._program["angle"] = math.tau * number / self._frames
        self._screen.render(vertices=3)
        return Frame(number, self._framebuffer.read(), self._worker)


def farm(job: Job, workers: int | None = None) -> Iterator[Frame]:
    """Give every frame once, as it is done; the frames of a worker that died go to others.

    `workers` is how many there are at most; default: one for each GPU of the cluster, or for each
    CPU if it has none. Raises RayError where no worker can begin, or all die.
    """
    import ray
    from ray.exceptions import ObjectLostError, RayActorError, RayError

    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]  # type: ignore[no-untyped-call]
    gpus, cpus = (sum(int(node.get(what, 0)) for node in nodes) for what in ("GPU", "CPU"))
    if not (most := gpus or cpus):
        raise RayError("no machine of the cluster has a GPU or a CPU for Ray's workers")
    workers = min(workers or most, most)
    needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0}
    if not gpus:  # Frames are independent: one thread of Mesa's is enough for each.
        threads = {"LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", "1")}
        needs = {"num_cpus": 1, "runtime_env": {"env_vars": threads}}
    actor: Any = ray.remote(Renderer).options(**needs)
    tasks: dict[Any, tuple[Any, int | None]] = {}  # by what they give: whose, and which frame
    todo = deque(range(job.frames))
    free: deque[Any] = deque()  # workers, each as often as it can take a frame
    left, deaths = job.frames, 0

    def give(worker: Any, number: int | None) -> None:
        task = worker.__ray_ready__.remote() if number is None else worker.render.remote(number)
        tasks[task] = worker, number

    for _ in range(workers):
        give(actor.remote(job), None)
    while left:
        while todo and free:
            give(free.popleft(), todo.popleft())
        rendering = any(number is not None for _, number in tasks.values())
        # For one; of all that are ready, the oldest is next: wait() would pass over some for long.
        ray.wait(list(tasks), timeout=None if rendering else PATIENCE)
        ready = set(ray.wait(list(tasks), num_returns=len(tasks), timeout=0)[0])
        if not ready:
            raise RayError(f"no worker began within {PATIENCE} s; `ray status` says what is busy")
        task = next(task for task in tasks if task in ready)
        worker, number = tasks.pop(task)
        try:
            frame = ray.get(task)
        except (RayActorError, ObjectLostError) as error:
            deaths += 1
            if deaths > 2 * workers or getattr(error, "actor_init_failed", False):
                # Ray tells the whole story; the last words that are not indented are the cause.
                said = re.findall(r"^\S.*(?:\n\s.*)*", str(error), re.MULTILINE)[-1]
                raise RayError(f"workers die: {said}") from None
            others = [task for task, (whose, _) in tasks.items() if whose is worker]
            lost = [number, *(tasks.pop(task)[1] for task in others)]
            todo.extendleft(each for each in reversed(lost) if each is not None)
            free = deque(other for other in free if other is not worker)
            ray.kill(worker)  # it may be alive and out of reach
            give(actor.remote(job), None)
            continue
        free.extend([worker] * (AHEAD if number is None else 1))
        if number is not None:
            left, deaths = left - 1, 0
            yield frame


def in_order(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Give frames by their numbers, each as soon as those before it are there."""
    early: dict[int, Frame] = {}
    following = 0
    for frame in frames:
        early[frame.number] = frame
        while following in early:
            yield early.pop(following)
            following += 1


def save(frames: Iterable[Frame], job: Job, output: Path) -> Counter[Worker]:
    """Write the film and the contact sheet; return how many frames each worker rendered."""
    rendered: Counter[Worker] = Counter()
    cells = min(24, job.frames)
    width, height = (max(1, 160 * side // max(job.size)) for side in job.size)
    sheet = Image.new("RGB", (6 * width, math.ceil(cells / 6) * height))
    # Only a whole film replaces an older one.
    part = output.absolute().with_name(f".render_farm-{secrets.token_hex(8)}{output.suffix}")
    how = "-v error -y -f rawvideo -pix_fmt rgb24 -r 25 -s {}x{} -i - ".format(*job.size)
    command = [get_ffmpeg_exe(), *(how + FILMS[output.suffix.lower()]).split(), part]
    film: Any = Popen(command, stdin=PIPE, stderr=PIPE, process_group=0)  # Ctrl-C is not for it
    try:
        for frame in frames:
            rendered[frame.worker] += 1
            try:
                film.stdin.write(frame.pixels)
            except BrokenPipeError:
                break  # it says why
            cell, beyond = divmod(frame.number * cells, job.frames)
            if beyond < cells:
                picture = Image.frombytes("RGB", job.size, frame.pixels).resize((width, height))
                sheet.paste(picture, (cell % 6 * width, cell // 6 * height))
        _, said = film.communicate()
        if film.returncode:
            first = said.decode().partition("\n")[0].rpartition("] ")[2] or "it said nothing"
            raise OSError(f"{output}: ffmpeg ended with {film.returncode}: {first}")
        sheet.save(output.with_suffix(".png"))
        part.replace(output)
    finally:
        film.kill()
        film.communicate()
        part.unlink(missing_ok=True)
    return rendered


def asked(parser: argparse.ArgumentParser) -> tuple[Job, Path, argparse.Namespace]:
    """What the command line asks for; what is impossible ends the program in a line."""
    add = parser.add_argument
    add("--scene", choices=SCENES, default="knot")
    add("--size", default="512x512", metavar="WxH", help="pixels; default: %(default)s")
    add("--count", default="240", metavar="N", help="frames of one turn; default: %(default)s")
    add("--output", default="render_farm.mp4", metavar="FILE", help="an .mp4 or a .gif")
    add("--workers", metavar="N", help="at most; default: one for each GPU, or else each CPU")
    add("--address", help="of a Ray cluster; default: the one that runs here, or else a new one")
    given = parser.parse_args()
    size, number = r"[1-9]\d{0,4}x[1-9]\d{0,4}", r"[1-9]\d{0,6}"
    for option, pattern, what in (
        ("size", size, "WIDTHxHEIGHT in pixels, such as 640x480"),
        ("count", number, "a number from 1 on"),
        ("output", r".*[^/]\.(?i:mp4|gif)", "the name of an .mp4 or a .gif"),
        ("workers", number, "a number from 1 on"),
    ):
        text = getattr(given, option)
        if text is not None and not re.fullmatch(pattern, text):
            parser.error(f"argument --{option}: {text!r} is not {what}")
    width, height = map(int, given.size.split("x"))
    job, output = Job(given.scene, (width, height), int(given.count)), Path(given.output)
    if max(width, height) > 16384:
        parser.error(f"argument --size: OpenGL has 16384 pixels a side at most, not {given.size}")
    if output.suffix.lower() == ".mp4" and (width | height) % 2:
        parser.error(f"argument --size: an MP4 has even numbers of pixels, not {given.size}")
    if not (output.parent.is_dir() and os.access(output.parent, os.W_OK)):
        parser.error(f"argument --output: {str(output.parent)!r} is no folder to write to")
    if folders := [str(file) for file in (output, output.with_suffix(".png")) if file.is_dir()]:
        parser.error(f"argument --output: {folders[0]!r} is a folder")

    try:
        if not shutil.which(ffmpeg := get_ffmpeg_exe()):
            raise RuntimeError(f"IMAGEIO_FFMPEG_EXE={ffmpeg!r} is no ffmpeg that can be run")
    except RuntimeError as error:
        parser.error(str(error))
    return job, output, given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    job, output, given = asked(parser)
    try:
        import ray
        from ray.exceptions import RayError
        from rich.console import Console
        from rich.progress import track
    except ImportError as error:
        sys.exit(f"{parser.prog}: error: {error}; {CURE}")

    try:
        quiet: Any = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        ray.init(given.address, **quiet)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set its own.
        started = time.perf_counter()
        frames = in_order(farm(job, given.workers and int(given.workers)))
        shown: Any = {"console": Console(stderr=True), "disable": not sys.stderr.isatty()}
        rendered = save(track(frames, "rendering", job.frames, **shown), job, output)
        seconds = time.perf_counter() - started
    except (RayError, OSError) as error:
        sys.exit(f"{parser.prog}: error: {error}")
    finally:
        ray.shutdown()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    for worker, share in sorted(rendered.items()):
        print(f"{share} frames on {worker.gpu} by {worker.host}, process {worker.pid}")
    print(f"{job.frames} frames in {seconds:.1f} s: {job.frames / seconds:.1f} frames/s")
    print(f"film   {output.absolute()}\nsheet  {output.with_suffix('.png').absolute()}")
    for warning in {worker.warning for worker in rendered} - {""}:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        main()
    except KeyboardInterrupt:
        sys.exit("render_farm.py: stopped")
