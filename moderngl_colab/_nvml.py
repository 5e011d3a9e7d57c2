"""NVML through pynvml, as plain data. It explains; whether a GPU can be used never hangs on it.

It can hang, inside the driver; how long it is waited for in this process is bounded.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from moderngl_colab import _bounded
from moderngl_colab._kernel import pci_address

__all__ = ["GPU", "Answer", "answered", "ask", "ask_here", "used"]

_NAMELESS = "GPU without a name"
_MOST_GPUS = 256
_MOST_MEMORY = 1 << 48  # bytes
_FIRST_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel's proc_ns.h


class GPU(NamedTuple):
    """A GPU as NVML lists it; None for what NVML does not say, or says nonsense of."""

    name: str
    mig: bool
    """Whether it is cut into MIG slices, which have no graphics on compute cards."""
    memory_total: int | None = None
    """In bytes."""
    uuid: str | None = None
    """``"GPU-..."``."""
    pci: str | None = None
    """Its PCI address as the kernel writes it, ``"0000:0f:00.0"``."""


class Answer(NamedTuple):
    """What NVML said: either its error or the driver's version and the GPUs."""

    error: str | None = None
    """For instance ``"NVML: Driver/library version mismatch (18)"``."""
    driver: str | None = None
    gpus: tuple[GPU, ...] = ()
    code: int | None = None
    """The error's nvmlReturn_t; None where there is none."""

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        return f"NVML lists {', '.join(gpu.name for gpu in self.gpus) or 'no GPU'}"

    @property
    def sliced(self) -> str | None:
        """The name of the first GPU, if every one of them is in MIG mode."""
        return self.gpus[0].name if self.gpus and all(gpu.mig for gpu in self.gpus) else None


def ask(library: str | None = None, until: float = math.inf) -> Answer:
    """Ask NVML once, from its beginning to its end; for 10 s at most.

    Arguments:
        library: path of ``libnvidia-ml.so.1``, for a driver outside the loader's path; pynvml
            looks it up by name, and finds what is open.
        until: when to give up, in seconds of :func:`time.monotonic`.
    """
    try:
        return answered(library, until)
    except _bounded.SilentError as error:
        return Answer(error=str(error))


def answered(library: str | None = None, until: float = math.inf) -> Answer:
    """As :func:`ask`, where a silence must not be taken for a list without GPUs.

    Raises:
        _bounded.SilentError: NVML did not answer in time.
    """
    return _bounded.ask("NVML", partial(ask_here, library), until)


def ask_here(library: str | None = None) -> Answer:
    """As :func:`ask`, for as long as it takes: in a process that somebody else limits."""
    import pynvml

    try:
        with _running(library):
            count = min(pynvml.nvmlDeviceGetCount(), _MOST_GPUS)
            gpus = tuple(map(_gpu, range(count)))
            return Answer(driver=_text(pynvml.nvmlSystemGetDriverVersion), gpus=gpus)
    except pynvml.NVMLError as error:
        return _refused(error)
    except pynvml.NVMLLibraryMismatchError as error:
        return Answer(error=f"NVML: {error}")


def used(uuid: str, library: str | None = None) -> tuple[int, int, int | None] | None:
    """How much of a GPU's memory there is, is used, and is used by this process, in bytes.

    Arguments:
        uuid: the GPU's.
        library: as for :func:`ask`.

    Returns:
        The third is None where NVML tells of processes of another PID namespace, or may: where
        /proc hides which one this is; None altogether where it does not answer.
    """
    try:
        return _bounded.ask("NVML", partial(_used, uuid, library), math.inf)
    except _bounded.SilentError:
        return None


def _used(uuid: str, library: str | None) -> tuple[int, int, int | None] | None:
    import pynvml

    try:
        with _running(library):
            gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            memory = _said(
                partial(pynvml.nvmlDeviceGetMemoryInfo, version=pynvml.nvmlMemory_v2), gpu
            )
            # Drivers before 510 count what is reserved as used.
            memory = memory or pynvml.nvmlDeviceGetMemoryInfo(gpu)
            if not 0 < memory.total < _MOST_MEMORY:
                return None
            return memory.total, memory.used, _own(gpu)
    except _refusals():
        return None


@contextlib.contextmanager
def _running(library: str | None) -> Iterator[None]:
    import pynvml

    if library is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(library)
    pynvml.nvmlInit()
    try:
        yield
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _own(gpu: Any) -> int | None:
    """How much of a GPU's memory this process uses, in bytes."""
    import pynvml

    drawing = _said(pynvml.nvmlDeviceGetGraphicsRunningProcesses, gpu)
    computing = _said(pynvml.nvmlDeviceGetComputeRunningProcesses, gpu)
    if drawing is None and computing is None:
        return None
    # Who does both is in both lists, with the same figure.
    ours = [p.usedGpuMemory for p in [*(drawing or ()), *(computing or ())] if p.pid == os.getpid()]
    if not ours:
        return 0 if _is_in_the_first_namespace() else None
    return None if None in ours else max(ours)


def _is_in_the_first_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    except OSError:  # The kernel has no PID namespaces, or /proc is masked.
        return False


def _refused(error: Any) -> Answer:
    try:
        words = str(error)
    except ValueError:  # NVML names a code that pynvml does not know, and not in UTF-8.
        words = ""
    words = words if words.isprintable() and words else "an error without a name"
    return Answer(error=f"NVML: {words} ({error.value})", code=error.value)


def _gpu(index: int) -> GPU:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    mode = _said(pynvml.nvmlDeviceGetMigMode, handle)  # Cards without MIG say "not supported".
    memory = _said(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return GPU(
        _text(pynvml.nvmlDeviceGetName, handle) or _NAMELESS,
        mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        memory.total if memory is not None and 0 < memory.total < _MOST_MEMORY else None,
        _text(pynvml.nvmlDeviceGetUUID, handle),
        _pci(handle),
    )


def _pci(handle: Any) -> str | None:
    import pynvml

    info = _said(pynvml.nvmlDeviceGetPciInfo, handle)
    bus_id = None if info is None else _said(lambda: info.busId)
    text = bus_id.decode(errors="replace") if isinstance(bus_id, bytes) else bus_id
    return pci_address(text) if isinstance(text, str) else None


def _said(question: Callable[..., Any], *handles: Any) -> Any:
    """The answer to a question; None where NVML refuses it, or talks nonsense."""
    try:
        return question(*handles)
    except _refusals():
        return None


def _refusals() -> tuple[type[Exception], ...]:
    import pynvml

    # The driver is older than what pynvml asks it for; that is no NVMLError.
    older = pynvml.NVMLLibraryMismatchError
    # Text that is not UTF-8, and lists that are shorter, or far longer, than they were said to be.
    nonsense = (ValueError, IndexError, MemoryError)
    return (pynvml.NVMLError, older, *nonsense)


def _text(question: Callable[..., Any], *handles: Any) -> str | None:
    """As :func:`_said`; None for what cannot be printed, too."""
    said = _said(question, *handles)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return text if isinstance(text, str) and text and text.isprintable() else None
