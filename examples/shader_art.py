"""Films a fragment shader: folds of coloured silk, which move as long as one looks: no seam."""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is at once the end of the imports, too.

try:
    import moderngl
    from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f'shader_art.py: error: {error}; pip install "moderngl_colab[examples]"')

FPS = 30

VERTEX_SHADER = """
#version 330
void main() {  // one triangle that covers everything
    gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
"""
FRAGMENT_SHADER = """
#version 330
uniform vec2 size;
uniform float phase;  // All that moves is of period 2 pi in it: the film has no seam.
out vec4 fragment;

// Which point of the cloth comes to lie here, and how high.
vec3 silk(vec2 p) {
    for (int fold = 1; fold <= 5; fold++) {
        float turn = fold % 2 == 0 ? phase : -phase;
        vec2 shift = vec2(0.3, 1.9) * fold + vec2(turn, 0.6 * sin(phase));
        p += 0.62 / fold * sin(1.1 * fold * p.yx + shift);
        p = mat2(0.8, 0.6, -0.6, 0.8) * p;
    }
    return vec3(p, 0.5 + 0.25 * (sin(1.7 * p.x) + cos(1.3 * p.y)));
}

void main() {
    vec2 p = 2.4 * (2.0 * gl_FragCoord.xy - size) / size.y, e = vec2(0.01, 0.0);
    vec3 here = silk(p);
    vec2 slope = (vec2(silk(p + e.xy).z, silk(p + e.yx).z) - here.z) / e.x;
    vec3 normal = normalize(vec3(-slope, 1.6)), lamp = normalize(vec3(-0.5, 0.7, 0.6));
    float light = max(dot(normal, lamp), 0.0);
    float gloss = pow(max(dot(normal, normalize(lamp + vec3(0.0, 0.0, 1.0))), 0.0), 36.0);
    float hue = 0.09 * here.x + 0.05 * here.y;
    vec3 dye = 0.46 + 0.46 * cos(6.2831853 * (hue + vec3(0.0, 0.16, 0.34)));
    vec3 color = mix(vec3(0.03, 0.05, 0.16), dye, smoothstep(0.05, 0.95, here.z));
    color = color * (0.12 + 0.88 * light) + 0.5 * gloss * vec3(1.0, 0.86, 0.66);
    fragment = vec4(pow(1.0 - exp(-1.35 * color), vec3(1.0 / 2.2)), 1.0);
}
"""


class Silk:
    """Draws the silk at any time of its turn."""

    def __init__(self, ctx: moderngl.Context, size: tuple[int, int]) -> None:
        self.program = ctx.program(VERTEX_SHADER, FRAGMENT_SHADER)
        self.program["size"] = size
        self.screen = ctx.vertex_array(self.program, [])
        self.fbo = ctx.simple_framebuffer(size)

    def draw(self, phase: float) -> Image.Image:
        """A picture; the same at 0 and at 2 pi."""
        self.program["phase"] = phase
        self.fbo.use()
        self.screen.render(vertices=3)
        fbo = self.fbo
        # OpenGL's rows begin at the bottom.
        return Image.frombytes("RGB", fbo.size, fbo.read()).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )


def film(frames: Iterable[Image.Image], size: tuple[int, int], output: Path) -> None:
    """Write an MP4; only a whole one replaces an older one. Raises OSError, with ffmpeg's words."""
    part = output.absolute().with_name(f".shader_art-{secrets.token_hex(8)}.mp4")
    how = "-v error -y -f rawvideo -pix_fmt rgb24 -r {} -s {}x{} -i - -pix_fmt yuv420p -crf 18"
    command = [get_ffmpeg_exe(), *how.format(FPS, *size).split(), part]
    ffmpeg: Any = Popen(command, stdin=PIPE, stderr=PIPE, process_group=0)  # Ctrl-C is not for it
    try:
        for frame in frames:
            try:
                ffmpeg.stdin.write(frame.tobytes())
            except BrokenPipeError:
                break  # it says why
        _, said = ffmpeg.communicate()
        if ffmpeg.returncode:
            first = said.decode().partition("\n")[0].rpartition("] ")[2] or "it said nothing"
            raise OSError(f"ffmpeg ended with {ffmpeg.returncode}: {first}")
        part.replace(output)
    finally:
        ffmpeg.kill()
        ffmpeg.communicate()
        part.unlink(missing_ok=True)


def pixels(text: str) -> tuple[int, int]:
    sides = (
        [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,4}x\d{1,4}", text) else []
    )
    if not sides or min(sides) < 2 or max(sides) > 4096 or any(side % 2 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, even numbers from 2 to 4096")
    return sides[0], sides[1]


def number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 99999")
    return int(text)


def mp4(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".mp4" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.mp4 in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--size", type=pixels, default="960x540", metavar="WxH", help="pixels; default: %(default)s"
    )
    add("--count", type=number, default=180, metavar="N", help="frames; default: %(default)s")
    add("--output", type=mp4, default="shader_art.mp4", metavar="FILE.mp4")
    asked = parser.parse_args()
    try:
        if not shutil.which(ffmpeg := get_ffmpeg_exe()):
            raise RuntimeError(f"IMAGEIO_FFMPEG_EXE={ffmpeg!r} is no ffmpeg that can be run")
    except RuntimeError as error:
        parser.error(str(error))

    ctx = moderngl_colab.get_gpu_context()
    info = moderngl_colab.describe(ctx)
    silk = Silk(ctx, asked.size)
    started = time.perf_counter()
    phases = (math.tau * frame / asked.count for frame in range(asked.count))
    try:
        film(map(silk.draw, phases), asked.size, asked.output)
    except OSError as error:
        sys.exit(f"{parser.prog}: error: {asked.output}: {error.strerror or error}")
    seconds = time.perf_counter() - started
    ctx.release()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    print(f"strategy  {info.strategy}")
    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"version   {info.version}")
    print(f"frames    {asked.count} in {seconds:.1f} s")
    print(f"film      {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("shader_art.py: stopped")
