"""What a context runs on."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import NamedTuple

import moderngl

from moderngl_colab import _current, _driver, gl
from moderngl_colab._handle import WRONG_THREAD
from moderngl_colab.errors import Attempt, GPUContextError

__all__ = ["GPU", "ContextInfo", "GPUMemory", "describe", "remember", "visible_gpus"]


class GPU(NamedTuple):
    """The GPU that a context is on; None for what nobody tells of it."""

    name: str | None = None
    """For instance ``"Tesla T4"``."""
    uuid: str | None = None
    """``"GPU-..."``."""
    pci_bus_id: str | None = None
    """Its PCI address, for instance ``"0000:0f:00.0"``."""
    memory: int | None = None
    """How much it has, in bytes."""
    driver: str | None = None
    """The driver's version, for instance ``"550.54.15"``."""


class GPUMemory(NamedTuple):
    """The memory of a GPU, in bytes."""

    total: int
    used: int
    """By everybody."""
    used_by_process: int | None
    """By this process, for OpenGL and CUDA together; None where a PID namespace hides it."""


class _Facts(NamedTuple):
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
    cuda_device: int | None
    """The ordinal that CUDA gives its GPU in this process; None where it is hidden from CUDA, is
    not known, or is not NVIDIA's."""
    gpu_uuid: str | None
    """The UUID of its GPU, ``"GPU-..."``; None where nobody told it when the context was made."""
    gpu_pci: str | None
    """The PCI address of its GPU, ``"0000:0f:00.0"``; None as above."""
    attempts: tuple[Attempt, ...]
    """Every strategy of the chain in its order, those not reached among them."""
    seconds: float | None
    """How long :func:`get_gpu_context` took, in seconds; None where it was not called."""


class ContextInfo(_Facts):
    """What a context runs on, and how it came to be."""

    @cached_property
    def gpu(self) -> GPU | None:
        """The GPU, as NVML tells it, which is asked the first time, for 10 s at most.

        None where it is not known which of several it is, and where it is not NVIDIA's.
        """
        if "NVIDIA" not in self.vendor:
            return None
        from moderngl_colab import _nvml

        answer = _nvml.ask(_driver.find().nvml)
        if self.gpu_uuid is not None:
            same = [gpu for gpu in answer.gpus if gpu.uuid == self.gpu_uuid]
        else:
            same = [gpu for gpu in answer.gpus if self.gpu_pci in (None, gpu.pci)]
        if len(same) != 1:
            known = GPU(uuid=self.gpu_uuid, pci_bus_id=self.gpu_pci)
            return known if any(known) else None
        (gpu,) = same
        return GPU(gpu.name, gpu.uuid, gpu.pci, gpu.memory_total, answer.driver)

    def gpu_memory(self) -> GPUMemory | None:
        """Ask NVML how much of the GPU's memory is used now, for 10 s at most.

        Returns:
            None where it is not known which GPU this is, or NVML does not answer.
        """
        if self.gpu is None or self.gpu.uuid is None:
            return None
        from moderngl_colab import _nvml

        used = _nvml.used(self.gpu.uuid, _driver.find().nvml)
        return None if used is None else GPUMemory(*used)


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
        RuntimeError: it is current in another thread.
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
            raise RuntimeError(WRONG_THREAD)
        info = context.info
    return ContextInfo(
        strategy=None,
        vendor=info["GL_VENDOR"],
        renderer=info["GL_RENDERER"],
        version=info["GL_VERSION"],
        software=gl.is_software(info["GL_RENDERER"]),
        egl_device=None,
        cuda_device=None,
        gpu_uuid=None,
        gpu_pci=None,
        attempts=(),
        seconds=None,
    )


def visible_gpus() -> tuple[GPU, ...]:
    """The NVIDIA GPUs that this process was given, as ``CUDA_VISIBLE_DEVICES`` has it.

    No context is made and no CUDA is initialised; NVML is asked, for 10 s at most.

    Returns:
        The first is ``device=0`` of :func:`get_gpu_context`, and so on. Of several unlike GPUs
        it is only known how many there are, unless they are named by UUID or
        ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``: which is the fastest is CUDA's to say.

    Raises:
        GPUContextError: NVML does not answer in time.
    """
    from moderngl_colab import _bounded, _nvml, devices

    try:
        answer = _nvml.answered(_driver.find().nvml)
    except _bounded.SilentError as silence:
        from moderngl_colab.remedies import ASK_SMI

        error = GPUContextError(f"which GPUs this process was given cannot be told: {silence}")
        if not isinstance(silence, _bounded.NotAskedError):
            error.cause, error.remedy = "driver-hang", ASK_SMI
        raise error from silence
    memory = {gpu.uuid: gpu.memory_total for gpu in answer.gpus if gpu.uuid is not None}
    try:
        given = devices.visible(answer.gpus)
    except devices.NoneGivenError:
        return ()
    return tuple(
        GPU(gpu.name, gpu.uuid, gpu.pci, memory.get(gpu.uuid or ""), answer.driver) for gpu in given
    )
