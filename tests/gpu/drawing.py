"""How the programs of the tests come to contexts, and see whether they draw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import moderngl

import moderngl_colab

__all__ = ["Answer", "about", "mapped", "ours", "pixel", "raw"]

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
