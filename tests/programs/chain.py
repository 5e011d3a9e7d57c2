"""Call get_gpu_context() once, in a given state of the process, and report all of it as JSON.

The argument is JSON: ``state`` is ``clean``, ``raw`` (a raw moderngl context on Mesa was made
before) or ``raw-current`` (and is current); ``call`` are keyword arguments; ``again`` makes
that many more contexts, each released.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import moderngl


def pixel(ctx: moderngl.Context, colour: tuple[float, float, float]) -> str:
    """Draw a full-screen triangle of a colour and read a pixel of it, in hexadecimal."""
    program = ctx.program(
        vertex_shader="""
            #version 330
            void main() {
                vec2 corner = vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID];
                gl_Position = vec4(corner, 0, 1);
            }
        """,
        fragment_shader="""
            #version 330
            uniform vec3 colour;
            out vec4 result;
            void main() { result = vec4(colour, 1); }
        """,
    )
    program["colour"].value = colour  # type: ignore[union-attr]
    framebuffer = ctx.simple_framebuffer((8, 8))
    framebuffer.use()
    framebuffer.clear()
    ctx.vertex_array(program, []).render(vertices=3)
    return framebuffer.read(components=3)[12:15].hex()


def current_vendor() -> str:
    """GL_VENDOR of whatever context is current, asked behind everybody's back."""
    for name in ("libGL.so.1", "libOpenGL.so.0"):
        with contextlib.suppress(OSError):
            get_string = ctypes.CDLL(name).glGetString
            get_string.restype, get_string.argtypes = ctypes.c_char_p, (ctypes.c_uint,)
            return (get_string(0x1F00) or b"").decode()
    return "no libGL"


def process() -> dict[str, object]:
    """What a library must leave as it was."""
    signals = {number: str(signal.getsignal(number)) for number in signal.valid_signals()}
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": signals,
        "filters": list(warnings.filters),
        "random": random.getstate(),
        "modes": (sys.flags.optimize, os.umask(os.umask(0o022)), sys.getswitchinterval()),
    }


def descriptors() -> dict[str, str]:
    """The open files, by number."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[entry.name] = os.readlink(entry)
    return {number: target for number, target in found.items() if not target.startswith("/proc/")}


def children() -> list[str]:
    """The names of this process's children."""
    tasks = Path("/proc/self/task").iterdir()
    pids = [pid for task in tasks for pid in (task / "children").read_text().split()]
    return sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids)


def main(state: str, call: dict[str, Any], again: int = 0) -> dict[str, object]:
    """Do what the arguments say and return the report."""
    raw = None
    if state != "clean":
        settings: Any = {"backend": "egl"}  # the stubs take every setting for a dictionary
        raw = moderngl.create_context(standalone=True, **settings)
        with raw:
            pixel(raw, (0, 0, 1))
        if state == "raw-current":
            raw.mglo.__enter__()
    import moderngl_colab

    report: dict[str, object] = {}
    ctx = None
    before, files = process(), descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before["filters"] = list(warnings.filters)
        try:
            ctx = moderngl_colab.get_gpu_context(**call)
        except (moderngl_colab.GPUContextError, TypeError, ValueError) as error:
            report["error"] = f"{type(error).__name__}: {error}"
            attempts = getattr(error, "attempts", ())
        after = process()
    report["changed"] = sorted(name for name in before if before[name] != after[name])
    report["files"] = sorted(set(descriptors().values()) - set(files.values()))
    report["new_files"] = len(descriptors()) - len(files)
    report["children"] = children()
    report["warnings"] = [
        [w.category.__name__, str(w.message), Path(w.filename).name] for w in caught
    ]
    if ctx is not None:
        info = moderngl_colab.describe(ctx)
        attempts = info.attempts
        report |= {name: getattr(info, name) for name in ("strategy", "vendor", "renderer")}
        report |= {"software": info.software, "egl_device": info.egl_device}
        report |= {"pixel": pixel(ctx, (1, 0, 0)), "is_default": moderngl.get_context() is ctx}
        report["current_vendor"] = current_vendor()
        for _ in range(again):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                other = moderngl_colab.get_gpu_context(**call)
            report["pixel_again"] = pixel(other, (0, 1, 1))
            other.release()
    report["attempts"] = [
        {"strategy": a.strategy, "outcome": str(a.outcome), "cause": a.cause, "reason": a.reason,
         "remedy": a.remedy}
        for a in attempts
    ]  # fmt: skip
    if raw is not None:
        report["raw"] = use_beside(raw, ctx, state)
    return report


def use_beside(raw: moderngl.Context, ctx: moderngl.Context | None, state: str) -> list[str]:
    """Use the raw context, ours and the raw one again; where ours is GLX's, leave it first."""
    seen = []
    if ctx is None:
        if state == "raw-current":  # It must still be current: nothing replaced it.
            seen.append(f"{current_vendor()} {pixel(raw, (1, 1, 0))}")
    else:
        for colour in ((0, 1, 0), (1, 0, 1)):
            ctx.mglo.__exit__()
            with raw:
                seen.append(f"{current_vendor()} {pixel(raw, colour)}")
            with ctx:
                seen.append(f"{current_vendor()} {pixel(ctx, colour)}")
        ctx.release()
    with raw:
        seen.append(f"{current_vendor()} {pixel(raw, (1, 1, 1))}")
    return seen


print(json.dumps(main(**json.loads(sys.argv[1]))))
