"""What the tests do in processes of their own: ``programs.py ACTION [JSON]``.

The argument is a list of what the action is called with; what it gives is printed as JSON, on the
last line.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
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
from uuid import UUID

import moderngl

import moderngl_colab
from moderngl_colab import _driver, _egl, _glvnd, _nvml
from moderngl_colab.strategies.egl import listed, open_libegl

MIB = 1 << 20
WARM_UP = 10
"""How many cycles come before the first look."""
LIVE = 8
"""How many contexts there are at once, to see what one takes."""
_NOBODY = frozenset(
    {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOENT}
    | {errno.EAFNOSUPPORT}
)
_FORK_TIMEOUT = 60  # seconds
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_SOFTWARE = "EGL_MESA_device_software"

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


def raw(device: int = 0) -> moderngl.Context:
    """A context of moderngl's own, on an EGL device.

    Its libraries are named: where they come by LD_LIBRARY_PATH, it does not find their names.
    """
    # The stubs take every setting for a dictionary.
    settings: Any = {"libgl": "libGL.so.1", "libegl": "libEGL.so.1", "device_index": device}
    return moderngl.create_context(standalone=True, **settings | {"backend": "egl"})


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
    told["gpu"] = info.gpu and info.gpu.name
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


def unopened(*names: str) -> dict[str, str]:
    """Which of these libraries cannot be opened, with the loader's words."""
    found = {}
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            found[name] = str(error)
    return found


def cuda() -> list[str] | None:
    """The UUIDs of CUDA's devices in the order of their ordinals; None without libcuda."""
    beside = Path(next(iter(_driver.find().libraries.values()), "")).parent / "libcuda.so.1"
    names = ("libcuda.so.1", str(beside))
    closed = unopened(*names)
    if (name := next((name for name in names if name not in closed), None)) is None:
        return None
    driver = ctypes.CDLL(name)
    if (code := driver.cuInit(0)) == _NO_DEVICE:
        return []
    count, device, uuid = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    codes = [code, driver.cuDeviceGetCount(ctypes.byref(count))]
    found = []
    for ordinal in range(count.value):
        codes.append(driver.cuDeviceGet(ctypes.byref(device), ordinal))
        codes.append(driver.cuDeviceGetUuid(ctypes.byref(uuid), device))
        found.append(f"GPU-{UUID(bytes=bytes(uuid))}")
    if any(codes):
        raise RuntimeError(f"CUDA: its calls gave {codes}")
    return found


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
    known: tuple[_egl.Device, ...] = ()
    with contextlib.suppress(_egl.EGLError):  # Without a vendor it may refuse.
        known = _egl.LibEGL().devices()
    # Mesa may have a GPU, too, and it may be NVIDIA's.
    software = next((d.number for d in known if _SOFTWARE in d.extensions), 0)
    before = None if icd is None else raw(software)
    vendor = None if before is None else before.info["GL_VENDOR"]
    devices = sum(device.is_nvidia for device in known)
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
            return "nobody listens" if error.errno in _NOBODY else f"unknown: {error}"
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


def forked_early() -> Answer:
    """What a child draws that was forked before this process used the driver, and then this one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(_FORK_TIMEOUT)
        try:
            said = json.dumps(context("egl"))
        except Exception as error:  # noqa: BLE001 - the parent judges it
            said = json.dumps({"pixel": f"{type(error).__name__}: {error}", "vendor": ""})
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        child = told.read()
    os.waitpid(pid, 0)
    return {"child": json.loads(child or "null"), "parent": context("egl")}


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


def bench(sizes: list[tuple[int, int]], seconds: float, strategies: list[str] | None) -> Any:
    """The benchmark's data: sizes in pixels, seconds for each scene."""
    from moderngl_colab import bench as benchmark

    pairs = [(width, height) for width, height in sizes]
    return benchmark.bench(sizes=pairs, seconds=seconds, strategies=strategies).to_dict()


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action
    for action in (
        alone, bench, context, cuda, cycles, devices, forked, forked_early, glx, healed, memory,
        other, refused, unopened,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*json.loads((sys.argv[2:] or ["[]"])[0]))))
