"""NVIDIA's archive on this machine: self-extracting archives of the stand-in driver, and a server.

The archives have the form of NVIDIA's own: the script's first lines are those that its makeself
writes, the tar begins at line ``skip``, and all that is in it lies below ``./``. The script does
what NVIDIA's does with ``--extract-only``.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import io
import lzma
import os
import re
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

from . import driver

MACHINE = os.uname().machine

_SCRIPT = """\
#! /bin/sh
CRCsum=0000000000
MD5=00000000000000000000000000000000
skip={skip}
skip_decompress=0
size_decompress=0
label="NVIDIA Accelerated Graphics Driver for Linux-{machine} {version}"
version_string={version}
pkg_version=1
script=./nvidia-installer
targetdir=NVIDIA-Linux-{machine}-{version}
scriptargs=""
keep=y
TMPROOT=${{TMPDIR:=/tmp}}
TARGET_OS="Linux"
TARGET_ARCH="{machine}"
echo "$@" >>"${{0%.*}}.started" 2>/dev/null
[ "$1" = --extract-only ] && [ "$2" = --target ] || exit 2
mkdir "$3" && tail -n +$skip "$0" | {decompress} | (cd "$3" && tar xf -)
exit $?
"""


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-1", "-c"], input=data, capture_output=True, check=True).stdout


# How each is made, and undone by the script.
_COMPRESSED: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (lambda data: gzip.compress(data, 1), "gzip -cd"),
    "bzip2": (lambda data: bz2.compress(data, 1), "bzip2 -cd"),
    # As NVIDIA's are, without the checks that its decompressor does not know.
    "xz": (lambda data: lzma.compress(data, check=lzma.CHECK_NONE, preset=0), "xz -cd"),
    "zstd": (_zstd, "zstd -cdq"),
}


@dataclass(frozen=True)
class Member:
    """What is put into an archive beside the driver, or in the place of a part of it."""

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    target: str = ""
    size: int = -1
    """What its header says of its size, where that is a lie; it is the last member then."""


def of_32_bits(library: bytes) -> bytes:
    """What is told from its header to be for another machine."""
    return library[:4] + b"\x01" + library[5:]


@cache
def members(version: str = driver.VERSION) -> tuple[Member, ...]:
    """What NVIDIA's archives have: libraries of 64 and of 32 bits, programs, the kernel's half."""
    libraries = {
        path.name: path.read_bytes()
        for path in driver.files(version)
        if path.name.endswith(version) and not path.is_symlink()
    }
    installer = b"#!/bin/sh\nexit 1\n"
    return (
        Member("./", type=tarfile.DIRTYPE),
        Member("./nvidia-installer", installer),
        Member("./kernel/", type=tarfile.DIRTYPE),
        Member("./kernel/nvidia/nv.c", b"/* the kernel's half */"),
        *(Member(f"./{name}", content) for name, content in libraries.items()),
        Member("./32/", type=tarfile.DIRTYPE),
        *(Member(f"./32/{name}", of_32_bits(content)) for name, content in libraries.items()),
    )


def tar(content: tuple[Member, ...]) -> bytes:
    """A tar of these members in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for each in content:
            member = tarfile.TarInfo(each.name)
            member.name = each.name  # The constructor may change it.
            member.type, member.linkname, member.size = each.type, each.target, len(each.content)
            member.mode = 0o755
            if each.size >= 0:
                member.size = each.size
                buffer.write(member.tobuf(tarfile.GNU_FORMAT) + each.content)
                return buffer.getvalue()
            archive.addfile(member, io.BytesIO(each.content))
    return buffer.getvalue()


