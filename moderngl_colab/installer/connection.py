"""Connections by HTTP whose answers begin in time.

A socket's timeout is for one piece of what comes, and http.client reads an answer's head, and those
of any number of provisional answers before it, for as long as a piece comes now and then.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from moderngl_colab.installer.source import FetchError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HTTP", "HTTPS"]


class _Head(io.RawIOBase):
    """What comes through a socket, of which the beginning has to come in time."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw, self._connection = raw, connection
        self._timeout = connection.gettimeout() or math.inf
        self._until = time.monotonic() + self._timeout
        self._silent = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left = self._until - time.monotonic()
        late = FetchError(f"the server did not answer within {self._timeout:g} s")
        if left <= 0:
            raise late
        if left < self._timeout:
            self._connection.settimeout(left)
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            if self._silent or left == math.inf:
                raise
            raise late from error
        self._silent = False
        return count

    def end(self) -> None:
        """From here on it is only silence that is not waited for."""
        self._until = math.inf
        self._connection.settimeout(None if self._timeout == math.inf else self._timeout)

    def close(self) -> None:
        if not self.closed:
            self.end()  # A proxy's answer has no other, and the server's comes after it.
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self._head = _Head(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._head)

    def begin(self) -> None:
        """Read the answer's head, which urllib would wait for as long as one byte comes of it."""
        super().begin()
        self._head.end()


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class HTTP(urllib.request.HTTPHandler):
    """urllib's, whose answers have to begin in time."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask by HTTP."""
        return self.do_open(_Connection, req)


class HTTPS(urllib.request.HTTPSHandler):
    """urllib's, whose answers have to begin in time."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask by HTTPS."""
        return self.do_open(_SecureConnection, req)
