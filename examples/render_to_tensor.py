"""Renders into PyTorch tensors, and finds the pictures' edges there, on the GPU where CUDA is.

    fbo.read_into(pixels.numpy())

fills a uint8 tensor, height x width x 3, its lower row first: `pixels.to(device).flip(0)` is the
right way up. The picture goes over the CPU: OpenGL writes it to main memory, which is page-locked
where CUDA is, so that the GPU fetches it from there without another copy. To leave that way out is
the work of CUDA's interoperation with OpenGL, which PyTorch has no call for.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is at once the end of the imports, too.

try:
    import moderngl
    import torch
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f'render_to_tensor.py: error: {error}; pip install "moderngl_colab[dataloader]"')

VIEWS = 4

VERTEX_SHADER = """
#version 330
void main() {  // one triangle that covers everything
    gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
"""
FRAGMENT_SHADER = """
#version 330

uniform float size;
uniform float angle;
out vec4 fragment;

vec3 turned(vec3 v) {
    v.yz = mat2(0.9, 0.44, -0.44, 0.9) * v.yz;
    v.xz = mat2(cos(angle), sin(angle), -sin(angle), cos(angle)) * v.xz;
    return v;
}

// How far a point is from a ball of which a gyroid's shell is left.
float field(vec3 p) {
    float shell = abs(dot(sin(4.2 * p), cos(4.2 * p.zxy))) / 6.5 - 0.045;
    return max(shell, length(p) - 1.2);
}

void main() {
    vec2 at = (2.0 * gl_FragCoord.xy - size) / size;
    vec3 ray = turned(normalize(vec3(at, -2.6))), p = turned(vec3(0.0, 0.0, 3.9));
    float left = 1.0, way = 0.0;
    for (int step = 0; step < 96 && left > 0.002 && way < 5.5; step++) {
        way += left = field(p);
        p += ray * left;
    }
    vec2 e = vec2(0.002, 0.0);
    vec3 slope = vec3(field(p + e.xyy), field(p + e.yxy), field(p + e.yyx)) - field(p);
    vec3 lamp = turned(vec3(-0.5, 0.6, 0.6));
    float light = 0.15 + 0.85 * max(dot(normalize(slope + 1e-9), lamp), 0.0);
    vec3 dye = 0.5 + 0.4 * cos(6.2831853 * (0.45 * length(p) + vec3(0.0, 0.12, 0.3)));
    vec3 color = left > 0.01 ? vec3(0.008, 0.01, 0.016) : dye * light;
    fragment = vec4(pow(color, vec3(1.0 / 2.2)), 1.0);
}
"""


class Renderer:
    """Draws the ball from any side, into a tensor."""

    def __init__(self, ctx: moderngl.Context, size: int, device: torch.device) -> None:
        self.device = device
        self.program = ctx.program(VERTEX_SHADER, FRAGMENT_SHADER)
        self.program["size"] = size
        self.screen = ctx.vertex_array(self.program, [])
        self.fbo = ctx.simple_framebuffer((size, size))
        locked = device.type == "cuda"
        self.pixels = torch.empty((size, size, 3), dtype=torch.uint8, pin_memory=locked)

    def draw(self, angle: float) -> torch.Tensor:
        """A picture on the device: uint8, height x width x 3, the upper row first."""
        self.program["angle"] = angle
        self.fbo.use()
        self.screen.render(vertices=3)
        self.fbo.read_into(self.pixels.numpy())
        # OpenGL's rows begin at the bottom. To flip is to copy: the next picture may come.
        return self.pixels.to(self.device).flip(0)


def edges(pictures: torch.Tensor) -> torch.Tensor:
    """How much the brightness of pictures (n x height x width x 3) changes: uint8, with no 3."""
    gray = pictures.float().mean(dim=3)[:, None]
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(pictures.device)
    gray = torch.nn.functional.pad(gray, (1, 1, 1, 1), mode="replicate")
    slopes = torch.nn.functional.conv2d(gray, kernels)
    return torch.hypot(slopes[:, 0], slopes[:, 1]).clamp(0, 255).byte()


def side(text: str) -> int:
    if not (text.isdecimal() and len(text) < 5 and 8 <= int(text) <= 2048):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 8 to 2048")
    return int(text)


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--size", type=side, default=256, metavar="N", help="pixels a side; default: %(default)s")
    add("--output", type=png, default="render_to_tensor.png", metavar="FILE.png")
    asked = parser.parse_args()

    ctx = moderngl_colab.get_gpu_context()
    info = moderngl_colab.describe(ctx)
    # The GPU that renders, where CUDA has it.
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", info.cuda_device or 0) if cuda else torch.device("cpu")
    renderer = Renderer(ctx, asked.size, device)
    pictures = torch.stack([renderer.draw(math.tau * view / VIEWS) for view in range(VIEWS)])
    found = edges(pictures)
    ctx.release()

    # The pictures, and below each its edges.
    both = torch.stack([pictures, found[..., None].expand(-1, -1, -1, 3)])
    sheet = both.permute(0, 2, 1, 3, 4).reshape(2 * asked.size, VIEWS * asked.size, 3)
    # The picture is there whole, or not at all.
    part = asked.output.with_name(f".render_to_tensor-{secrets.token_hex(8)}.png")
    try:
        Image.fromarray(sheet.cpu().numpy()).save(part)
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
    print(f"tensor    {pictures.dtype} {tuple(pictures.shape)} on {pictures.device}")
    print(f"picture   {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("render_to_tensor.py: stopped")
