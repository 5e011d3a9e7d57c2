"""Renders a spiral of points with vispy, without a display.

    moderngl-colab run -- python vispy_scene.py --output vispy.png

In a notebook, before the first import of vispy::

    os.environ.update(moderngl_colab.prepare_environment())

Without a GPU, vispy needs EGL_PLATFORM=surfaceless, for Mesa. It takes EGL's default display, and
cannot be told which of several GPUs that is to be.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image
from vispy import app, scene  # type: ignore[import-untyped]
from vispy.color import get_colormap  # type: ignore[import-untyped]
from vispy.gloo import gl  # type: ignore[import-untyped]

SIZE = (640, 480)
ARMS, POINTS = 5, 24_000


def galaxy() -> tuple[np.ndarray, np.ndarray]:
    """Places (POINTS, 3) and colours (POINTS, 4)."""
    random = np.random.default_rng(7)
    radius = random.beta(1.1, 2.2, POINTS) * 3
    angle = 2.1 * np.log(1 + radius) + 2 * np.pi * random.integers(0, ARMS, POINTS) / ARMS
    spread = random.normal(0, 0.09, (POINTS, 3)) * (1, 1, 0.6)
    flat = [radius * np.cos(angle), radius * np.sin(angle), np.zeros(POINTS)]
    places = np.stack(flat, axis=1) + spread
    return places.astype("f4"), get_colormap("plasma").map(1 - radius / 3)


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="vispy.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    app.use_app("egl")
    canvas = scene.SceneCanvas(size=SIZE, bgcolor="#05060f", show=False)
    view = canvas.central_widget.add_view()
    view.camera = scene.TurntableCamera(fov=40, distance=6.6, elevation=38, azimuth=20)
    places, colours = galaxy()
    points = scene.Markers(parent=view.scene)
    points.set_data(places, face_color=colours, edge_width=0, size=2.5)
    Image.fromarray(canvas.render()).convert("RGB").save(output)

    print(f"vendor    {gl.glGetParameter(gl.GL_VENDOR)}")
    print(f"renderer  {gl.glGetParameter(gl.GL_RENDERER)}")
    print(f"picture   {output.absolute()}")
    canvas.close()


if __name__ == "__main__":
    main()
