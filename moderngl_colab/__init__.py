"""Headless Python on the GPU for OpenGL.

::

    import moderngl_colab

    ctx = moderngl_colab.get_gpu_context()

Importing has no effect on the process: what is named here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderngl_colab.context import get_gpu_context
    from moderngl_colab.errors import (
        Attempt,
        GPUContextError,
        Outcome,
        SoftwareRenderingWarning,
        StrategyFailed,
        StrategyUnavailable,
    )
    from moderngl_colab.info import ContextInfo, describe
    from moderngl_colab.strategies.base import Request, Strategy

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "ContextInfo",
    "GPUContextError",
    "Outcome",
    "Request",
    "SoftwareRenderingWarning",
    "Strategy",
    "StrategyFailed",
    "StrategyUnavailable",
    "describe",
    "get_gpu_context",
]

_HOMES = {
    "Attempt": "errors",
    "ContextInfo": "info",
    "GPUContextError": "errors",
    "Outcome": "errors",
    "Request": "strategies.base",
    "SoftwareRenderingWarning": "errors",
    "Strategy": "strategies.base",
    "StrategyFailed": "errors",
    "StrategyUnavailable": "errors",
    "describe": "info",
    "get_gpu_context": "context",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in ("errors", "strategies"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
