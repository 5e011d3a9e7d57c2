"""A private virtual display: an Xvfb of our own, on top of xvfbwrapper's.

It listens on a Unix socket only, lets in nobody without a cookie that exists in this process's
memory alone, is out of reach of a notebook's interrupt (a session of its own), and ends when
this process ends, whichever way that is: it is on a leash, and with ``-terminate`` it leaves with
its last client, a connection that is held open here.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from weakref import WeakSet

import xvfbwrapper

from moderngl_colab import _fork, _glvnd, _leash, _process, _signals, _x11
from moderngl_colab._xvfb_errors import (
    XvfbError,
    XvfbMissing,
    XvfbPlaceError,
    XvfbTimeoutError,
    ended,
    silent,
)

__all__ = [
    "Display",
    "XvfbError",
    "XvfbMissing",
    "XvfbPlaceError",
    "XvfbTimeoutError",
]

_displays: WeakSet[Display] = WeakSet()

_START_TIMEOUT = 30.0  # seconds
_POLL_INTERVAL = 0.002  # seconds
# Far from :0 and the small numbers that people give their own servers, below where X11's TCP
# port (6000 + number) would overflow.
_FIRST_NUMBER, _NUMBERS = 1000, 50000
_TRIES = 10


class Display(xvfbwrapper.Xvfb):
    """A display of our own.

    The base class finds the program, lays out its arguments and stops it. The start is ours:
    the base class draws a display number from the ``random`` module, whose state is the user's,
    and sets DISPLAY for the whole process.

    Arguments:
        width: of its screen, in pixels.
        height: of its screen, in pixels.

    Raises:
        XvfbMissing: there is none.
    """

    def __init__(self, width: int = 64, height: int = 64) -> None:
        try:
            # Without a folder it looks for one, and writes a file to see whether it can.
            super().__init__(width, height, tempdir=_x11.LOCK_FOLDER, environ=_server_environment())
        except OSError as error:
            raise XvfbMissing(str(error)) from error
        self.extra_xvfb_args += ["-nolisten", "tcp", "-nolisten", "local", "-terminate"]
        self.proc: subprocess.Popen[bytes] | None = None
        self._cookie = secrets.token_bytes(_x11.COOKIE_LENGTH)
        self._held: socket.socket | None = None
        self._leash: _leash.Leash | None = None
        self._claim: socket.socket | None = None
        self._owner = os.getpid()
        self.blocks = 0
        """How often it served."""
        _displays.add(self)

    def start(self, until: float | None = None) -> None:
        """Start the server and hold a connection to it.

        The number is drawn at random, and Xvfb's own lock file says whether it was free. (With
        ``-displayfd`` Xvfb takes no lock, and without abstract sockets two servers then take the
        same number and steal each other's socket.)

        Arguments:
            until: when to give up, in seconds of :func:`time.monotonic`; None for 30 s from now.

        Raises:
            XvfbError: it ended at once, did not answer in time, or refused the connection.
            OSError: the system refused a process, a file in memory or a socket.
        """
        if (why := _x11.shut()) is not None:
            raise XvfbPlaceError(why)
        until = _limit(until)
        with _signals.held():
            for _ in range(_TRIES):
                number = _FIRST_NUMBER + secrets.randbelow(_NUMBERS)
                if _x11.taken(number) or (claim := _x11.claim(number)) is None:
                    continue
                self.new_display, self._claim = number, claim
                try:
                    with _process.file_in_memory("Xvfb stderr", b"") as errors:
                        self._launch(errors, until)
                    return
                except BaseException as error:
                    if isinstance(error, XvfbTimeoutError) and self.proc is not None:
                        self.proc.kill()  # It may not answer to anything else, either.
                    self.stop()
                    # Another server may take the number between the look at it and the start.
                    if not (isinstance(error, XvfbError) and _x11.taken(number)):
                        raise
        raise XvfbError(f"no display number was free in {_TRIES} tries")

    def _launch(self, errors: int, until: float) -> None:
        started = time.monotonic()
        with _process.file_in_memory("Xauthority", _x11.authority(self._cookie)) as authority:
            self.xvfb_cmd = ["Xvfb", self.name, *self.extra_xvfb_args]
            self.xvfb_cmd += ["-auth", f"/proc/self/fd/{authority}"]
            output = (subprocess.DEVNULL, errors)
            self._leash = _leash.Leash(self.xvfb_cmd, self.environ, [authority], output)
            self.proc = server = self._leash.process
            while (connection := self._connected(until)) is None:
                _signals.let_in()
                if (status := server.poll()) is not None:
                    raise ended(status, errors)
                if time.monotonic() > until:
                    raise silent(started, errors)
                time.sleep(_POLL_INTERVAL)
            self._held = connection

    def answers(self, until: float | None = None) -> bool:
        """Whether the server lets a client in; False if it has ended.

        Xlib waits for ever for one that was stopped.

        Arguments:
            until: as for :meth:`start`.

        Raises:
            XvfbError: it does not let one in, or did not answer in time.
        """
        started, until = time.monotonic(), _limit(until)
        if (connection := self._connected(until)) is not None:
            connection.close()
        elif time.monotonic() > until:
            raise silent(started)
        return connection is not None

    def stop(self) -> None:
        """End the server and wait for it."""
        server = self.proc
        self._let_loose()
        super().stop()
        if server is not None and self._owner == os.getpid():
            _x11.sweep(self.new_display, server.pid)
        self._give_name_back()

    def is_alive(self) -> bool:
        """False once the server has ended."""
        return self.proc is not None and self.proc.poll() is None

    @contextlib.contextmanager
    def selected(self) -> Iterator[None]:
        """Make new X connections of this process go to this display, for the length of a block."""
        with self.variables() as variables, _process.environment(variables):
            yield

    @contextlib.contextmanager
    def variables(self) -> Iterator[dict[str, str]]:
        """What leads this process and its children to the display, for the length of a block."""
        # Not os.getpid(), which is another number where /proc is that of an outer pid namespace.
        process = os.readlink("/proc/self")
        with _process.file_in_memory("Xauthority", _x11.authority(self._cookie)) as authority:
            yield {"DISPLAY": self.name, "XAUTHORITY": f"/proc/{process}/fd/{authority}"}

    def _connected(self, until: float) -> socket.socket | None:
        try:
            return _x11.connect(self.new_display, self._cookie, until)
        except _x11.RefusedError as error:
            raise XvfbError(str(error)) from error

    @property
    def name(self) -> str:
        """What goes into DISPLAY, for instance ``":7"``."""
        return f":{self.new_display}"

    def let_go(self) -> None:
        """Leave the server to end with this process.

        Stopping it here would pull it from under contexts that are released later still, and
        Xlib ends the process when its server is gone.
        """
        for kept in filter(None, (self._held, self._claim)):
            kept.detach()  # The finalizers would warn of what is left on purpose.
        self._held = self._claim = None
        if self._leash is not None:
            self._leash.leave()
        self.abandon()

    def abandon(self) -> None:
        """Close this process's ends of what holds the server, and leave the server alone."""
        if self.proc is not None and self.proc.returncode is None:
            self.proc.returncode = 0
        self._let_loose()
        self._give_name_back()

    def _let_loose(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
        if self._leash is not None:
            self._leash.cut()

    def _give_name_back(self) -> None:
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def _limit(until: float | None) -> float:
    if until is None or math.isinf(until):
        return time.monotonic() + _START_TIMEOUT
    return until


def _server_environment() -> dict[str, str]:
    """The environment for the server: without anything that would bring NVIDIA's EGL into it.

    In some images Xvfb aborts inside libEGL_nvidia (NVIDIA/gpu-driver-container#244).
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("__")}
    sound = [icd.path for icd in _glvnd.icds() if not icd.waits and not icd.is_nvidia]
    ours[_glvnd.FILENAMES_VARIABLE] = ":".join(sound) or os.devnull
    ours["__GLX_VENDOR_LIBRARY_NAME"] = "mesa"
    return ours


def _forget() -> None:
    """In a forked child: the displays are the parent's, and shall end with it."""
    for display in _displays:
        display.abandon()
    _displays.clear()


_fork.in_child(_forget)
