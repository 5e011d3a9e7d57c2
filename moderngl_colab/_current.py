"""Which OpenGL context is current in this thread, whoever made it; unbinding and binding it.

EGL and GLX must not mix: glXMakeCurrent ends the process (BadAccess) while an EGL context is
current, and eglMakeCurrent fails (EGL_BAD_ACCESS) while a GLX one is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from moderngl_colab import _egl, _glx

__all__ = [
    "Binding",
    "bind",
    "current",
    "held_elsewhere",
    "hold",
    "holder",
    "kept",
    "nothing_current",
    "release",
    "unbind",
]

Binding = _egl.Binding | _glx.Binding

# eglMakeCurrent refuses a context that is current in another thread. glXMakeCurrent should; Mesa's
# does not look, and the process crashes when both threads draw.
_holders: dict[_glx.Binding, threading.Thread] = {}


def current() -> Binding | None:
    """What is current; None also where no GL library is loaded."""
    instances = _egl.loaded()
    # One instance of libEGL is enough to ask: all keep what is current in one libGLdispatch.
    if instances and (binding := instances[0].current()) is not None:
        return binding
    glx = _glx.loaded()
    return glx.current() if glx is not None else None


def bind(binding: Binding | None) -> None:
    """Make current what :func:`current` gave, if another thread does not hold it.

    Nothing may be current.
    """
    if isinstance(binding, _egl.Binding):
        any(egl.bind(binding) for egl in _egl.loaded())
    elif (
        binding is not None
        and (glx := _glx.loaded()) is not None
        and not held_elsewhere(binding)
        and glx.bind(binding)
    ):
        hold(binding)


def held_elsewhere(binding: Binding | None) -> bool:
    """Whether a GLX context is current in another thread, which lives."""
    thread = holder(binding)
    return thread is not None and thread is not threading.current_thread()


def holder(binding: Binding | None) -> threading.Thread | None:
    """The thread, of those which live, that a GLX context is current in."""
    thread = _holders.get(binding) if isinstance(binding, _glx.Binding) else None
    return thread if thread is not None and thread.is_alive() else None


def hold(binding: Binding | None) -> None:
    """Keep in mind that it is current in this thread."""
    if isinstance(binding, _glx.Binding):
        _holders[binding] = threading.current_thread()


def release(binding: Binding | None) -> None:
    """Keep in mind that it is current nowhere."""
    if isinstance(binding, _glx.Binding):
        _holders.pop(binding, None)


def unbind(binding: Binding | None) -> None:
    """Leave nothing current, where `binding` is what :func:`current` gave."""
    if isinstance(binding, _egl.Binding):
        any(egl.unbind(binding) for egl in _egl.loaded())
    elif binding is not None and (glx := _glx.loaded()) is not None:
        glx.unbind(binding)
        release(binding)


@contextmanager
def kept() -> Iterator[None]:
    """A block that starts with nothing current, and after which the same is so as before."""
    before = current()
    try:
        unbind(before)
        yield
    finally:
        unbind(current())
        bind(before)


@contextmanager
def nothing_current() -> Iterator[None]:
    """A block that starts with nothing current; if it raises, what was current is so again."""
    before = current()
    try:
        unbind(before)
        yield
    except BaseException:
        unbind(current())
        bind(before)
        raise
