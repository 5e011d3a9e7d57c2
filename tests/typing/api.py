"""The public API as a type checker sees it; this file is checked and never run."""

from __future__ import annotations

from typing import assert_type

import moderngl

import moderngl_colab
from moderngl_colab import (
    GPU,
    Attempt,
    ContextInfo,
    Finding,
    ForkedProcessError,
    GLContext,
    GPUContextError,
    GPUMemory,
    Machine,
    Outcome,
    Report,
    Request,
    Severity,
    SoftwareRenderingWarning,
    Strategy,
    StrategyFailed,
    StrategyUnavailable,
    Verdict,
    describe,
    diagnose,
    get_gpu_context,
    prepare_environment,
    visible_gpus,
)
from moderngl_colab.strategies import DEFAULT_STRATEGIES


class Own:
    """A strategy of a user's own."""

    name = "own"
    vendor = "NVIDIA"

    def create(self, request: Request) -> GLContext:
        """Fail in each of the two ways."""
        if request.device_index is None:
            raise StrategyUnavailable("reason", remedy="remedy", cause="cause")
        raise StrategyFailed(f"OpenGL {request.version}")


def check() -> None:
    """Use every public name."""
    assert_type(get_gpu_context(), moderngl.Context)
    get_gpu_context(430, allow_software=False, strategies=["egl", Own()])
    get_gpu_context(require=None, strategies="egl,mesa", standalone=True, backend="egl")
    get_gpu_context(device_index=1, share=False)
    get_gpu_context(timeout=0.5, probe=True)
    get_gpu_context(timeout="5")  # type: ignore[arg-type]
    assert_type(Request(330).until, float)
    get_gpu_context(colour=1)  # type: ignore[call-arg]
    get_gpu_context(require="430")  # type: ignore[arg-type]
    get_gpu_context(strategies=[1])  # type: ignore[list-item]

    info = describe(get_gpu_context())
    assert_type(info, ContextInfo)
    assert_type(info.strategy, str | None)
    assert_type(info.software, bool)
    assert_type(info.egl_device, int | None)
    assert_type(info.seconds, float | None)
    assert_type(info.cuda_device, int | None)
    assert_type(info.gpu, GPU | None)
    assert_type(info.gpu_memory(), GPUMemory | None)
    assert_type(visible_gpus(), tuple[GPU, ...])
    get_gpu_context(device="cuda:1")
    issubclass(ForkedProcessError, GPUContextError)
    assert_type(info.attempts, tuple[Attempt, ...])
    assert_type(info.attempts[0].outcome, Outcome)
    assert_type(info.attempts[0].remedy, str | None)
    info.vendor = ""  # type: ignore[misc]

    assert_type(DEFAULT_STRATEGIES, tuple[Strategy, ...])
    own: Strategy = Own()
    assert_type(own.vendor, str | None)
    try:
        get_gpu_context()
    except GPUContextError as error:
        assert_type(error.attempts, tuple[Attempt, ...])
    issubclass(SoftwareRenderingWarning, RuntimeWarning)
    assert_type(moderngl_colab.__version__, str)

    report = diagnose(strategies=["egl"], try_strategies=False, full=True, timeout=1)
    assert_type(report, Report)
    assert_type(report.verdict, Verdict)
    assert_type(report.findings, tuple[Finding, ...])
    assert_type(report.findings[0].severity, Severity)
    assert_type(report.findings[0].remedy, str)
    assert_type(report.attempts[0].outcome, Outcome)
    assert_type(report.facts, Machine)
    assert_type(report.picture, bytes | None)
    report.findings[0].code = "mig"  # type: ignore[misc]
    diagnose("egl")  # type: ignore[call-arg]
    assert_type(prepare_environment(), dict[str, str])
    assert_type(prepare_environment(device="cuda:1"), dict[str, str])
