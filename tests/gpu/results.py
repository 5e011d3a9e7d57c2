"""What a run on a GPU gave, as it is kept: records, and their JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from itertools import count
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

import moderngl_colab

__all__ = [
    "OUTCOMES",
    "SCHEMA_VERSION",
    "Figure",
    "Result",
    "Tested",
    "add",
    "code",
    "load",
    "merged",
    "read",
    "same",
    "to_dict",
    "write",
]

SCHEMA_VERSION = 1
"""Grows when a field goes or changes its meaning."""

OUTCOMES = ("failed", "passed", "skipped")
"""That which counts most comes first."""


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
    """In UTC, as ISO 8601 has it; of the last part."""
    stand_in: bool
    """Whether the driver is the test rig's, which proves nothing of NVIDIA's."""
    quick: bool
    """Whether less was done than is claimed."""
    driver: str
    gpu: str
    gpus: int
    moderngl_colab: str
    code: str
    """What :func:`code` gave there."""
    moderngl: str
    glcontext: str
    python: str
    kernel: str
    system: str
    platform: str
    """Where it ran: ``"colab"``, ``"docker"``, ``"host"`` ..."""
    tests: tuple[Tested, ...]


_MOST_NAME = 100  # characters
_CODE_DIGITS = 12

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


def code() -> str:
    """Which code this is, whatever its version: of the library's and this suite's Python files.

    Returns:
        The beginning of a SHA-256, in hexadecimal digits.
    """
    files = sorted(
        f"{path.relative_to(folder.parent)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for folder in (Path(moderngl_colab.__file__).parent, Path(__file__).parent)
        for path in folder.rglob("*.py")
        if path.is_file()  # An editor's lock is a link to nowhere.
    )
    return hashlib.sha256("\n".join(files).encode()).hexdigest()[:_CODE_DIGITS]


def same(one: Result, other: Result) -> bool:
    """Whether two runs were of the same code on the same: they are parts of one result then."""
    parts: dict[str, Any] = {"date": "", "tests": ()}
    return one._replace(**parts) == other._replace(**parts)


def merged(one: Result, other: Result) -> Result:
    """Two parts of one result: what failed in either has failed, and no outcome is lost to a skip.

    Of equal outcomes it is the later.
    """
    before, after = sorted((one, other), key=lambda part: part.date)
    tests = {test.test: test for test in before.tests}
    for test in after.tests:
        known = tests.get(test.test, test)
        if OUTCOMES.index(test.outcome) <= OUTCOMES.index(known.outcome):
            tests[test.test] = test
    return after._replace(tests=tuple(tests.values()))


def add(result: Result, folder: Path) -> Path:
    """Write a run into a folder: what is there of the same is added to, all else is left.

    Returns:
        The file, whose name is the driver's version and the GPU's name, and a number from the
        second of them on.
    """
    for there in folder.glob("*.json"):
        with contextlib.suppress(ValueError):  # What cannot be read is nothing of ours to lose.
            before = load(there)
            if same(before, result):
                result, path = merged(before, result), there
                break
    else:
        name = _name(result)
        names = (f"{name}{'' if number == 1 else f'-{number}'}.json" for number in count(1))
        path = next(path for path in map(folder.joinpath, names) if not path.exists())
    folder.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(to_dict(result), indent=2) + "\n")
    return path


def _name(result: Result) -> str:
    words = "-".join((result.driver, *re.findall(r"[A-Za-z0-9]+", result.gpu)))
    return words[:_MOST_NAME]


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    half = path.with_suffix(f".{os.getpid()}")
    try:
        half.write_text(text)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def load(path: Path) -> Result:
    """Read what :func:`add` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not that; the text names the file and the field.
    """
    try:
        result = read(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if result.schema_version != SCHEMA_VERSION:
        version = result.schema_version
        raise ValueError(f"{path}: schema_version is {version}; {SCHEMA_VERSION} can be read")
    return result


def read(data: object) -> Result:
    """A run of plain data, as :func:`to_dict` gives it.

    Raises:
        ValueError: it is not that; the text names the field.
    """
    result: Result = _record(Result, data, "")
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
