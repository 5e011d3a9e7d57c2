"""As much of X11 as it takes to hold a connection to a server of our own, and to keep others out.

Facts: the X11 protocol's connection set-up, Xauthority(5).
"""

from __future__ import annotations

import socket
import struct

from moderngl_colab import _process

__all__ = ["COOKIE_LENGTH", "RefusedError", "authority", "connect"]

COOKIE_LENGTH = 16
"""In bytes."""

_COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_FAMILY_WILD = 0xFFFF


class RefusedError(Exception):
    """The server does not let this client in."""


def authority(cookie: bytes) -> bytes:
    """The content of an Xauthority file whose one entry serves every display."""
    # Big-endian, each string with its length; FamilyWild with an empty address and number.
    fields = (b"", b"", _COOKIE_NAME, cookie)
    body = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    return struct.pack(">H", _FAMILY_WILD) + body


def connect(number: int, cookie: bytes, timeout: float) -> socket.socket | None:
    """A client's connection, by the protocol's first exchange; None while nobody listens.

    Arguments:
        number: the display's.
        cookie: what the server was given.
        timeout: for each step, in seconds.

    Raises:
        RefusedError: the server refused.
        OSError: the system refused a socket, or the server did not answer in time.
    """
    descriptor = socket.socket(socket.AF_UNIX).detach()
    connection = socket.socket(fileno=_process.above_standard_streams(descriptor))
    try:
        connection.settimeout(timeout)
        connection.connect(f"/tmp/.X11-unix/X{number}")
        # Little-endian, protocol 11.0, and the cookie's name, padded to four bytes, and data.
        lengths = struct.pack("<cxHHHHxx", b"l", 11, 0, len(_COOKIE_NAME), len(cookie))
        padding = bytes(-len(_COOKIE_NAME) % 4)
        connection.sendall(lengths + _COOKIE_NAME + padding + cookie)
        if (answer := connection.recv(1)) == b"":
            raise ConnectionResetError
        if answer != b"\x01":
            raise RefusedError
    except (FileNotFoundError, ConnectionError):  # Not yet there, or gone already.
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection
