"""Headless Python on the GPU for OpenGL.

::

    import moderngl_colab

    ctx = moderngl_colab.get_gpu_context()

Importing has no effect on the process: what is named here is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # A type checker knows better; importing typing costs more than all of this.
if TYPE_CHECKING:
    from moderngl_colab import errors, strategies
    from moderngl_colab.context import get_gpu_context
    from moderngl_colab.diagnostics.report import Report, Verdict, diagnose
    from moderngl_colab.errors import (
        Attempt,
        ForkedProcessError,
        GPUContextError,
        Outcome,
        SoftwareRenderingWarning,
        StrategyFailed,
        StrategyUnavailable,
    )
    from moderngl_colab.findings.finding import Finding, Severity
    from moderngl_colab.gl import GLContext
    from moderngl_colab.info import GPU, ContextInfo, GPUMemory, describe, visible_gpus
    from moderngl_colab.installer.install import install_driver
    from moderngl_colab.installer.record import DriverInstall
    from moderngl_colab.installer.source import DriverInstallError
    from moderngl_colab.launch import prepare_environment
    from moderngl_colab.machine import Machine
    from moderngl_colab.strategies.base import Request, Strategy

__version__ = "0.1.0"

__all__ = [
    "GPU",
    "Attempt",
    "ContextInfo",
    "DriverInstall",
    "DriverInstallError",
    "Finding",
    "ForkedProcessError",
    "GLContext",
    "GPUContextError",
    "GPUMemory",
    "Machine",
    "Outcome",
    "Report",
    "Request",
    "Severity",
    "SoftwareRenderingWarning",
    "Strategy",
    "StrategyFailed",
    "StrategyUnavailable",
    "Verdict",
    "describe",
    "diagnose",
    "errors",
    "get_gpu_context",
    "install_driver",
    "prepare_environment",
    "strategies",
    "visible_gpus",
]

_HOMES = {
    "Attempt": "errors",
    "ContextInfo": "info",
    "DriverInstall": "installer.record",
    "DriverInstallError": "installer.source",
    "Finding": "findings.finding",
    "ForkedProcessError": "errors",
    "GPU": "info",
    "GLContext": "gl",
    "GPUContextError": "errors",
    "GPUMemory": "info",
    "Machine": "machine",
    "Outcome": "errors",
    "Report": "diagnostics.report",
    "Request": "strategies.base",
    "Severity": "findings.finding",
    "SoftwareRenderingWarning": "errors",
    "Strategy": "strategies.base",
    "StrategyFailed": "errors",
    "StrategyUnavailable": "errors",
    "Verdict": "diagnostics.report",
    "describe": "info",
    "diagnose": "diagnostics.report",
    "get_gpu_context": "context",
    "install_driver": "installer.install",
    "prepare_environment": "launch",
    "visible_gpus": "info",
}


def _load(name: str) -> object:
    from importlib import import_module

    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in ("errors", "strategies"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if not TYPE_CHECKING:  # or a type checker would take every name for one that is there
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
