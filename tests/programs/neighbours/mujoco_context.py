"""Which vendor MuJoCo's own context renders on."""

import mujoco  # type: ignore[import-untyped]

context = mujoco.GLContext(16, 16)
context.make_current()

from OpenGL import GL  # type: ignore[import-untyped]  # noqa: E402  - MuJoCo chooses PyOpenGL's platform

print(GL.glGetString(GL.GL_VENDOR).decode(), GL.glGetString(GL.GL_RENDERER).decode(), sep="\n")
context.free()
