"""What a context runs on."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import moderngl

from moderngl_colab import _current, gl
from moderngl_colab.errors import Attempt

__all__ = ["ContextInfo", "describe", "remember"]


class ContextInfo(NamedTuple):
    """What a context runs on, and how it came to be."""

    strategy: str | None
    """The name of the strategy that made it; None for a context that we did not make."""
    vendor: str
    """GL_VENDOR."""
    renderer: str
    """GL_RENDERER."""
    version: str
    """GL_VERSION."""
    software: bool
    """Whether it renders on the CPU."""
    egl_device: int | None
    """The index of its EGL device; None for GLX, and for a context that we did not make."""
    attempts: tuple[Attempt, ...]
    """Every strategy of the chain in its order, those not reached among them."""
    seconds: float | None
    """How long :func:`get_gpu_context` took, in seconds; None where it was not called."""


_made: weakref.WeakKeyDictionary[moderngl.Context, ContextInfo] = weakref.WeakKeyDictionary()


def remember(context: moderngl.Context, info: ContextInfo) -> None:
    """Keep what the chain knows of a context, for as long as the context lives."""
    _made[context] = info


def describe(context: moderngl.Context) -> ContextInfo:
    """Say what a context runs on.

    Arguments:
        context: any moderngl context; it need not be current, nor made by this library.

    Raises:
        TypeError: it is something else.
        ValueError: it was released, and nothing is known of it.
        RuntimeError: it cannot be made current here, for it is current in another thread.
    """
    if not isinstance(context, moderngl.Context):
        raise TypeError(f"describe() takes a moderngl.Context, not {type(context).__name__}")
    if (known := _made.get(context)) is not None:
        return known
    if isinstance(context.mglo, moderngl.InvalidObject):
        raise ValueError("this context was released before it was described")
    with _current.kept():
        context.mglo.__enter__()
        if _current.current() is None:
            raise RuntimeError(
                "this context cannot be made current in this thread; a context is current in one "
                "thread at a time: describe it there, or leave it there first"
            )
        info = context.info
    return ContextInfo(
        strategy=None,
        vendor=info["GL_VENDOR"],
        renderer=info["GL_RENDERER"],
        version=info["GL_VERSION"],
        software=gl.is_software(info["GL_RENDERER"]),
        egl_device=None,
        attempts=(),
        seconds=None,
    )
