"""moderngl-window without a window: an existing ``WindowConfig`` renders to a file.

::

    from moderngl_colab import window

    window.run(MyConfig, "frame.png", frames=60)
    window.run(MyConfig, "film.mp4", frames=240, args=["--size", "640x480"])

It needs ``pip install "moderngl_colab[window]"``.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import moderngl

from moderngl_colab import _current, _fork
from moderngl_colab._film import film
from moderngl_colab._whole import naming, whole
from moderngl_colab.context import get_gpu_context
from moderngl_colab.info import ContextInfo, describe

try:
    import moderngl_window
    from moderngl_window.context.base import WindowConfig

    from moderngl_colab._window import Timer, Window
except ModuleNotFoundError as absent:
    text = f'moderngl_colab.window needs {absent.name}: pip install "moderngl_colab[window]"'
    raise ModuleNotFoundError(text, name=absent.name) from None

__all__ = ["run"]


class _State:
    alone = threading.RLock()
    """moderngl-window has one active window in a process."""


def run(
    config: type[WindowConfig],
    output: str | Path,
    *,
    frames: int = 1,
    fps: float = 60,
    args: Sequence[str] = (),
) -> ContextInfo:
    """Render a WindowConfig as it is to a file; its context is released at the end.

    One that the config's ``init_mgl_context`` gives, and that was made before, is not released, and
    its bound framebuffer and its screen are as before. What the config draws with is then the
    config's to release.

    One thread's call is served at a time, for moderngl-window has one active window in a process;
    another thread's waits for its end.

    Arguments:
        config: the class, as ``moderngl_window.run_window_config`` takes it.
        output: a ``.png``, of the last frame, or an ``.mp4``, of all. Only a whole one replaces a
            file that is there; a symbolic link is followed.
        frames: how many are rendered. A film is shorter if the config closes its window.
        fps: frames per second of the config's time, from 0.001 to a million: the first frame is at
            0 s, frame n at (n - 1) / fps, however long it takes to draw.
        args: the command line of moderngl-window (``["--size", "640x480", "--samples", "4"]``) and
            of the config. This process's own is not read.

    Returns:
        What it was rendered on.

    Raises:
        GPUContextError: there is no context of the config's ``gl_version``.
        ValueError: `output`, `frames`, `fps`, the window's size or its samples are impossible, or
            a film's size is odd or changes.
        RuntimeError: the config closed its window before the last frame of a picture, or the first
            of a film; or it gives a context that is none, was released, or is current in another
            thread.
        OSError: the file cannot be written.
        SystemExit: `args` are wrong, as moderngl-window says on stderr.

    Warns:
        SoftwareRenderingWarning: the context renders on the CPU.
    """
    path, frames, fps = _checked(Path(output), frames, fps)
    parser = moderngl_window.create_parser()
    config.add_arguments(parser)
    values = parser.parse_args(list(args))
    every = path.suffix.lower() == ".mp4"
    # What was current in this thread is so again at the end.
    with (
        _State.alone,
        _current.kept(),
        whole(path) as part,
        film(part, path, fps) as add,
        ExitStack() as stack,
    ):

        def take(window: Window) -> None:
            if every:
                add(window.picture())
            elif window.frames == frames:
                with naming(path):
                    window.picture().save(part, "PNG")

        config.argv = values
        if (ctx := _given(config, stack)) is None:
            # Here and nowhere deeper: a warning names the line that called this module.
            ctx = get_gpu_context(config.gl_version[0] * 100 + config.gl_version[1] * 10)
            stack.callback(ctx.release)
        about = describe(ctx)
        with _opened(config, values, ctx, frames, take) as window:
            instance = config(ctx=ctx, wnd=window, timer=Timer(fps))
            window.show_config(instance)
            moderngl_window.run_window_config_instance(instance)
        if window.frames < (needed := 1 if every else frames):
            raise RuntimeError(f"{config.__name__} closed its window before frame {needed}")
    return about


def _checked(path: Path, frames: int, fps: float) -> tuple[Path, int, float]:
    if path.suffix.lower() not in (".png", ".mp4"):
        raise ValueError(f"output={str(path)!r} is neither a .png nor an .mp4")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"output={str(path)!r} is no name for a file in a folder that is there")
    if isinstance(frames, bool) or not hasattr(frames, "__index__") or frames < 1:
        raise ValueError(f"frames={frames!r} is no number from 1 on")
    if not 0.001 <= fps <= 1_000_000:
        raise ValueError(f"fps={fps!r} is no number from 0.001 to 1000000")
    return path, operator.index(frames), float(fps)


def _given(config: type[WindowConfig], stack: ExitStack) -> moderngl.Context | None:
    """The context that a config gives, if it does: current until the stack is unwound.

    One that was made for it is released then.
    """
    # moderngl keeps the one that was made last; get_context() would make one where there is none.
    store = vars(moderngl)["_store"]
    before = store.default_context
    ctx: moderngl.Context | None = config.init_mgl_context()
    if ctx is None:
        return None
    if not isinstance(ctx, moderngl.Context):
        raise RuntimeError(
            f"{config.__name__}.init_mgl_context() gives no moderngl.Context, but {ctx!r}"
        )
    if isinstance(ctx.mglo, moderngl.InvalidObject):
        raise RuntimeError(f"the context that {config.__name__} gives was released")
    if ctx is store.default_context and ctx is not before:
        stack.callback(ctx.release)
    stack.enter_context(ctx)
    return ctx


@contextlib.contextmanager
def _opened(
    config: type[WindowConfig],
    values: Namespace,
    ctx: moderngl.Context,
    frames: int,
    take: Callable[[Window], None],
) -> Iterator[Window]:
    """The window that a config asks for, moderngl-window's active one until the block's end."""
    asked = values.size or config.window_size
    try:
        width, height = (int(side * values.size_mult) for side in asked)
    except (TypeError, ValueError, OverflowError):
        times = "" if values.size_mult == 1 else f", times {values.size_mult!r},"
        raise ValueError(f"window_size={asked!r}{times} is no width and height") from None
    window = Window(
        ctx,
        frames,
        take,
        title=config.title,
        size=(width, height),
        gl_version=config.gl_version,
        aspect_ratio=config.aspect_ratio,
        samples=config.samples if values.samples is None else values.samples,
    )
    refs = moderngl_window.ContextRefs
    before = refs.WINDOW, refs.CONTEXT
    moderngl_window.activate_context(window)
    try:
        yield window
    finally:
        refs.WINDOW, refs.CONTEXT = before
        window.destroy()


def _renew_lock() -> None:
    """In a forked child nobody may be left to release it."""
    _State.alone = threading.RLock()


_fork.in_child(_renew_lock)
