"""Which vendor moderngl renders on by itself, over glcontext's EGL."""

import moderngl

context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
print(context.info["GL_VENDOR"], context.info["GL_RENDERER"], sep="\n")
context.release()
