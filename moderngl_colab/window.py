"""moderngl-window without a window: an existing ``WindowConfig`` renders to a file.

::

    from moderngl_colab import window

    window.run(MyConfig, "frame.png", frames=60)
    window.run(MyConfig, "film.mp4", frames=240, args=["--size", "640x480"])

It needs ``pip install "moderngl_colab[window]"``.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from moderngl_colab import _current
from moderngl_colab._film import beside, film
from moderngl_colab.context import get_gpu_context
from moderngl_colab.info import ContextInfo, describe

try:
    import moderngl_window
    from moderngl_window.context.base import WindowConfig
    from moderngl_window.context.headless.window import Window as HeadlessWindow
    from moderngl_window.timers.base import BaseTimer
    from PIL import Image
except ModuleNotFoundError as absent:
    text = f'moderngl_colab.window needs {absent.name}: pip install "moderngl_colab[window]"'
    raise ModuleNotFoundError(text, name=absent.name) from None

__all__ = ["Window", "run"]


def run(
    config: type[WindowConfig],
    output: str | Path,
    *,
    frames: int = 1,
    fps: float = 60,
    args: Sequence[str] = (),
) -> ContextInfo:
    """Render a WindowConfig as it is to a file; its context is released at the end.

    Arguments:
        config: the class, as ``moderngl_window.run_window_config`` takes it.
        output: a ``.png``, of the last frame, or an ``.mp4``, of all. Only a whole one replaces a
            file that is there.
        frames: how many are rendered. A film is shorter if the config closes its window.
        fps: frames per second of the config's time: the first frame is at 0 s, frame n at
            (n - 1) / fps, however long it takes to draw.
        args: the command line of moderngl-window (``["--size", "640x480", "--samples", "4"]``) and
            of the config. This process's own is not read.

    Returns:
        What it was rendered on.

    Raises:
        GPUContextError: there is no context of the config's ``gl_version``.
        ValueError: `output`, `frames` or `fps` is impossible, or a film's size is odd or changes.
        RuntimeError: the config closed its window before the last frame of a picture, or the first
            of a film.
        OSError: the file cannot be written.
        SystemExit: `args` are wrong, as moderngl-window says on stderr.
    """
    path = _checked(Path(output), frames, fps)
    parser = moderngl_window.create_parser()
    config.add_arguments(parser)
    config.argv = values = parser.parse_args(list(args))
    whole = path.suffix == ".mp4"
    # What was current in this thread is so again at the end.
    with _current.kept(), beside(path) as part, film(part, fps) as add:

        def take(window: Window) -> None:
            if whole:
                add(window.picture())
            elif window.frames == frames:
                window.picture().save(part)

        with _opened(config, values, frames, take) as window:
            about = describe(window.ctx)
            instance = config(ctx=window.ctx, wnd=window, timer=_Timer(fps))
            window.show_config(instance)
            moderngl_window.run_window_config_instance(instance)
        if window.frames < (needed := 1 if whole else frames):
            raise RuntimeError(f"{config.__name__} closed its window before frame {needed}")
    return about


def _checked(path: Path, frames: int, fps: float) -> Path:
    if path.suffix not in (".png", ".mp4"):
        raise ValueError(f"output={str(path)!r} is neither a .png nor an .mp4")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"output={str(path)!r} is no name for a file in a folder that is there")
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames={frames!r} is no number from 1 on")
    if not 0 < fps < math.inf:
        raise ValueError(f"fps={fps!r} is no number above 0")
    return path


@contextlib.contextmanager
def _opened(
    config: type[WindowConfig], values: Namespace, frames: int, take: Callable[[Window], None]
) -> Iterator[Window]:
    """The window that a config asks for, moderngl-window's active one until the block's end."""
    width, height = values.size or config.window_size
    window = Window(
        frames,
        take,
        title=config.title,
        size=(int(width * values.size_mult), int(height * values.size_mult)),
        gl_version=config.gl_version,
        aspect_ratio=config.aspect_ratio,
        samples=config.samples if values.samples is None else values.samples,
        context_creation_func=config.init_mgl_context,
    )
    refs = moderngl_window.ContextRefs
    before = refs.WINDOW, refs.CONTEXT
    moderngl_window.activate_context(window)
    try:
        yield window
    finally:
        refs.WINDOW, refs.CONTEXT = before
        window.destroy()


class Window(HeadlessWindow):
    """A window of moderngl-window's that nobody sees, with a context of ours.

    Its framebuffer, which is ``ctx.screen`` too, has a depth buffer, and as many samples as were
    asked for, or else as the driver has.

    Arguments:
        last: after how many frames it closes.
        take: is given the window at the end of each.
        settings: those of ``moderngl_window.BaseWindow``.

    Raises:
        GPUContextError: there is no context of `gl_version`.
    """

    name = "moderngl_colab"

    def __init__(self, last: int, take: Callable[[Window], None], **settings: Any) -> None:
        self._last, self._take = last, take
        super().__init__(**settings)

    def init_mgl_context(self) -> None:
        """Take the context that the WindowConfig gives, if it does; else make one."""
        own = self._context_creation_func() if self._context_creation_func is not None else None
        self._ctx = get_gpu_context(self.gl_version_code) if own is None else own
        with contextlib.ExitStack() as stack:
            stack.callback(self.destroy)
            self._samples = min(self.samples, self._ctx.max_samples)
            self._create_fbo()
            self.use()
            stack.pop_all()

    def _create_fbo(self) -> None:
        super()._create_fbo()
        # A context without a surface has no screen, and configs draw to it.
        vars(self._ctx)["_screen"] = self._fbo

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


class _Timer(BaseTimer):
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
