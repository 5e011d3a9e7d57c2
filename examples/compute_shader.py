"""Grows a pattern by a compute shader: two substances that diffuse and react, by Gray and Scott.

Its first steps are checked against NumPy's; what comes of them all is drawn as a relief, whose
edges meet. OpenGL 4.3 is needed; Mesa's CPU rasteriser has it, too.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import sys
import time
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
    sys.exit(f'compute_shader.py: error: {error}; pip install "moderngl_colab[examples]"')

# How much of the first and of the second substance is in each cell: height x width x 2.
Cells = npt.NDArray[np.float32]

CHECKED = 64  # steps that NumPy does as well
TOLERANCE = 1e-4  # of amounts up to 1: the two do not round alike, nor add in the same order
GROUP = 16  # the side of a work group, in cells
SCALE = 3  # the side of a cell in the picture, in pixels

COMPUTE_SHADER = """
#version 430
layout(local_size_x = 16, local_size_y = 16) in;
layout(binding = 0) uniform sampler2D before;  // which repeats itself: the plane's edges meet
layout(binding = 0, rg32f) writeonly uniform image2D after;

void main() {
    ivec2 size = imageSize(after), cell = ivec2(gl_GlobalInvocationID.xy);
    if (cell.x >= size.x || cell.y >= size.y)
        return;
    vec2 at = (cell + 0.5) / size;
    vec2 here = textureLod(before, at, 0.0).xy, around = -here;
    around += 0.2 * textureLodOffset(before, at, 0.0, ivec2(-1, 0)).xy;
    around += 0.2 * textureLodOffset(before, at, 0.0, ivec2(1, 0)).xy;
    around += 0.2 * textureLodOffset(before, at, 0.0, ivec2(0, -1)).xy;
    around += 0.2 * textureLodOffset(before, at, 0.0, ivec2(0, 1)).xy;
    around += 0.05 * textureLodOffset(before, at, 0.0, ivec2(-1, -1)).xy;
    around += 0.05 * textureLodOffset(before, at, 0.0, ivec2(1, -1)).xy;
    around += 0.05 * textureLodOffset(before, at, 0.0, ivec2(-1, 1)).xy;
    around += 0.05 * textureLodOffset(before, at, 0.0, ivec2(1, 1)).xy;
    float wave = cos(6.2831853 * at.x);  // Where it is high, spots come of it, elsewhere coral.
    float feed = 0.046 - 0.010 * wave, kill = 0.0635 + 0.0012 * wave;
    float reaction = here.x * here.y * here.y;
    vec2 change = vec2(feed * (1.0 - here.x) - reaction, reaction - (feed + kill) * here.y);
    imageStore(after, cell, vec4(here + vec2(0.5, 0.25) * around + change, 0.0, 0.0));
}
"""
VERTEX_SHADER = """
#version 430
out vec2 at;
void main() {  // one triangle that covers everything
    at = vec2(gl_VertexID == 1 ? 2.0 : 0.0, gl_VertexID == 2 ? 2.0 : 0.0);
    gl_Position = vec4(2.0 * at - 1.0, 0.0, 1.0);
}
"""
FRAGMENT_SHADER = """
#version 430
layout(binding = 0) uniform sampler2D cells;
in vec2 at;
out vec4 fragment;

float height(vec2 at) { return smoothstep(0.05, 0.38, texture(cells, at).y); }

