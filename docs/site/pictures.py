"""Draws the pictures of the documentation, by the examples.

``python docs/site/pictures.py docs/images`` draws them anew where an example has changed.
"""

from __future__ import annotations

import math
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

import moderngl_colab

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import first_triangle  # noqa: E402  # type: ignore[import-not-found]
import render_farm  # noqa: E402  # type: ignore[import-not-found]
import shader_art  # noqa: E402  # type: ignore[import-not-found]
import turntable  # noqa: E402  # type: ignore[import-not-found]

SQUARE, WIDE = (240, 240), (320, 180)  # pixels
# Programs that save a picture by themselves, and what keeps it small.
PROGRAMS = {
    "compute_shader": ["--size", "128x72", "--steps", "1500"],
    "render_to_numpy": ["--size", "320x320"],
}


def beside(views: Iterable[Image.Image]) -> Image.Image:
    """One picture of several of a size."""
    row = list(views)
    sheet = Image.new("RGB", (sum(view.width for view in row), row[0].height))
    for number, view in enumerate(row):
        sheet.paste(view, (number * view.width, 0))
    return sheet


def main(folder: Path) -> None:
    """Draw all of them."""
    # An example leaves its context as it likes: each has one of its own.
    triangle = first_triangle.draw(moderngl_colab.get_gpu_context())
    triangle.resize(SQUARE).save(folder / "first_triangle.png", optimize=True)

    corners = turntable.load(turntable.SPOT, "y")
    table = turntable.Turntable(moderngl_colab.get_gpu_context(), corners, SQUARE)
    turns = (math.tau * view / 4 - 0.6 for view in range(4))
    beside(map(table.draw, turns)).save(folder / "turntable.png", optimize=True)

    silk = shader_art.Silk(moderngl_colab.get_gpu_context(), WIDE)
    phases = (math.tau * view / 3 for view in range(3))
    beside(map(silk.draw, phases)).save(folder / "shader_art.png", optimize=True)

    farm = render_farm.Renderer(render_farm.Job("knot", SQUARE, 12))
    knots = (Image.frombytes("RGB", SQUARE, farm.render(view).pixels) for view in range(4))
    beside(knots).save(folder / "render_farm.png", optimize=True)

    for name, options in PROGRAMS.items():
        output = folder / f"{name}.png"
        sys.argv = [f"{name}.py", *options, "--output", str(output)]
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        Image.open(output).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
