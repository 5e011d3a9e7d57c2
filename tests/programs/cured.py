"""Say on what get_gpu_context() renders; the argument is how it is called."""

from __future__ import annotations

import re
import sys

import moderngl_colab

call = sys.argv[1] if len(sys.argv) > 1 else "moderngl_colab.get_gpu_context()"
index = re.fullmatch(r"moderngl_colab\.get_gpu_context\((?:device_index=(\d+))?\)", call)
assert index is not None, call
ctx = moderngl_colab.get_gpu_context(device_index=int(index[1]) if index[1] else None)
framebuffer = ctx.simple_framebuffer((4, 4))
framebuffer.clear(0.0, 1.0, 0.0)
print(ctx.info["GL_VENDOR"], framebuffer.read(components=3)[:3].hex())