void main() {
    vec2 e = 1.0 / textureSize(cells, 0);
    vec2 slope = vec2(
        height(at + vec2(e.x, 0.0)) - height(at - vec2(e.x, 0.0)),
        height(at + vec2(0.0, e.y)) - height(at - vec2(0.0, e.y)));
    vec3 normal = normalize(vec3(-2.2 * slope, 1.0)), lamp = normalize(vec3(-0.6, 0.7, 0.8));
    float gloss = pow(max(dot(normal, normalize(lamp + vec3(0.0, 0.0, 1.0))), 0.0), 24.0);
    vec3 color = mix(vec3(0.01, 0.055, 0.11), vec3(0.90, 0.33, 0.18), height(at));
    color = color * (0.2 + 0.8 * max(dot(normal, lamp), 0.0)) + 0.3 * gloss * height(at);
    fragment = vec4(pow(color, vec3(1.0 / 2.2)), 1.0);
}
"""


def seeded(size: tuple[int, int]) -> Cells:
    """The first substance everywhere, and drops of the second."""
    width, height = size
    cells = np.zeros((height, width, 2), "f4")
    cells[..., 0] = 1.0
    chance = np.random.default_rng(1)
    for _ in range(max(1, width * height // 600)):
        x, y = int(chance.integers(width)), int(chance.integers(height))
        cells[y : y + 4, x : x + 4] = (0.5, 0.5)
    return cells


def stepped(cells: Cells) -> Cells:
    """What the compute shader does to all cells in one step, by NumPy."""

    def beside(down: int, right: int) -> Cells:
        return np.roll(cells, (-down, -right), axis=(0, 1))

    around = -cells
    around += np.float32(0.2) * (beside(0, 1) + beside(0, -1) + beside(1, 0) + beside(-1, 0))
    around += np.float32(0.05) * (beside(1, 1) + beside(1, -1) + beside(-1, 1) + beside(-1, -1))
    width = cells.shape[1]
    wave = np.cos(2 * np.pi * (np.arange(width, dtype="f4") + 0.5) / width).astype("f4")
    feed = np.float32(0.046) - np.float32(0.010) * wave
    kill = np.float32(0.0635) + np.float32(0.0012) * wave
    first, second = cells[..., 0], cells[..., 1]
    reaction = first * second * second
    change = np.stack([feed * (1 - first) - reaction, reaction - (feed + kill) * second], axis=-1)
    after: Cells = cells + np.array([0.5, 0.25], "f4") * around + change
    return after


class Reaction:
    """The cells on the GPU: two textures, of which each step reads one and writes the other."""

    def __init__(self, ctx: moderngl.Context, cells: Cells) -> None:
        height, width, _ = cells.shape
        self.ctx, self.size = ctx, (width, height)
        self.before, self.after = (
            ctx.texture(self.size, 2, data=data, dtype="f4") for data in (cells, None)
        )
        self.shader = ctx.compute_shader(COMPUTE_SHADER)
        self.relief = ctx.vertex_array(ctx.program(VERTEX_SHADER, FRAGMENT_SHADER), [])

    def step(self) -> None:
        """Do to all cells what stepped() does."""
        width, height = self.size
        self.before.use(0)
        self.after.bind_to_image(0, read=False, write=True)
        self.shader.run(-(-width // GROUP), -(-height // GROUP))
        self.ctx.memory_barrier()  # or the next step might read what is not yet written
        self.before, self.after = self.after, self.before

    def cells(self) -> Cells:
        """What is in the cells now, as seeded() gives it."""
        width, height = self.size
        return np.frombuffer(self.before.read(), "f4").reshape(height, width, 2)

    def draw(self) -> Image.Image:
        """A relief of the second substance, its first row of cells at the bottom."""
        width, height = self.size
        fbo = self.ctx.simple_framebuffer((SCALE * width, SCALE * height))
        fbo.use()
        self.before.use(0)
        self.relief.render(vertices=3)
        # OpenGL's rows begin at the bottom.
        return Image.frombytes("RGB", fbo.size, fbo.read()).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )


def pixels(text: str) -> tuple[int, int]:
    sides = (
        [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,4}x\d{1,4}", text) else []
    )
    if not sides or min(sides) < 8 or max(sides) > 2048:
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, two numbers from 8 to 2048")
    return sides[0], sides[1]


def number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 999999")
    return int(text)


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--size", type=pixels, default="256x256", metavar="WxH", help="cells; default: %(default)s")
    add("--steps", type=number, default=3000, metavar="N", help="default: %(default)s")
    add("--output", type=png, default="compute_shader.png", metavar="FILE.png")
    asked = parser.parse_args()

    ctx = moderngl_colab.get_gpu_context(430)
    info = moderngl_colab.describe(ctx)
    cells = seeded(asked.size)
    reaction = Reaction(ctx, cells)
    checked = min(CHECKED, asked.steps)
    for _ in range(checked):
        reaction.step()
        cells = stepped(cells)
    difference = np.abs(reaction.cells() - cells).max()
    if not difference <= TOLERANCE:  # as it is not where it is no number
        sys.exit(
            f"{parser.prog}: error: NumPy's cells differ by {difference:g} after {checked} steps "
            f"from those of {info.renderer}"
        )
    started = time.perf_counter()
    for _ in range(asked.steps - checked):
        reaction.step()
    ctx.finish()
    seconds = time.perf_counter() - started

    # The picture is there whole, or not at all.
    part = asked.output.with_name(f".compute_shader-{secrets.token_hex(8)}.png")
    try:
        reaction.draw().save(part)
        part.replace(asked.output)
    except OSError as error:
        sys.exit(f"{parser.prog}: error: {asked.output}: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)
    ctx.release()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    print(f"strategy  {info.strategy}")
    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"version   {info.version}")
    print(f"checked   {checked} steps differ from NumPy's by {difference:.0e} at most")
    print(f"steps     {asked.steps - checked} more in {seconds:.1f} s")
    print(f"picture   {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("compute_shader.py: stopped")
