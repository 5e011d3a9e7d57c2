"""The ways to a context, in the order in which they are tried.

Direct EGL comes first: it needs no server and leaves nothing behind. GLX over Xvfb comes
second: it needs a child process, but reaches drivers whose EGL half is absent. Mesa comes last
and is the only one that may render on the CPU.
"""

from __future__ import annotations

from moderngl_colab.strategies.base import Request, Strategy
from moderngl_colab.strategies.egl import DirectEGL
from moderngl_colab.strategies.glx import NvidiaGLX
from moderngl_colab.strategies.mesa import Mesa

__all__ = ["DEFAULT_STRATEGIES", "DirectEGL", "Mesa", "NvidiaGLX", "Request", "Strategy"]

DEFAULT_STRATEGIES: tuple[Strategy, ...] = (DirectEGL(), NvidiaGLX(), Mesa())
