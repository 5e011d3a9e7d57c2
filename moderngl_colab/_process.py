"""The process we live in: its environment and files in memory, borrowed and given back.

The only module that writes to ``os.environ``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

__all__ = ["declare", "environment", "file_in_memory", "may_steer_loader"]


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for the length of a block, then put back exactly what was there.

    C libraries see the change: ``os.environ`` writes through to ``environ(7)``.

    Arguments:
        values: name to value; None removes the variable.
    """
    before = {name: os.environ.get(name) for name in values}
    try:
        _apply(values)
        yield
    finally:
        _apply(before)


def _apply(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def file_in_memory(name: str, content: bytes) -> Iterator[int]:
    """A file that no file system holds, open for the length of a block.

    Arguments:
        name: how it shows up in ``/proc/self/maps``.
        content: what it contains, in bytes.

    Returns:
        Its descriptor; libraries open it by ``/proc/self/fd/<descriptor>``.

    Raises:
        OSError: the kernel has no memfd_create(2) (before 3.17), or forbids it.
    """
    descriptor = os.memfd_create(name)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        yield descriptor
    finally:
        os.close(descriptor)


def may_steer_loader() -> bool:
    """False where real and effective ids differ.

    Such a process has more rights than the one who started it; libglvnd ignores its variables
    there (it reads them with secure_getenv(3)), and no library may be chosen by them.
    """
    return os.getuid() == os.geteuid() and os.getgid() == os.getegid()


def declare(function: Any, result: type | None, *arguments: Any) -> Callable[..., Any]:
    """A C function with its signature; a pointer passed without one loses its upper half."""
    function.restype, function.argtypes = result, arguments
    return cast("Callable[..., Any]", function)
