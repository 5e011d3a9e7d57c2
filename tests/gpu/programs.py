"""What the tests do in processes of their own: ``programs.py ACTION [JSON]``.

The argument is a list of what the action is called with; what it gives is printed as JSON, on the
last line.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import multiprocessing
import os
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import moderngl_colab
from moderngl_colab import _driver, _egl, _glvnd
from moderngl_colab.strategies.egl import listed, open_libegl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # It is a program.

from gpu.drawing import Answer, about, ours, pixel, raw
from gpu.growth import cycles, memory

_NOBODY = frozenset(
    {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOENT}
    | {errno.EAFNOSUPPORT}
)
_FORK_TIMEOUT = 60  # seconds
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_SOFTWARE = "EGL_MESA_device_software"


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
    """The number of the display that this process has started."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has ended, or is somebody else's.
            status = (process / "status").read_text()
            if status.startswith("Name:\tXvfb\n") and f"\nPPid:\t{os.getpid()}\n" in status:
                words = (process / "cmdline").read_text().split("\0")
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
