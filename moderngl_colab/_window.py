"""A window for moderngl-window that is none: its frames are given away, its time is counted."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import moderngl
from moderngl_window.context.base import WindowConfig
from moderngl_window.context.headless.window import Window as HeadlessWindow
from moderngl_window.timers.base import BaseTimer
from PIL import Image

__all__ = ["Timer", "Window"]


class Window(HeadlessWindow):
    """A window of moderngl-window's that nobody sees.

    Its framebuffer, which is ``ctx.screen`` too, has a depth buffer, and as many samples as were
    asked for, or else as the driver has.

    Arguments:
        ctx: the context, current in this thread; it is not released with the window.
        last: after how many frames it closes.
        take: is given the window at the end of each.
        settings: those of ``moderngl_window.BaseWindow``.

    Raises:
        ValueError: a framebuffer cannot have this size or these samples.
    """

    name = "moderngl_colab"

    def __init__(
        self, ctx: moderngl.Context, last: int, take: Callable[[Window], None], **settings: Any
    ) -> None:
        self._ctx, self._last, self._take = ctx, last, take
        self._before = ctx.fbo, vars(ctx)["_screen"]
        super().__init__(**settings)

    def init_mgl_context(self) -> None:
        """Give the context that is there a framebuffer."""
        if self.samples < 0 or self.samples & (self.samples - 1):
            raise ValueError(f"samples={self.samples} is neither 0 nor a power of two")
        self._samples = min(self.samples, self._ctx.max_samples)
        self._create_fbo()
        self.use()

    def _create_fbo(self) -> None:
        limits = self._ctx.info
        most = min(limits["GL_MAX_TEXTURE_SIZE"], *limits["GL_MAX_VIEWPORT_DIMS"])
        if not (1 <= self.width <= most and 1 <= self.height <= most):
            size = f"{self.width}x{self.height}"
            raise ValueError(f"a window has 1x1 to {most}x{most} pixels here, not {size}")
        super()._create_fbo()
        # A context without a surface has no screen, and configs draw to it.
        vars(self._ctx)["_screen"] = self._fbo

    def destroy(self) -> None:
        """Release the framebuffer; the context has those again that it had before."""
        if self._fbo is None:
            return
        bound, vars(self._ctx)["_screen"] = self._before
        for made in (*self._fbo.color_attachments, self._fbo.depth_attachment, self._fbo):
            made.release()
        self._fbo = None
        self._ctx.fbo = bound
        if bound is not None and not isinstance(bound.mglo, moderngl.InvalidObject):
            bound.use()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; to set them is to resize the window."""
        return self._width, self._height

    @size.setter
    def size(self, value: tuple[int, int]) -> None:
        self._width, self._height = self._buffer_width, self._buffer_height = value
        self._create_fbo()
        self.use()
        self.set_default_viewport()
        self.resize(*value)

    def show_config(self, config: WindowConfig) -> None:
        """Take a config, and tell it the size, as a window of pyglet's does when it opens."""
        self._config = weakref.ref(config)
        self.resize(*self.buffer_size)

    def swap_buffers(self) -> None:
        """End a frame; after the last one, close."""
        super().swap_buffers()
        self._take(self)
        if self.frames >= self._last:
            self.close()

    def picture(self) -> Image.Image:
        """What the framebuffer holds, in RGB, the upper row first."""
        with contextlib.ExitStack() as stack:
            shown = self.fbo
            if self.samples:  # Samples cannot be read; a copy resolves them.
                colours = self.ctx.renderbuffer(self.size)
                stack.callback(colours.release)
                shown = self.ctx.framebuffer([colours])
                stack.callback(shown.release)
                stack.callback(self.use)
                shown.use()  # or the scissor of what was bound would cut the copy
                self.ctx.copy_framebuffer(shown, self.fbo)
            rows = Image.frombytes("RGB", self.size, shown.read())
        return rows.transpose(Image.Transpose.FLIP_TOP_BOTTOM)  # OpenGL's begin at the bottom.


class Timer(BaseTimer):
    """The first frame is at 0 s, each further one 1 / fps later, however long it takes to draw.

    The time can be set, and stands still while it is paused.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._frame: float | None = None  # counted, for 1 / fps would not add up
        self._last = 0.0
        self._paused = False

    is_paused = property(lambda self: self._paused)
    is_running = property(lambda self: not self._paused)
    fps = fps_average = property(lambda self: self._fps)
    time = property(
        lambda self: (self._frame or 0.0) / self._fps,
        lambda self, value: setattr(self, "_frame", max(0.0, value) * self._fps),
    )

    def next_frame(self) -> tuple[float, float]:
        if self._frame is None:
            self._frame = 0.0
        elif not self._paused:
            self._frame += 1
        delta, self._last = self._frame - self._last, self._frame
        return self.time, delta / self._fps

    def start(self) -> None:
        self._paused = False

    def pause(self) -> None:
        self._paused = True

    def toggle_pause(self) -> None:
        self._paused = not self._paused

    def stop(self) -> tuple[float, float]:
        return self.time, self.time
