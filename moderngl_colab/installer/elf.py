"""What a shared library says of itself, read from its header without opening it as one.

The layout is the System V ABI's: chapter 4, "ELF Header", and chapter 5, "Dynamic Section".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["HEADER", "Dynamic", "dynamic", "is_for"]

HEADER = 64
"""How many bytes the header has, in a file of 64 bits."""

_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64
_64_BITS_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_SHARED = 3  # ET_DYN
_LOAD, _DYNAMIC = 1, 2  # PT_LOAD, PT_DYNAMIC
_NEEDED, _STRTAB, _SONAME = 1, 5, 14  # DT_NEEDED, DT_STRTAB, DT_SONAME
_MOST_ENTRIES = 1024
_LONGEST_NAME = 256


class Dynamic(NamedTuple):
    """What the loader reads of a library."""

    soname: str
    """By which others name it; empty where it has none."""
    needed: tuple[str, ...]
    """Which libraries it names."""


def is_for(machine: str, header: bytes) -> bool:
    """Whether a file that begins so is a shared library for a machine.

    Arguments:
        machine: as ``os.uname()`` says it.
        header: the file's first :data:`HEADER` bytes.
    """
    if len(header) < HEADER or not header.startswith(_64_BITS_LITTLE_ENDIAN):
        return False
    return struct.unpack_from("<HH", header, 16) == (_SHARED, _MACHINES.get(machine))


def dynamic(stream: BinaryIO) -> Dynamic:
    """What a library's dynamic section says; :func:`is_for` has to be true of its header.

    Raises:
        ValueError: it is damaged.
    """
    try:
        segments = list(_segments(stream))
        table = next(offset for kind, offset, _, _ in segments if kind == _DYNAMIC)
        entries = list(_entries(stream, table))
        strings = next(value for tag, value in entries if tag == _STRTAB)
        at = next(
            strings - address + offset
            for kind, offset, address, size in segments
            if kind == _LOAD and address <= strings < address + size
        )
        sonames = [_string(stream, at + value) for tag, value in entries if tag == _SONAME]
        needed = [_string(stream, at + value) for tag, value in entries if tag == _NEEDED]
    except (struct.error, StopIteration, OverflowError, OSError) as error:  # a read past its end
        raise ValueError("its dynamic section cannot be read") from error
    return Dynamic(next(iter(sonames), ""), tuple(needed))


def _segments(stream: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """Of each segment its type, and its offset, address and size in the file."""
    stream.seek(0)
    header = stream.read(HEADER)
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    for number in range(min(count, _MOST_ENTRIES)):
        stream.seek(table + number * size)
        kind, _, offset, address, _, length = struct.unpack("<IIQQQQ", stream.read(40))
        yield kind, offset, address, length


def _entries(stream: BinaryIO, table: int) -> Iterator[tuple[int, int]]:
    """Of each entry of the dynamic section its tag and its value."""
    stream.seek(table)
    for _ in range(_MOST_ENTRIES):
        tag, value = struct.unpack("<QQ", stream.read(16))
        if tag == 0:  # DT_NULL
            return
        yield tag, value


def _string(stream: BinaryIO, at: int) -> str:
    stream.seek(at)
    text, end, _ = stream.read(_LONGEST_NAME).partition(b"\0")
    if not end:
        raise ValueError("a name in its dynamic section does not end")
    return text.decode("ascii", errors="replace")
