"""What the tests do in processes of their own: ``programs.py ACTION [JSON]``.

The argument is a list of what the action is called with; what it gives is printed as JSON, on the
last line.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import multiprocessing
import os
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moderngl

import moderngl_colab
from moderngl_colab import _driver, _egl, _glvnd, _nvml
from moderngl_colab.strategies.egl import listed, open_libegl

MIB = 1 << 20
WARM_UP = 10
"""How many cycles come before the first look."""
_FORK_TIMEOUT = 60  # seconds

Answer = dict[str, Any]


def pixel(context: moderngl.Context, colour: tuple[int, int, int] = (255, 127, 0)) -> str:
    """Draw a triangle over everything, and say whether a pixel of it is right."""
    program = context.program(
        vertex_shader="""#version 330
        void main() {
            gl_Position = vec4(vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID], 0, 1);
        }""",
        fragment_shader="""#version 330
        uniform vec3 colour;
        out vec4 result;
        void main() { result = vec4(colour / 255, 1); }""",
    )
    program["colour"] = colour
    framebuffer = context.simple_framebuffer((16, 16))
    framebuffer.use()
    framebuffer.clear()
    context.vertex_array(program, []).render(vertices=3)
    seen = tuple(framebuffer.read(components=3)[120:123])
    return "right" if seen == colour else f"wrong: {seen}, not {colour}"


def raw() -> moderngl.Context:
    """A context of moderngl's own."""
    settings: Any = {"backend": "egl"}  # the stubs take every setting for a dictionary
    return moderngl.create_context(standalone=True, **settings)


def mapped(name: str) -> str | None:
    """The file of a library that this process has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = (line.split(maxsplit=5)[-1] for line in lines if f"/{name}.so" in line)
    return next((os.path.realpath(path) for path in paths), None)


def about(context: moderngl.Context) -> Answer:
    """What a context of ours is, and whether it draws."""
    info = moderngl_colab.describe(context)
    facts = ("strategy", "vendor", "renderer", "version", "seconds", "cuda_device", "gpu_uuid")
    library = mapped("libGLX_nvidia" if info.strategy == "glx" else "libEGL_nvidia")
    told = {name: getattr(info, name) for name in facts}
    return told | {"pixel": pixel(context), "library": library}


def ours(strategy: str, probe: bool = False) -> moderngl.Context:
    """A context on the GPU, in one way."""
    return moderngl_colab.get_gpu_context(strategies=[strategy], allow_software=False, probe=probe)


# ---- the actions -------------------------------------------------------------------------------


def context(strategy: str, probe: bool = False) -> Answer:
    """A context of ours."""
    return about(ours(strategy, probe))


def refused() -> Answer:
    """Why no context can be had by EGL; nothing if one can."""
    try:
        ours("egl")
    except moderngl_colab.GPUContextError as error:
        return {"causes": [attempt.cause for attempt in error.attempts]}
    return {"causes": None}


def other() -> Answer:
    """A context of moderngl's own."""
    made = raw()
    return {"vendor": made.info["GL_VENDOR"], "pixel": pixel(made)}


def alone() -> Answer:
    """How many of NVIDIA's devices libglvnd lists by itself, and on what raw moderngl is."""
    listed_alone = sum(device.is_nvidia for device in _egl.LibEGL().devices())
    try:
        vendor = raw().info["GL_VENDOR"]
    except Exception as error:  # noqa: BLE001 - moderngl raises nothing narrower
        vendor = f"none: {error}"
    return {"devices": listed_alone, "raw": vendor}


def healed(icd: str | None) -> Answer:
    """A context of ours in a process whose libEGL was initialised without NVIDIA's vendor.

    Arguments:
        icd: the vendor it knows instead, and has drawn with; None for none at all.
    """
    os.environ[_glvnd.FILENAMES_VARIABLE] = icd or os.devnull
    before = None if icd is None else raw()
    vendor = None if before is None else before.info["GL_VENDOR"]
    devices = 0
    with contextlib.suppress(_egl.EGLError):  # Without a vendor it may refuse.
        devices = sum(device.is_nvidia for device in _egl.LibEGL().devices())
    del os.environ[_glvnd.FILENAMES_VARIABLE]
    made = ours("egl")
    answer = about(made) | {"before": vendor, "devices before": devices}
    if before is not None:
        made.mglo.__exit__()
        with before:
            answer |= {"before, afterwards": pixel(before, (0, 255, 127))}
        with made:
            answer |= {"pixel, afterwards": pixel(made, (127, 0, 255))}
    return answer


