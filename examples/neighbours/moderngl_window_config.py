"""Renders a WindowConfig of moderngl-window to a file, without a window.

`Waves` is as one would write it for a window, and knows nothing of this library.

    python moderngl_window_config.py --output waves.png
    python moderngl_window_config.py --output waves.mp4 --frames 240
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import moderngl
import numpy as np
from moderngl_window import geometry
from moderngl_window.context.base import WindowConfig
from pyglm import glm

from moderngl_colab import window

VERTEX_SHADER = """
#version 330

uniform mat4 camera;
uniform float time;
in vec3 in_position;
in vec3 in_normal;
in vec3 place;
out vec3 normal;
out float height;

void main() {
    float away = length(place.xz);
    height = sin(2.2 * away - 2.0 * time) * exp(-0.12 * away);
    normal = in_normal;
    vec3 at = in_position * vec3(1.0, 3.0, 1.0) + place + vec3(0.0, height, 0.0);
    gl_Position = camera * vec4(at, 1.0);
}
"""

FRAGMENT_SHADER = """
#version 330

in vec3 normal;
in float height;
out vec4 fragment;

void main() {
    vec3 low = vec3(0.05, 0.16, 0.42), high = vec3(0.99, 0.72, 0.25);
    float light = 0.45 + 0.55 * max(dot(normalize(normal), normalize(vec3(0.5, 0.9, 0.35))), 0.0);
    fragment = vec4(light * mix(low, high, smoothstep(-0.9, 0.9, height)), 1.0);
}
"""

SIDE = 33  # pillars


class Waves(WindowConfig):
    """Pillars that a wave goes through."""

    title = "Waves"
    gl_version = (3, 3)
    window_size = (960, 540)
    samples = 4
    clear_color = (0.93, 0.94, 0.96, 1.0)

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.program = self.ctx.program(VERTEX_SHADER, FRAGMENT_SHADER)
        self.pillars = geometry.cube(size=(0.36, 0.5, 0.36))
        across = (np.arange(SIDE) - SIDE // 2) * 0.42
        x, z = np.meshgrid(across, across)
        places = np.stack([x, np.zeros_like(x), z], axis=-1).astype("f4")
        self.pillars.buffer(places, "3f/i", ["place"])

    def on_resize(self, width: int, height: int) -> None:
        """Fit the camera to the window."""
        projection = glm.perspective(glm.radians(38.0), width / height, 0.1, 100.0)
        view = glm.lookAt((10.5, 10.0, 13.5), (0.0, -1.5, 0.0), (0.0, 1.0, 0.0))
        self.program["camera"] = [value for column in projection * view for value in column]

    def on_render(self, time: float, frame_time: float) -> None:
        """Draw them as they are at a time in seconds."""
        self.ctx.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self.program["time"] = time
        self.pillars.render(self.program, instances=SIDE * SIDE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default="waves.png", metavar="FILE")
    parser.add_argument("--frames", type=int, default=60, metavar="N", help="of 1/60 s each")
    given = parser.parse_args()

    try:
        info = window.run(Waves, given.output, frames=given.frames)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"{parser.prog}: error: {error}")

    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"picture   {given.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("moderngl_window_config.py: stopped")
