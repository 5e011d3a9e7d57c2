"""NVML through pynvml, as plain data. It explains; whether a GPU can be used never hangs on it."""

from __future__ import annotations

import contextlib
import ctypes
from typing import NamedTuple

__all__ = ["GPU", "Answer", "ask"]


class GPU(NamedTuple):
    """A GPU as NVML lists it."""

    name: str
    mig: bool
    """Whether it is cut into MIG slices, which have no graphics on compute cards."""


class Answer(NamedTuple):
    """What NVML said: either its error or the driver's version and the GPUs."""

    error: str | None = None
    """For instance ``"NVML: Driver/library version mismatch (18)"``."""
    driver: str | None = None
    gpus: tuple[GPU, ...] = ()

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        return f"NVML lists {', '.join(gpu.name for gpu in self.gpus) or 'no GPU'}"

    @property
    def sliced(self) -> str | None:
        """The name of the first GPU that is in MIG mode."""
        return next((gpu.name for gpu in self.gpus if gpu.mig), None)


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
        return Answer(error=f"NVML: {error} ({error.value})")
    try:
        return Answer(
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
            gpus=tuple(map(_gpu, range(pynvml.nvmlDeviceGetCount()))),
        )
    except pynvml.NVMLError as error:
        return Answer(error=f"NVML: {error} ({error.value})")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(index: int) -> GPU:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        mig = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError:  # Cards without MIG say "not supported".
        mig = False
    return GPU(_text(pynvml.nvmlDeviceGetName(handle)), mig)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
