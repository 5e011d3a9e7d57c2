"""Draws with zengl and moderngl in one context: this library makes it, and zengl finds it.

moderngl draws the left half of the picture, zengl the right one. There is nothing to set.

    python zengl_beside.py --output zengl.png
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import moderngl
import zengl
from PIL import Image

import moderngl_colab

SIZE = (480, 480)

VERTEX_SHADER = """
#version 330 core

out vec2 at;

void main() {  // one triangle that covers everything
    at = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
    gl_Position = vec4(at, 0.0, 1.0);
}
"""

FRAGMENT_SHADER = """
#version 330 core

in vec2 at;
layout (location = 0) out vec4 fragment;

const vec2 SEED = vec2({seed});
const vec3 TINT = vec3({tint});

void main() {{  // the Julia set of SEED
    vec2 z = 1.25 * at;
    float steps = 0.0;
    while (steps < 160.0 && dot(z, z) < 64.0) {{
        z = vec2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + SEED;
        steps += 1.0;
    }}
    steps -= log2(max(log2(max(dot(z, z), 4.0)), 1.0));
    float glow = pow(clamp(steps / 110.0, 0.0, 1.0), 0.55);
    fragment = vec4(mix(vec3(0.02, 0.02, 0.06), 1.6 * TINT, glow) + pow(glow, 6.0), 1.0);
}}
"""


def by_moderngl(ctx: moderngl.Context) -> bytes:
    shader = FRAGMENT_SHADER.format(seed="-0.79, 0.15", tint="1.0, 0.45, 0.15")
    framebuffer = ctx.simple_framebuffer(SIZE)
    framebuffer.use()
    ctx.vertex_array(ctx.program(VERTEX_SHADER, shader), []).render(vertices=3)
    return framebuffer.read(components=4)


def by_zengl(ctx: zengl.Context) -> bytes:
    image = ctx.image(SIZE, "rgba8unorm")
    pipeline = ctx.pipeline(
        vertex_shader=VERTEX_SHADER,
        fragment_shader=FRAGMENT_SHADER.format(seed="-0.4, 0.6", tint="0.2, 0.6, 1.0"),
        framebuffer=[image],
        topology="triangles",
        vertex_count=3,
    )
    ctx.new_frame()  # it takes no notice of what moderngl bound
    pipeline.render()
    ctx.end_frame()  # and leaves nothing bound
    return image.read()


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="zengl.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    ctx = moderngl_colab.get_gpu_context()
    beside = zengl.context()  # on what is current in this thread
    picture = Image.new("RGB", (2 * SIZE[0], SIZE[1]))
    for place, rows in enumerate((by_moderngl(ctx), by_zengl(beside))):
        half = Image.frombytes("RGBA", SIZE, rows).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        picture.paste(half, (place * SIZE[0], 0))
    picture.save(output)

    print(f"vendor    {beside.info['vendor']}")
    print(f"renderer  {beside.info['renderer']}")
    print(f"picture   {output.absolute()}")
    beside.release("all")
    ctx.release()


if __name__ == "__main__":
    main()
