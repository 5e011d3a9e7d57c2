"""As much of X11 as it takes to hold a connection to a server of our own, and to keep others out.

Facts: the X11 protocol's connection set-up, Xauthority(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import struct
import time

from moderngl_colab import _files, _process, _signals

__all__ = [
    "COOKIE_LENGTH",
    "LOCK_FOLDER",
    "RefusedError",
    "answers",
    "authority",
    "claim",
    "connect",
    "shut",
    "sweep",
    "taken",
    "unusable",
]

COOKIE_LENGTH = 16
"""In bytes."""

_COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_FAMILY_WILD = 0xFFFF
LOCK_FOLDER, _SOCKET_FOLDER = "/tmp", "/tmp/.X11-unix"
# X(7): [host]:number[.screen]; "unix" is this very machine.
_LOCAL = re.compile(r"(?:unix)?:(?P<number>\d+)(?:\.\d+)?")
_ANSWER_TIMEOUT = 1.0  # seconds
_UCRED = struct.Struct("iII")  # unix(7): process, user, group
_WHY = {
    errno.EROFS: "is read-only",
    errno.EACCES: "may not be written to by this user",
    errno.ENOENT: "is not there",
    errno.ENOTDIR: "is no directory",
}


class RefusedError(Exception):
    """The server does not let this client in, or is not ours."""


def authority(cookie: bytes) -> bytes:
    """The content of an Xauthority file whose one entry serves every display."""
    # Big-endian, each string with its length; FamilyWild with an empty address and number.
    fields = (b"", b"", _COOKIE_NAME, cookie)
    body = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    return struct.pack(">H", _FAMILY_WILD) + body


def connect(number: int, cookie: bytes, until: float) -> socket.socket | None:
    """A client's connection, by the protocol's first exchange; None while nobody answers.

    Arguments:
        number: the display's.
        cookie: what the server was given.
        until: when to give up, in seconds of :func:`time.monotonic`.

    Raises:
        RefusedError: the server refused.
        OSError: the system refused a socket.
    """
    connection = _unix_socket()
    try:
        connection.settimeout(_signals.PAUSE)
        connection.connect(_socket(number))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.geteuid():
            raise RefusedError("somebody else answered in Xvfb's place")
        # Little-endian, protocol 11.0, and the cookie's name, padded to four bytes, and data.
        lengths = struct.pack("<cxHHHHxx", b"l", 11, 0, len(_COOKIE_NAME), len(cookie))
        padding = bytes(-len(_COOKIE_NAME) % 4)
        connection.sendall(lengths + _COOKIE_NAME + padding + cookie)
        if (answer := _answer(connection, until)) == b"":
            raise ConnectionResetError
        if answer != b"\x01":
            raise RefusedError("Xvfb refused the connection")
    # Not yet there, gone already, or silent.
    except (FileNotFoundError, ConnectionError, TimeoutError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _unix_socket() -> socket.socket:
    descriptor = socket.socket(socket.AF_UNIX).detach()
    return socket.socket(fileno=_process.above_standard_streams(descriptor))


def _answer(connection: socket.socket, until: float) -> bytes:
    # One connection for all of the wait: a server that goes with its last client would go.
    while True:
        try:
            return connection.recv(1)
        except TimeoutError:
            _signals.let_in()
            if time.monotonic() > until:
                raise


def unusable(display: str) -> str | None:
    """Why no program of this machine renders on a display; None where one could.

    Arguments:
        display: as DISPLAY has it, for instance ``":0"`` or ``"localhost:10.0"``.
    """
    if answers(display):
        return None
    host, colon, _ = display.rpartition(":")
    if not colon:
        return "it names no display"
    return "nobody answers on it" if host in ("", "unix") else "it is a server of another machine"


def answers(display: str) -> bool:
    """Whether a server of this machine listens on the socket of a display, file or abstract."""
    if (local := _LOCAL.fullmatch(display)) is None:
        return False
    path = _socket(local["number"])
    return any(map(_listens, (path, f"\0{path}")))


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_TIMEOUT)
        try:
            connection.connect(address)
        except (OSError, ValueError):  # A path may be too long for a socket, too.
            return False
        return True


def claim(number: int) -> socket.socket | None:
    """Take the abstract name of a display's socket, without listening; None if another has it.

    XCB asks for that name before the file (``xcb_util.c``), and gives the cookie to whoever
    answers: any user of this machine could, if the name were free.
    """
    holder = _unix_socket()
    try:
        holder.bind(f"\0{_socket(number)}")
    except OSError:
        holder.close()
        return None
    return holder


def taken(number: int) -> bool:
    """Whether a server has a display, or one that was killed left its traces."""
    return os.path.lexists(_lock(number)) or os.path.lexists(_socket(number))


def _lock(number: int) -> str:
    return f"{LOCK_FOLDER}/.X{number}-lock"


def _socket(number: int | str) -> str:
    return f"{_SOCKET_FOLDER}/X{number}"


def sweep(number: int, server: int) -> None:
    """Remove what a server leaves in /tmp that was killed.

    Arguments:
        number: the display's.
        server: the process that it was.
    """
    with contextlib.suppress(OSError, ValueError):
        with open(_lock(number), encoding="ascii") as stream:
            if int(stream.read()) != server:
                return
        os.unlink(_lock(number))
        os.unlink(_socket(number))


def shut() -> str | None:
    """Why no server can be started here, told in advance: Xvfb itself takes 12 s to say so."""
    for path in (LOCK_FOLDER, _SOCKET_FOLDER):
        if path == _SOCKET_FOLDER and not os.path.lexists(path):
            continue  # The server makes it.
        if code := _no_directory(path) or _files.refused(path, os.W_OK | os.X_OK):
            why = _WHY.get(code, "cannot be used")
            return (
                f"Xvfb puts its socket and its lock into {LOCK_FOLDER}, and {path} {why} "
                f"({errno.errorcode.get(code, code)})"
            )
    return None


def _no_directory(path: str) -> int:
    try:
        return 0 if stat.S_ISDIR(os.stat(path).st_mode) else errno.ENOTDIR
    except OSError as error:
        return error.errno or errno.ENOENT
