"""Say on what raw moderngl renders, which knows nothing of this library."""

from __future__ import annotations

import moderngl

ctx = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
framebuffer = ctx.simple_framebuffer((4, 4))
framebuffer.clear(0.0, 1.0, 0.0)
print(ctx.info["GL_VENDOR"], framebuffer.read(components=3)[:3].hex())
