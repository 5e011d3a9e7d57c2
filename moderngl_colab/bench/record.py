"""What was measured, as records and as plain data."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import moderngl_colab

__all__ = ["SCHEMA_VERSION", "TRIANGLES", "Measured", "Memory", "Row", "plain", "versions"]

SCHEMA_VERSION = 1
"""Grows when a field goes or changes its meaning."""

TRIANGLES = 1 << 20
"""How many the mesh has."""


class Memory(NamedTuple):
    """How much of a GPU's memory is used, in bytes."""

    process_bytes: int | None
    """By the process that measures; None where a PID namespace hides it."""
    all_bytes: int
    """By everybody."""


class Measured(NamedTuple):
    """A scene at a size."""

    scene: str
    width: int
    height: int
    frames: int
    """How many were drawn while it was measured."""
    seconds: float
    """How long that took."""
    wrong: str | None = None
    """What is wrong with the last of them; its figures count for nothing then."""
    upload: float | None = None
    """How many of the seconds were spent on uploads, in the scene that has them."""
    readback: float | None = None
    """And on reading back."""

    @property
    def frames_per_second(self) -> float | None:
        """None where the frame is wrong; so it is with all that follows."""
        return None if self.wrong is not None else self.frames / self.seconds

    @property
    def pixels_per_second(self) -> float | None:
        """Of all that is drawn."""
        return self._times(self.width * self.height)

    @property
    def triangles_per_second(self) -> float | None:
        """None for scenes without the mesh."""
        return self._times(TRIANGLES) if self.scene == "vertices" else None

    @property
    def upload_bytes_per_second(self) -> float | None:
        """None for scenes without uploads."""
        return self._moved(self.upload)

    @property
    def readback_bytes_per_second(self) -> float | None:
        """None for scenes that read nothing back."""
        return self._moved(self.readback)

    def _times(self, work: int) -> float | None:
        rate = self.frames_per_second
        return None if rate is None else rate * work

    def _moved(self, seconds: float | None) -> float | None:
        if self.wrong is not None or not seconds:
            return None
        return 4 * self.width * self.height * self.frames / seconds


class Row(NamedTuple):
    """What became of a strategy."""

    strategy: str
    outcome: str
    """``"measured"``; ``"wrong"`` where a frame is; else as :class:`moderngl_colab.Outcome`."""
    reason: str
    """Why that is so; for one that was measured, its vendor and renderer."""
    remedy: str | None = None
    cause: str | None = None
    vendor: str | None = None
    renderer: str | None = None
    version: str | None = None
    software: bool | None = None
    gpu: str | None = None
    """NVML's name for the GPU."""
    driver: str | None = None
    nvml: str | None = None
    """Why NVML was not asked for name, driver and memory of this GPU; None where it was."""
    first_context_seconds: float | None = None
    """How long a fresh process took for a context, the import of moderngl included."""
    gpu_memory_before: Memory | None = None
    """Once there was a context, before the first scene."""
    gpu_memory_during: Memory | None = None
    """The most that was seen while a scene was there."""
    measurements: tuple[Measured, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether anything of it counts."""
        return any(measured.wrong is None for measured in self.measurements)


def plain(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Each strategy as plain data, with what follows from its figures and from Mesa's."""
    rows = tuple(rows)
    mesa = {m[:3]: m.frames_per_second for row in rows if row.strategy == "mesa" for m in row[-1]}
    for row in rows:
        data = row._asdict()
        for name in ("gpu_memory_before", "gpu_memory_during"):
            memory = data[name]
            data[name] = None if memory is None else memory._asdict()
        data["measurements"] = [_measurement(m, mesa.get(m[:3])) for m in row.measurements]
        yield data


def _measurement(measured: Measured, mesa: float | None) -> dict[str, Any]:
    rate = measured.frames_per_second
    return {
        **{name: getattr(measured, name) for name in Measured._fields[:5]},
        "frames_per_second": rate,
        "pixels_per_second": measured.pixels_per_second,
        "triangles_per_second": measured.triangles_per_second,
        "upload_bytes_per_second": measured.upload_bytes_per_second,
        "readback_bytes_per_second": measured.readback_bytes_per_second,
        "ratio_to_mesa": None if rate is None or mesa is None else rate / mesa,
        "wrong": measured.wrong,
    }


def versions() -> dict[str, str | None]:
    """Of Python, and of the libraries that draw."""
    from importlib import metadata

    return {
        "python": platform.python_version(),
        "moderngl_colab": moderngl_colab.__version__,
        "moderngl": metadata.version("moderngl"),
    }
