"""NVML through pynvml, as plain data. It explains; whether a GPU can be used never hangs on it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["GPU", "Answer", "ask"]

_NAMELESS = "GPU without a name"
_MOST_GPUS = 256
_MOST_MEMORY = 1 << 48  # bytes


class GPU(NamedTuple):
    """A GPU as NVML lists it; None for what NVML does not say, or says nonsense of."""

    name: str
    mig: bool
    """Whether it is cut into MIG slices, which have no graphics on compute cards."""
    memory_total: int | None = None
    """In bytes."""
    uuid: str | None = None
    """``"GPU-..."``."""


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


def ask(library: str | None = None) -> Answer:
    """Ask NVML once, from its beginning to its end.

    Arguments:
        library: path of ``libnvidia-ml.so.1``, for a driver outside the loader's path; pynvml
            looks it up by name, and finds what is open.
    """
    import pynvml

    if library is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(library)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _refused(error)
    try:
        count = min(pynvml.nvmlDeviceGetCount(), _MOST_GPUS)
        return Answer(
            driver=_text(pynvml.nvmlSystemGetDriverVersion), gpus=tuple(map(_gpu, range(count)))
        )
    except pynvml.NVMLError as error:
        return _refused(error)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _refused(error: Any) -> Answer:
    try:
        words = str(error)
    except ValueError:  # NVML names a code that pynvml does not know, and not in UTF-8.
        words = "an error without a name"
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
    )


def _said(question: Callable[..., Any], *handles: Any) -> Any:
    """The answer to a question; None where NVML refuses it, or its text is not UTF-8."""
    import pynvml

    try:
        return question(*handles)
    except (pynvml.NVMLError, ValueError):
        return None


def _text(question: Callable[..., Any], *handles: Any) -> str | None:
    """As :func:`_said`; None for what cannot be printed, too."""
    said = _said(question, *handles)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return text if isinstance(text, str) and text and text.isprintable() else None