def glx() -> Answer:
    """A context of ours by GLX, and who is let in by its display."""
    answer = about(ours("glx"))
    number = _display()
    path = f"/tmp/.X11-unix/X{number}"
    return answer | {
        "file": _let_in(socket.AF_UNIX, path),
        "abstract": _let_in(socket.AF_UNIX, f"\0{path}"),
        "tcp": _let_in(socket.AF_INET, ("127.0.0.1", 6000 + number)),
    }


def _display() -> int:
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text() == "Xvfb\n":
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                return int(next(word for word in words if word[:1] == ":")[1:])
    raise RuntimeError("this process has no Xvfb")


def _let_in(family: int, address: Any) -> str:
    """What an X server answers to a client without a cookie."""
    with socket.socket(family) as connection:
        connection.settimeout(10)
        try:
            connection.connect(address)
        except OSError as error:
            return f"nobody listens: {error.strerror}"
        connection.sendall(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
        return "let in" if connection.recv(1) == b"\x01" else "refused"


def devices() -> list[Answer]:
    """NVIDIA's EGL devices, as they describe themselves."""
    userland = _driver.find()
    userland.open("EGL")
    egl = open_libegl()
    found = [d for d in listed(egl, userland.libraries["EGL"]) if d.is_nvidia]
    names = {"EGL_EXT_device_persistent_id": "can tell UUID", "EGL_NV_device_cuda": "has ordinal"}
    return [
        {"cuda": said.cuda, "uuid": said.uuid, "render node": said.render_node is not None}
        | {name: extension in device.extensions for extension, name in names.items()}
        for device in found
        for said in (egl.details(device),)
    ]


def forked() -> Answer:
    """What a forked child and a spawned one can do after this process has used the driver."""
    made = ours("egl")
    drawn = pixel(made)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of the driver's threads, and it is what is to be shown here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(_FORK_TIMEOUT)
        os.write(writing, _in_child().encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as said:
        answer = said.read()
    os.waitpid(pid, 0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(context, ("egl",))
    told = {name: spawned[name] for name in ("vendor", "pixel")}
    return {"forked": answer, "spawned": told, "pixel": drawn, "afterwards": pixel(made)}


def _in_child() -> str:
    try:
        moderngl_colab.get_gpu_context()
    except Exception as error:  # noqa: BLE001 - the parent judges it
        return type(error).__name__
    return "a context"


def cycles(strategy: str, times: int) -> Answer:
    """What a process and its GPU have more of after so many contexts that were released."""

    def cycle() -> str:
        made = ours(strategy)
        seen = pixel(made)
        made.release()
        return seen

    first = ours(strategy)
    gpu, library = moderngl_colab.describe(first).gpu, _driver.find().nvml
    first.release()
    uuid = (gpu and gpu.uuid) or ""
    for _ in range(WARM_UP):
        cycle()
    before, started = _counted(uuid, library), time.monotonic()
    seen = {cycle() for _ in range(times)}
    seconds = time.monotonic() - started
    after = _counted(uuid, library)
    grown = {name: after[name] - before[name] for name in before}
    return {"grown": grown, "drawn": sorted(seen), "seconds": seconds}


def _counted(uuid: str, library: str | None) -> dict[str, int]:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    used = _nvml.used(uuid, library)
    if used is None:
        raise RuntimeError("NVML does not say how much of the GPU's memory is used")
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "GPU memory": used[1] if used[2] is None else used[2],
    }


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


def bench(sizes: list[tuple[int, int]], seconds: float, strategies: list[str] | None) -> Any:
    """The benchmark's data: sizes in pixels, seconds for each scene."""
    from moderngl_colab import bench as benchmark

    pairs = [(width, height) for width, height in sizes]
    return benchmark.bench(sizes=pairs, seconds=seconds, strategies=strategies).to_dict()


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action
    for action in (
        alone, bench, context, cycles, devices, forked, glx, healed, memory, other, refused,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*json.loads((sys.argv[2:] or ["[]"])[0]))))
