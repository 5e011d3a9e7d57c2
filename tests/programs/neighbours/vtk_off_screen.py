"""Which vendor VTK renders on off-screen, in a window of whichever kind it chooses."""

import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  - it provides the window
from vtkmodules.vtkRenderingCore import vtkRenderWindow

window = vtkRenderWindow()
window.SetOffScreenRendering(True)
window.SetSize(16, 16)
window.Render()
strings = dict(line.partition(":")[::2] for line in window.ReportCapabilities().splitlines())
print(strings["OpenGL vendor string"].strip(), strings["OpenGL renderer string"].strip(), sep="\n")
window.Finalize()
