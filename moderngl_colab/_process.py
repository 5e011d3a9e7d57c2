"""The process we live in: its environment and files in memory, borrowed and given back.

The only module that writes to ``os.environ``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

__all__ = [
    "above_standard_streams",
    "declare",
    "environment",
    "file_in_memory",
    "may_steer_loader",
]

_LAST_STANDARD_STREAM = 2
_MFD_CLOEXEC = 1


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
        try:
            _apply(before)
        except BaseException:  # Another thread can have one raised here at any moment.
            _apply(before)
            raise


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
    descriptor = above_standard_streams(_memfd_create(name))
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        yield descriptor
    finally:
        os.close(descriptor)


def above_standard_streams(descriptor: int) -> int:
    """The same open file, not as descriptor 0, 1 or 2.

    In a process that closed those, a child's redirections would fall on it, and so would
    whatever somebody prints.
    """
    if descriptor > _LAST_STANDARD_STREAM:
        return descriptor
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD_STREAM + 1)
    finally:
        os.close(descriptor)


def _memfd_create(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    # Pythons that were built against an old glibc, as uv's are, lack it on a system that has it.
    try:
        memfd_create = ctypes.CDLL(None, use_errno=True).memfd_create
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    descriptor = int(
        declare(memfd_create, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)(
            os.fsencode(name), _MFD_CLOEXEC
        )
    )
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor


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
