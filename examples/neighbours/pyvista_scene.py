"""Renders a landscape with PyVista off-screen, without a display.

    moderngl-colab run -- python pyvista_scene.py --output pyvista.png

In a notebook, before the first import of pyvista::

    os.environ.update(moderngl_colab.prepare_environment())
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pyvista

SIZE = (640, 480)


def landscape() -> pyvista.StructuredGrid:
    """A surface over a square, with a value "height" at each point."""
    across = np.linspace(-6, 6, 180)
    x, y = np.meshgrid(across, across)
    height = 1.6 * np.exp(-0.08 * (x**2 + y**2)) * np.cos(1.4 * np.hypot(x, y - 1))
    height += 0.12 * np.sin(2.1 * x) * np.cos(1.7 * y)
    grid = pyvista.StructuredGrid(x, y, height)
    grid["height"] = height.ravel(order="F")
    return grid


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="pyvista.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    plotter = pyvista.Plotter(off_screen=True, window_size=list(SIZE))
    plotter.set_background("white", top="lightsteelblue")  # type: ignore[arg-type]
    grid = landscape()
    plotter.add_mesh(grid, cmap="viridis", smooth_shading=True, specular=0.4, show_scalar_bar=False)
    plotter.add_mesh(grid.contour(12).translate((0, 0, 0.03)), color="white", line_width=2)
    plotter.camera_position = [(13, -16, 11), (0, 0, -0.5), (0, 0, 1)]
    plotter.screenshot(output)

    told: str = plotter.render_window.ReportCapabilities()  # type: ignore[union-attr]
    strings = dict(line.partition(":")[::2] for line in told.splitlines())
    print(f"vendor    {strings['OpenGL vendor string'].strip()}")
    print(f"renderer  {strings['OpenGL renderer string'].strip()}")
    print(f"picture   {output.absolute()}")
    plotter.close()


if __name__ == "__main__":
    main()
