"""NVIDIA's self-extracting archive: a shell script with a compressed tar behind it.

It is NVIDIA's version of makeself 1.6.0, whose script stands in its own archives: lines such as
``skip=1133`` say what it is; the tar begins at that line, counted from 1.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import BinaryIO, NamedTuple

from moderngl_colab.installer import decompress, plain, program, unpack
from moderngl_colab.installer.source import FetchError, Wanted

__all__ = ["Header", "header", "take"]

_ASSIGNMENT = re.compile(rb"(skip|version_string|targetdir|TARGET_ARCH)=\"?([\w.+-]*)\"?\n")
_LONGEST_LINE = 1 << 16
_MOST_ASSIGNMENTS = 64  # lines; they are the script's first
_TIMEOUT = 600.0  # seconds for an archive that unpacks itself
_LARGEST_HEADER = 16 << 20  # bytes; a program that decompresses may be a part of it


class Header(NamedTuple):
    """What the script says of the archive."""

    version: str
    """For instance ``"550.54.15"``."""
    machine: str
    """For instance ``"x86_64"``."""
    skip: int
    """The line at which the tar begins."""


def header(path: str) -> Header:
    """Read the first lines of the script.

    Raises:
        FetchError: it is no such archive.
        OSError: it cannot be read.
    """
    said: dict[bytes, str] = {}
    with plain.opened(path) as stream:
        if stream.read(2) == b"#!":
            for _ in range(_MOST_ASSIGNMENTS):
                if (found := _ASSIGNMENT.fullmatch(stream.readline(_LONGEST_LINE))) is not None:
                    said.setdefault(found[1], found[2].decode())
    name = said.get(b"targetdir", "")  # NVIDIA-Linux-x86_64-550.54.15
    _, _, named = name.partition("Linux-")
    machine, _, version = named.partition("-")
    version = said.get(b"version_string") or version
    machine = said.get(b"TARGET_ARCH") or machine
    skip = said.get(b"skip", "")
    if not (version and machine and skip.isdecimal() and len(skip) < 10):
        raise FetchError("it is none of NVIDIA's .run archives: its first lines do not say so")
    return Header(version, machine, int(skip))


def take(path: str, folder: str, wanted: Wanted) -> None:
    """Take the libraries out; nothing in it is executed, where it can be read otherwise.

    Arguments:
        path: the archive, whose checksum was compared by whoever knows it.
        folder: where they are put; a folder beside it may be made.
        wanted: which they have to be.

    Raises:
        FetchError: it is damaged, or is made to write elsewhere.
        OSError: the file system refuses something.
    """
    said = header(path)
    with plain.opened(path) as stream:
        _go_to_line(stream, said.skip)
        try:
            with decompress.opened(stream) as content:
                unpack.from_tar(content, folder, wanted)
            return
        except decompress.NoZstdError:
            pass
    _extract_by_itself(path, folder, wanted)


def _go_to_line(stream: BinaryIO, number: int) -> None:
    for _ in range(number - 1):
        line = stream.readline(_LARGEST_HEADER)
        if not line.endswith(b"\n") or stream.tell() > _LARGEST_HEADER:
            raise FetchError("the archive is damaged: its script ends before its contents begin")


def _extract_by_itself(path: str, folder: str, wanted: Wanted) -> None:
    """Have the script unpack itself: it brings a program that decompresses its own format."""
    scratch = os.path.join(os.path.dirname(folder), "extracted")
    private = os.path.join(os.path.dirname(folder), "tmp")
    os.mkdir(private, 0o700)
    # makeself makes the folder itself, and refuses one that is there.
    command = ["/bin/sh", os.path.abspath(path), "--extract-only", "--target", scratch]
    environ = {"PATH": "/usr/bin:/bin", "TMPDIR": private, "HOME": private, "LC_ALL": "C"}
    done = program.run(command, environ, private, _TIMEOUT)
    if done.status != 0:
        raise FetchError(f"it does not unpack itself (status {done.status}): {done.complaint}")
    unpack.from_tree(scratch, folder, wanted)
    for each in (scratch, private):
        shutil.rmtree(each)
