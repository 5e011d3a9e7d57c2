"""Renders into NumPy arrays: a picture, and how far off what each of its pixels shows is.

    picture = np.frombuffer(fbo.read(), "u1").reshape(fbo.height, fbo.width, 3)[::-1]

is height x width x 3, its upper row first. The columns that are seen come from an array as well.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is at once the end of the imports, too.

try:
    import moderngl
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f'render_to_numpy.py: error: {error}; pip install "moderngl_colab[examples]"')

NEAR, FAR = 4.0, 14.0  # what lies between is seen
SIDE = 48  # columns in a row

VERTEX_SHADER = """
#version 330

uniform vec2 zoom;
uniform vec2 range;  // the nearest and the farthest that is seen
in vec3 column;  // where it stands, and its height between
out vec3 normal;
out vec3 color;

const vec2 CORNERS[6] = vec2[](
    vec2(-1, -1), vec2(1, -1), vec2(1, 1), vec2(-1, -1), vec2(1, 1), vec2(-1, 1));

vec3 placed(vec3 v) {  // seen from a corner, from above
    v.xz = mat2(0.8, 0.6, -0.6, 0.8) * v.xz;
    v.yz = mat2(0.8, 0.6, -0.6, 0.8) * v.yz;
    return v;
}

void main() {
    int axis = gl_VertexID / 12, side = gl_VertexID / 6 % 2 * 2 - 1;
    vec2 corner = CORNERS[gl_VertexID % 6];
    vec3 box = axis == 0 ? vec3(side, corner) : vec3(corner, side);
    box = axis == 1 ? vec3(corner.y, side, corner.x) : box;
    normal = axis == 0 ? vec3(side, 0, 0) : axis == 1 ? vec3(0, side, 0) : vec3(0, 0, side);
    color = 0.5 + 0.45 * cos(6.2831853 * (0.55 * column.y + vec3(0.0, 0.2, 0.45)));
    float top = 0.5 + 0.5 * box.y;
    color *= 0.35 + 0.65 * top;  // Little light comes down between them.
    vec3 at = vec3(column.x + 0.05 * box.x, column.y * top, column.z + 0.05 * box.z);
    at = placed(at) - vec3(0.0, 0.1, 8.5);
    float depth = (range.x + range.y) * -at.z - 2.0 * range.x * range.y;
    gl_Position = vec4(zoom * at.xy, depth / (range.y - range.x), -at.z);
}
"""
FRAGMENT_SHADER = """
#version 330

in vec3 normal;
in vec3 color;
out vec4 fragment;

void main() {
    float light = 0.3 + 0.7 * max(dot(normalize(normal), vec3(-0.36, 0.8, 0.48)), 0.0);
    fragment = vec4(pow(color * light, vec3(1.0 / 2.2)), 1.0);
}
"""

Columns = npt.NDArray[np.float32]


def ripples() -> Columns:
    """Columns of a square, and how high each is: x, height, z."""
    x, z = np.meshgrid(*2 * [np.linspace(-2.6, 2.6, SIDE)])
    away = np.hypot(x, z)
    height = 0.5 + 0.45 * np.cos(4.0 * away) * np.exp(-0.35 * away)
    return np.stack([x, height, z], axis=-1).reshape(-1, 3).astype("f4")


def render(
    ctx: moderngl.Context, columns: Columns, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Draw columns; give the picture (height x width x 3) and the distances (height x width).

    A distance is that from the camera's plane, in the columns' unit; where nothing is, FAR.
    """
    program = ctx.program(VERTEX_SHADER, FRAGMENT_SHADER)
    program["zoom"] = 2.1 * min(size) / size[0], 2.1 * min(size) / size[1]
    program["range"] = NEAR, FAR
    instances = [(ctx.buffer(columns), "3f/i", "column")]
    vertices = ctx.vertex_array(program, instances)
    canvas = ctx.simple_framebuffer(size, samples=min(4, ctx.max_samples))
    fbo = ctx.simple_framebuffer(size)
    canvas.use()
    canvas.clear(0.07, 0.08, 0.11)
    ctx.enable(moderngl.DEPTH_TEST)
    vertices.render(vertices=36, instances=len(columns))
    ctx.copy_framebuffer(fbo, canvas)

    # OpenGL's rows begin at the bottom.
    picture = np.frombuffer(fbo.read(), "u1").reshape(fbo.height, fbo.width, 3)[::-1]
    depths = fbo.read(components=1, attachment=-1, dtype="f4")
    depth = np.frombuffer(depths, "f4").reshape(fbo.height, fbo.width)[::-1]
    distance = NEAR * FAR / (FAR - depth * np.float32(FAR - NEAR))  # A depth is from 0 to 1.
    return picture, distance.astype("f4")


def pixels(text: str) -> tuple[int, int]:
    sides = (
        [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,4}x\d{1,4}", text) else []
    )
    if not sides or min(sides) < 1 or max(sides) > 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, two numbers from 1 to 4096")
    return sides[0], sides[1]


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add(
        "--size", type=pixels, default="640x640", metavar="WxH", help="pixels; default: %(default)s"
    )
    add("--output", type=png, default="render_to_numpy.png", metavar="FILE.png")
    asked = parser.parse_args()

    ctx = moderngl_colab.get_gpu_context()
    info = moderngl_colab.describe(ctx)
    picture, distance = render(ctx, ripples(), asked.size)
    ctx.release()

    # What is near is bright; beside the picture.
    seen, nearest = distance < FAR, distance.min()
    gray = np.interp(distance, (nearest, FAR), (255, 40)) * seen
    both = np.hstack([picture, np.repeat(gray[:, :, None], 3, axis=2).astype("u1")])
    # The picture is there whole, or not at all.
    part = asked.output.with_name(f".render_to_numpy-{secrets.token_hex(8)}.png")
    try:
        Image.fromarray(both).save(part)
        part.replace(asked.output)
    except OSError as error:
        sys.exit(f"{parser.prog}: error: {asked.output}: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    print(f"strategy  {info.strategy}")
    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"version   {info.version}")
    print(f"arrays    {picture.dtype} {picture.shape}, {distance.dtype} {distance.shape}")
    print(f"distance  {nearest:.2f} to {distance[seen].max(initial=nearest):.2f}")
    print(f"picture   {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("render_to_numpy.py: stopped")