@cache
def runfile(
    version: str = driver.VERSION,
    *,
    compression: str = "gzip",
    content: tuple[Member, ...] | None = None,
    machine: str = MACHINE,
) -> bytes:
    """A self-extracting archive; its contents are the stand-in driver of that version."""
    compress, decompress = _COMPRESSED[compression]
    script = _SCRIPT.format(skip="@", version=version, machine=machine, decompress=decompress)
    script = script.replace("@\n", f"{script.count(chr(10)) + 1}\n", 1)
    return script.encode() + compress(tar(members(version) if content is None else content))


def path(version: str = driver.VERSION, *, tesla: bool = False) -> str:
    """Where NVIDIA's server has it."""
    folder = f"tesla/{version}" if tesla else f"XFree86/Linux-{MACHINE}/{version}"
    return f"/{folder}/NVIDIA-Linux-{MACHINE}-{version}.run"


Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler, bytes], None]


@dataclass
class Server:
    """NVIDIA's server: files by their paths, and what it does instead of giving them."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Each request's method, path, and range."""
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    """For paths that end so, what is answered; the first one that fits holds."""
    ended: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    """Whether it gives parts of files."""

    def publish(self, content: bytes, where: str = "", checksum: bytes | None = None) -> str:
        """Give a file, and its checksum; it gives its path."""
        where = where or path()
        digest = hashlib.sha256(content).hexdigest()
        self.files[where] = content
        self.files[f"{where}.sha256sum"] = (
            f"{digest}  {os.path.basename(where)}\n".encode() if checksum is None else checksum
        )
        return where

    def on(self, ending: str, answer: Answer) -> None:
        """Answer requests for paths that end so in another way."""
        self.answers.insert(0, (ending, answer))

    def answer(self, handler: Handler) -> None:
        """Answer a request."""
        content = self.files.get(handler.path)
        wanted = handler.headers.get("Range", "")
        self.asked.append(f"{handler.command} {handler.path} {wanted}".strip())
        for ending, answer in self.answers:
            if handler.path.endswith(ending):
                answer(handler, content or b"")
                return
        if content is None:
            handler.send_error(404)
            return
        give(handler, content, ranges=self.ranges)


def give(handler: Handler, content: bytes, *, ranges: bool = True, most: int | None = None) -> None:
    """Give a file, or the part that is asked for, of which only so much is sent."""
    parts = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if ranges else None
    start = int(parts[1]) if parts else 0
    if start and start >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206 if parts else 200)
    handler.send_header("Content-Length", str(len(content) - start))
    if parts:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content[start:] if most is None else content[start : start + most])


def refuse(code: int) -> Answer:
    """Answer with a status."""
    return lambda handler, _: handler.send_error(code)


def redirect(url: str, code: int = 302) -> Answer:
    """Answer that it is elsewhere."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def truncate(most: int) -> Answer:
    """Send so many bytes, and close the connection."""
    return lambda handler, content: give(handler, content, most=most)


def hang(server: Server, after: int = 0) -> Answer:
    """Send so many bytes of the file, and then nothing until the server ends."""

    def answer(handler: Handler, content: bytes) -> None:
        if after:
            give(handler, content, most=after)
        if not after or handler.command != "HEAD":
            server.ended.wait(60)

    return answer


def slowly(seconds: float, pieces: int = 8) -> Answer:
    """Send it in pieces, with a pause after each."""

    def answer(handler: Handler, content: bytes) -> None:
        if handler.command == "HEAD":
            give(handler, content)
            return
        size = -(-len(content) // pieces)
        give(handler, content, most=0)
        start = int(re.sub(r"\D", "", handler.headers.get("Range", "")) or 0)
        for at in range(start, len(content), size):
            handler.wfile.write(content[at : at + size])
            time.sleep(seconds)

    return answer


@contextmanager
def serve() -> Iterator[Server]:
    """A server on loopback; it gives its address, and ends with the block."""
    server = Server()

    class Speaks(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):  # The other side may hang up.
                server.answer(self)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Speaks) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{listener.server_port}"
        try:
            yield server
        finally:
            server.ended.set()
            listener.shutdown()
            thread.join()
