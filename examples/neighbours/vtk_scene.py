"""Renders a surface with VTK off-screen, without a display.

    moderngl-colab run -- python vtk_scene.py --output vtk.png

In a notebook, before the first import of vtk::

    os.environ.update(moderngl_colab.prepare_environment())

VTK asks for an X server first, and where there is none it says so on stderr before it takes EGL;
VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow spares that.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  - it provides the window
from vtkmodules.vtkCommonComputationalGeometry import vtkParametricBoy
from vtkmodules.vtkCommonCore import vtkLookupTable
from vtkmodules.vtkFiltersCore import vtkElevationFilter
from vtkmodules.vtkFiltersSources import vtkParametricFunctionSource
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkWindowToImageFilter,
)

SIZE = (640, 480)


def surface() -> vtkActor:
    boy = vtkParametricFunctionSource()
    boy.SetParametricFunction(vtkParametricBoy())
    boy.SetUResolution(160)
    boy.SetVResolution(160)
    boy.Update()
    lowest, highest = boy.GetOutput().GetBounds()[4:]
    height = vtkElevationFilter()
    height.SetInputConnection(boy.GetOutputPort())
    height.SetLowPoint(0, 0, lowest)
    height.SetHighPoint(0, 0, highest)
    colours = vtkLookupTable()
    colours.SetHueRange(0.62, 0.06)  # from blue below to orange above
    colours.SetSaturationRange(0.75, 0.75)
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(height.GetOutputPort())
    mapper.SetLookupTable(colours)
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetSpecular(0.5)
    actor.GetProperty().SetSpecularPower(40)
    return actor


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="vtk.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    renderer = vtkRenderer()
    renderer.AddActor(surface())
    renderer.SetBackground(0.08, 0.09, 0.13)
    window = vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(4)
    window.SetSize(*SIZE)
    window.AddRenderer(renderer)
    renderer.GetActiveCamera().Elevation(-50)
    renderer.ResetCamera()
    renderer.GetActiveCamera().Zoom(1.25)
    window.Render()

    picture = vtkWindowToImageFilter()
    picture.SetInput(window)
    writer = vtkPNGWriter()
    writer.SetInputConnection(picture.GetOutputPort())
    writer.SetFileName(str(output))
    writer.Write()
    if writer.GetErrorCode():
        sys.exit(f"vtk_scene.py: error: {output} could not be written")

    strings = dict(line.partition(":")[::2] for line in window.ReportCapabilities().splitlines())
    print(f"vendor    {strings['OpenGL vendor string'].strip()}")
    print(f"renderer  {strings['OpenGL renderer string'].strip()}")
    print(f"picture   {output.absolute()}")
    window.Finalize()


if __name__ == "__main__":
    main()
