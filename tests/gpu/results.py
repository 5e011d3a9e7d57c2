"""What a run on a GPU gave, as it is kept: records, and their JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

__all__ = [
    "OUTCOMES",
    "SCHEMA_VERSION",
    "Figure",
    "Result",
    "Tested",
    "load",
    "save",
    "to_dict",
    "write",
]

SCHEMA_VERSION = 1
"""Grows when a field goes or changes its meaning."""

OUTCOMES = ("passed", "failed", "skipped")


class Figure(NamedTuple):
    """One thing that was measured, or seen."""

    name: str
    value: float | str | bool | None
    unit: str | None
    """None for what is no number."""


class Tested(NamedTuple):
    """One claim's test."""

    test: str
    """Its function and, in brackets, its case."""
    claim: str
    """What it claims, in one sentence."""
    outcome: str
    reason: str | None
    """Why it was skipped, or what failed."""
    figures: tuple[Figure, ...]


class Result(NamedTuple):
    """One run of the suite."""

    schema_version: int
    date: str
    """In UTC, as ISO 8601 has it."""
    stand_in: bool
    """Whether the driver is the test rig's, which proves nothing of NVIDIA's."""
    quick: bool
    """Whether less was done than is claimed."""
    driver: str
    gpu: str
    gpus: int
    moderngl_colab: str
    moderngl: str
    glcontext: str
    python: str
    kernel: str
    system: str
    platform: str
    """Where it ran: ``"colab"``, ``"docker"``, ``"host"`` ..."""
    tests: tuple[Tested, ...]


_KINDS: dict[str, type | UnionType] = {
    "schema_version": int,
    "gpus": int,
    "stand_in": bool,
    "quick": bool,
    "value": float | int | str | bool | None,
    "unit": str | None,
    "reason": str | None,
}


def to_dict(result: Result) -> dict[str, Any]:
    """A run as plain data."""
    tests = [
        test._asdict() | {"figures": [figure._asdict() for figure in test.figures]}
        for test in result.tests
    ]
    return result._asdict() | {"tests": tests}


def save(data: dict[str, Any], folder: Path) -> Path:
    """Write a run as JSON, whole or not at all.

    Arguments:
        data: as :func:`to_dict` gives it.
        folder: is created.

    Returns:
        The file, whose name is the driver's version and the GPU's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join((data["driver"], *re.findall(r"[A-Za-z0-9]+", data["gpu"])))
    path = folder / f"{name}.json"
    write(path, json.dumps(data, indent=2) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    half = path.with_suffix(f".{os.getpid()}")
    try:
        half.write_text(text)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def load(path: Path) -> Result:
    """Read what :func:`save` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not that; the text names the file and the field.
    """
    try:
        result: Result = _record(Result, json.loads(path.read_text()), "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if result.schema_version != SCHEMA_VERSION:
        version = result.schema_version
        raise ValueError(f"{path}: schema_version is {version}; {SCHEMA_VERSION} can be read")
    return result


def _record(kind: Any, data: Any, place: str) -> Any:
    """A record of a kind, with the records in it."""
    if not isinstance(data, dict):
        raise ValueError(f"{place or 'it'} is no object")
    if different := set(data) ^ set(kind._fields):
        name = min(different)
        raise ValueError(f"{place}{name} is {'unknown' if name in data else 'missing'}")
    fields = {name: _field(name, data[name], f"{place}{name}") for name in kind._fields}
    return kind(**fields)


def _field(name: str, value: Any, place: str) -> Any:
    inner = {"tests": Tested, "figures": Figure}.get(name)
    if inner is not None:
        if not isinstance(value, list):
            raise ValueError(f"{place} is no list")
        return tuple(
            _record(inner, each, f"{place}[{number}].") for number, each in enumerate(value)
        )
    kind = _KINDS.get(name, str)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{place} is {value!r}")
    if name == "outcome" and value not in OUTCOMES:
        raise ValueError(f"{place} is {value!r}, and none of {', '.join(OUTCOMES)}")
    return value
