"""Draws a triangle without a display, saves the picture and says what drew it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

try:
    import moderngl
    import numpy as np
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f'first_triangle.py: error: {error}; pip install "moderngl_colab[examples]"')

SIZE = (512, 512)

VERTEX_SHADER = """
#version 330

in vec2 position;
in vec3 color;
out vec3 vertex_color;

void main() {
    gl_Position = vec4(position, 0.0, 1.0);
    vertex_color = color;
}
"""

FRAGMENT_SHADER = """
#version 330

in vec3 vertex_color;
out vec4 fragment_color;

void main() {
    fragment_color = vec4(vertex_color, 1.0);
}
"""

# x, y, red, green, blue
VERTICES = np.array(
    [
        [0.0, 0.8, 1.0, 0.0, 0.0],
        [-0.8, -0.8, 0.0, 1.0, 0.0],
        [0.8, -0.8, 0.0, 0.0, 1.0],
    ],
    dtype="f4",
)


def draw(ctx: moderngl.Context) -> Image.Image:
    program = ctx.program(vertex_shader=VERTEX_SHADER, fragment_shader=FRAGMENT_SHADER)
    vertices = ctx.vertex_array(program, ctx.buffer(VERTICES), "position", "color")
    fbo = ctx.simple_framebuffer(SIZE)
    fbo.use()
    fbo.clear(0.1, 0.1, 0.1)
    vertices.render()
    # OpenGL's rows begin at the bottom.
    return Image.frombytes("RGB", fbo.size, fbo.read()).transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=png, default="first_triangle.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    ctx = moderngl_colab.get_gpu_context()
    info = moderngl_colab.describe(ctx)
    draw(ctx).save(output)
    ctx.release()

    print(f"strategy  {info.strategy}")
    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"version   {info.version}")
    print(f"picture   {output.absolute()}")


if __name__ == "__main__":
    main()
