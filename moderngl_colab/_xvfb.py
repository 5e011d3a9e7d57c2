"""The private virtual display: one Xvfb for the process, on top of xvfbwrapper's.

It listens on a Unix socket only, lets in nobody without a cookie that exists in this process's
memory alone, is out of reach of a notebook's interrupt (a session of its own), and ends when
this process ends, whichever way that is: with ``-terminate`` the server leaves with its last
client, and the kernel closes the connection that is held open here.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator

import xvfbwrapper

from moderngl_colab import _fork, _glvnd, _process, _x11

__all__ = ["Display", "XvfbError", "XvfbMissing", "XvfbPlaceError", "retire", "shared"]

_START_TIMEOUT = 10.0  # seconds
_POLL_INTERVAL = 0.002  # seconds
# Far from :0 and the small numbers that people give their own servers, below where X11's TCP
# port (6000 + number) would overflow.
_FIRST_NUMBER, _NUMBERS = 1000, 50000
_TRIES = 10


class XvfbError(Exception):
    """No display came of Xvfb; the text says why, in its own last words if it left any."""

    crashed = False
    """Whether a signal ended it."""
    said: tuple[str, ...] = ()
    """What it said on stderr, line by line."""


class XvfbMissing(XvfbError):
    """There is no Xvfb on the PATH."""


class XvfbPlaceError(XvfbError):
    """There is no place for its socket and its lock; it was not started."""


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
            super().__init__(width=width, height=height, environ=_server_environment())
        except OSError as error:
            raise XvfbMissing(str(error)) from error
        self.extra_xvfb_args += ["-nolisten", "tcp", "-nolisten", "local", "-terminate"]
        self.proc: subprocess.Popen[bytes] | None = None
        self._cookie = secrets.token_bytes(_x11.COOKIE_LENGTH)
        self._held: socket.socket | None = None
        self._owner = os.getpid()
        self.unwanted = False
        """Set by a signal handler while the server's process is being made: give the start up."""
        self.blocks = 0
        """How often it served."""

    def start(self) -> None:
        """Start the server and hold a connection to it.

        The number is drawn at random, and Xvfb's own lock file says whether it was free. (With
        ``-displayfd`` Xvfb takes no lock, and without abstract sockets two servers then take the
        same number and steal each other's socket.)

        Raises:
            XvfbError: it ended at once, did not answer in time, refused the connection, or is
                unwanted.
            OSError: the system refused a process, a file in memory or a socket.
        """
        if (why := _x11.shut()) is not None:
            raise XvfbPlaceError(why)
        for _ in range(_TRIES):
            number = _FIRST_NUMBER + secrets.randbelow(_NUMBERS)
            if not os.path.exists(_x11.lock(number)):
                self.new_display = number
                with _process.file_in_memory("Xvfb stderr", b"") as errors:
                    try:
                        self._launch(errors)
                        return
                    except BaseException:
                        self.stop()
                        raise
        raise XvfbError(f"no display number was free in {_TRIES} tries")

    def _launch(self, errors: int) -> None:
        with _process.file_in_memory("Xauthority", _x11.authority(self._cookie)) as authority:
            self.xvfb_cmd = ["Xvfb", self.name, *self.extra_xvfb_args]
            self.xvfb_cmd += ["-auth", f"/proc/self/fd/{authority}"]
            self.proc = subprocess.Popen(
                self.xvfb_cmd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(authority,),
                env=dict(self.environ),
                start_new_session=True,
            )
            deadline = time.monotonic() + _START_TIMEOUT
            while (connection := self._connected()) is None:
                if self.unwanted:
                    raise XvfbError("its start was given up")
                if (status := self.proc.poll()) is not None:
                    raise _ended(status, _lines(errors))
                if time.monotonic() > deadline:
                    silent = XvfbError(f"Xvfb did not answer within {_START_TIMEOUT:.0f} s")
                    silent.said = _lines(errors)
                    raise silent
                time.sleep(_POLL_INTERVAL)
            self._held = connection

    def stop(self) -> None:
        """End the server and wait for it."""
        if self._held is not None:
            self._held.close()
            self._held = None
        server = self.proc
        super().stop()
        if server is not None and self._owner == os.getpid():
            _x11.sweep(self.new_display, server.pid)

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

    def _connected(self) -> socket.socket | None:
        try:
            return _x11.connect(self.new_display, self._cookie, _START_TIMEOUT)
        except _x11.RefusedError as error:
            raise XvfbError("Xvfb refused the connection") from error

    @property
    def name(self) -> str:
        """What goes into DISPLAY, for instance ``":7"``."""
        return f":{self.new_display}"

    def let_go(self) -> None:
        """Leave the server to end with this process.

        Stopping it here would pull it from under contexts that are released later still, and
        Xlib ends the process when its server is gone.
        """
        if self._held is not None:
            self._held.detach()  # The finalizers would warn of what is left on purpose.
        self.abandon()

    def abandon(self) -> None:
        """Close this process's end of the connection, and leave the server alone."""
        if self.proc is not None and self.proc.returncode is None:
            self.proc.returncode = 0
        if self._held is not None:
            self._held.close()
            self._held = None


def _ended(status: int, said: tuple[str, ...]) -> XvfbError:
    # The server marks each line of an error so.
    last = said[-1].removeprefix("(EE)").strip() if said else "nothing"
    error = XvfbError(f"Xvfb ended at once with status {status}; it said: {last}")
    error.crashed, error.said = status < 0, said
    return error


def _lines(errors: int) -> tuple[str, ...]:
    """What the server said, without lines that are empty but for its mark."""
    text = os.pread(errors, 1 << 16, 0).decode(errors="replace")
    lines = map(str.strip, text.splitlines())
    return tuple(line for line in lines if line.removeprefix("(EE)").strip())


def _server_environment() -> dict[str, str]:
    """The environment for the server: without anything that would bring NVIDIA's EGL into it.

    In some images Xvfb aborts inside libEGL_nvidia (NVIDIA/gpu-driver-container#244).
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("__")}
    sound = [icd.path for icd in _glvnd.icds() if not icd.waits and not icd.is_nvidia]
    ours[_glvnd.FILENAMES_VARIABLE] = ":".join(sound) or os.devnull
    ours["__GLX_VENDOR_LIBRARY_NAME"] = "mesa"
    return ours


_shared: Display | None = None


@contextlib.contextmanager
def shared() -> Iterator[Display]:
    """The process's display, started if need be, selected for the length of a block.

    A display whose first block fails is stopped again.

    Raises:
        XvfbError: there is none, or it does not come up.
        OSError: as for :meth:`Display.start`.
    """
    global _shared
    if _shared is not None and not _shared.is_alive():
        retire(_shared)
    if _shared is None:
        display = Display()
        display.start()
        atexit.register(display.let_go)
        _shared = display
    display = _shared
    try:
        with display.selected():
            yield display
    except BaseException:
        if not display.blocks:
            retire(display)
        raise
    display.blocks += 1


def _forget() -> None:
    """In a forked child: the display is the parent's, and shall end with it."""
    global _shared
    if _shared is not None:
        _shared.abandon()
        _shared = None


_fork.in_child(_forget)


def retire(display: Display) -> None:
    """Stop the display; the next :func:`shared` starts another one."""
    global _shared
    atexit.unregister(display.let_go)
    if _shared is display:
        _shared = None
    display.stop()
