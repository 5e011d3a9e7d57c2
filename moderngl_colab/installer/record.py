"""What was installed, written down beside it: by that it is known again, and known to be whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, NamedTuple

from moderngl_colab import _files, _trust
from moderngl_colab.installer.source import Offer, Wanted, one_line

__all__ = ["NAME", "DriverInstall", "is_all", "read", "whole", "write"]

NAME = "moderngl_colab.json"
_MOST = 1 << 20
_LARGEST = 1 << 40  # bytes


class DriverInstall(NamedTuple):
    """The driver's libraries in a folder."""

    version: str
    """For instance ``"550.54.15"``."""
    machine: str
    """For which processors, ``"x86_64"`` or ``"aarch64"``."""
    folder: str
    """Its absolute path."""
    source: str
    """Where they are from: ``"from"``, ``"apt"`` or ``"nvidia"``."""
    what: str
    """What they were taken out of: a path, packages with their versions, or a URL."""
    bytes: int
    """What they take on disk together."""
    files: tuple[str, ...]
    """Their names."""
    fetched: bool = False
    """Whether they were fetched by this call; else they were there, and whole."""

    def __str__(self) -> str:
        has = f"{self.bytes / 1e6:.0f} MB, from {self.what}" if self.files else "damaged"
        return one_line(f"{self.version} for {self.machine}: {self.folder} ({has})")


def write(folder: str, wanted: Wanted, offer: Offer) -> None:
    """Write down what is in a folder.

    Raises:
        OSError: the file system refuses it.
    """
    files = {
        entry.name: {"bytes": entry.stat().st_size, "sha256": _digest(entry.path)}
        for entry in os.scandir(folder)
        if not entry.is_symlink()
    }
    links = {e.name: os.readlink(e.path) for e in os.scandir(folder) if e.is_symlink()}
    said = {
        "version": wanted.version,
        "machine": wanted.machine,
        "source": offer.source,
        "what": offer.what,
        "files": dict(sorted(files.items())),
        "links": dict(sorted(links.items())),
    }
    with open(os.path.join(folder, NAME), "x", encoding="utf-8") as stream:
        json.dump(said, stream, indent=1)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)  # A umask may have left less.
        os.fsync(stream.fileno())


def read(folder: str) -> DriverInstall | None:
    """What is in a folder; None where nothing was installed there, or it cannot be told."""
    said = _said(folder)
    try:
        sizes = [file["bytes"] for file in said["files"].values()]
        if not all(isinstance(size, int) and 0 <= size < _LARGEST for size in sizes):
            return None
        return DriverInstall(
            str(said["version"]), str(said["machine"]), folder, str(said["source"]),
            str(said["what"]), sum(sizes), tuple(said["files"]),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError):
        return None


def is_all(folder: str) -> bool:
    """Whether there is nothing in a folder but what was installed there.

    Raises:
        OSError: it cannot be listed.
    """
    said = _said(folder)
    try:
        known = {NAME, *said["files"], *said["links"]}
    except (KeyError, TypeError):
        known = set()
    return {*os.listdir(folder)} <= known


def whole(folder: str, wanted: Wanted) -> DriverInstall | None:
    """What is in a folder, if every byte of it is what was installed and it is what is wanted.

    What others than root and this user could replace is not: the search would refuse it.
    """
    there = read(folder)
    if there is None or (there.version, there.machine) != wanted:
        return None
    said = _said(folder)
    try:
        files = all(_is(os.path.join(folder, n), file) for n, file in said["files"].items())
        links = all(os.readlink(os.path.join(folder, n)) == to for n, to in said["links"].items())
    except (OSError, KeyError, TypeError, AttributeError, ValueError):  # ValueError: a NUL.
        return None
    return there if files and links else None


def _is(path: str, said: Any) -> bool:
    status = os.lstat(path)
    return (
        _trust.breach(path) is None
        and stat.S_ISREG(status.st_mode)
        and status.st_size == said["bytes"]
        and _digest(path) == said["sha256"]
    )


def _said(folder: str) -> Any:
    try:
        return json.loads(_files.read(os.path.join(folder, NAME), _MOST))
    except (ValueError, RecursionError):
        return {}


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
