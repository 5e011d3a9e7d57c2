"""What a strategy is. Write your own by giving an object these three members."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

from moderngl_colab.gl import GLContext

__all__ = ["Request", "Strategy"]


class Request(NamedTuple):
    """What a context was asked to be."""

    version: int
    """The OpenGL version, as moderngl writes it: 330 for 3.3."""
    device_index: int | None = None
    """The EGL device asked for, by its index; None for the strategy's own choice."""
    device: str | None = None
    """The GPU asked for: ``"cuda:1"``, ``"GPU-57a2d1"`` or ``"pci:0000:0f:00.0"``."""
    until: float = math.inf
    """When to give up waiting for a server or a driver, in seconds of :func:`time.monotonic`."""


@runtime_checkable
class Strategy(Protocol):
    """One way to an OpenGL context.

    The chain calls :meth:`create` with nothing current in the thread, reads GL_VENDOR from what
    it returns, and goes on to the next strategy if that is not the vendor asked for::

        class SecondGPU:
            name = "second-gpu"
            vendor = "NVIDIA"

            def create(self, request: Request) -> GLContext:
                egl = glcontext.get_backend_by_name("egl")
                try:
                    return egl(mode="standalone", glversion=request.version, device_index=1)
                except Exception as error:
                    raise StrategyFailed(f"EGL device 1: {error}") from error

        ctx = moderngl_colab.get_gpu_context(strategies=[SecondGPU(), "mesa"])
    """

    @property
    def name(self) -> str:
        """What it is called in attempts and in ``MODERNGL_COLAB_STRATEGIES``."""

    @property
    def vendor(self) -> str | None:
        """What GL_VENDOR must contain for the context to be taken; None takes any."""

    def create(self, request: Request) -> GLContext:
        """Make a context and leave it current in this thread.

        Raises:
            StrategyUnavailable: a prerequisite is absent.
            StrategyFailed: a driver refused.
        """
