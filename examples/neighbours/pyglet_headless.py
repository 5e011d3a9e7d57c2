"""Draws with pyglet's own shapes and labels, without a display.

    moderngl-colab run -- python pyglet_headless.py --output pyglet.png

In a notebook, before the first import of pyglet::

    os.environ.update(moderngl_colab.prepare_environment())
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import pyglet

pyglet.options.headless = True  # counts when pyglet.window is imported

from pyglet import gl, graphics, shapes  # noqa: E402
from pyglet.window import Window  # noqa: E402

SIZE = (640, 480)
PETALS = 12


def flower(batch: graphics.Batch) -> list[shapes.ShapeBase]:
    middle = SIZE[0] / 2, SIZE[1] / 2
    drawn: list[shapes.ShapeBase] = []
    for petal in range(PETALS):
        angle = math.tau * petal / PETALS
        share = petal / PETALS
        colour = (int(255 * (1 - share)), int(90 + 110 * share), int(60 + 180 * share), 190)
        x, y = middle[0] + 110 * math.cos(angle), middle[1] + 110 * math.sin(angle)
        drawn.append(shapes.Circle(x, y, 72, segments=96, color=colour, batch=batch))
    drawn.append(shapes.Star(*middle, 70, 34, 9, color=(255, 214, 70, 255), batch=batch))
    return drawn


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="pyglet.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    colours = gl.Config(red_size=8, green_size=8, blue_size=8)  # type: ignore[abstract]
    window = Window(*SIZE, config=colours)
    batch = graphics.Batch()
    drawn = flower(batch)
    gl.glClearColor(0.07, 0.08, 0.12, 1.0)
    window.clear()
    batch.draw()
    with output.open("wb") as file:
        pyglet.image.get_buffer_manager().get_color_buffer().save(str(output), file)

    print(f"vendor    {gl.gl_info.get_vendor()}")
    print(f"renderer  {gl.gl_info.get_renderer()}")
    print(f"picture   {output.absolute()}")
    for shape in drawn:
        shape.delete()
    window.close()


if __name__ == "__main__":
    main()
