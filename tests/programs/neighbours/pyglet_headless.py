"""Which vendor pyglet renders on without a display."""

import pyglet

pyglet.options.headless = True

from pyglet import gl  # noqa: E402  - the option counts when this is imported

window = pyglet.window.Window(16, 16)
print(gl.gl_info.get_vendor(), gl.gl_info.get_renderer(), sep="\n")
window.close()
