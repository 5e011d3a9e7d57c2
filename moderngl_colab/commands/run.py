"""``run``: start a program that gets the GPU, and a display where it has none."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING

from moderngl_colab import _process, _supervise, _x11, commands
from moderngl_colab.commands.env import UNAVAILABLE, add_device, prepared, said, written

if TYPE_CHECKING:
    from moderngl_colab import _xvfb
    from moderngl_colab.errors import StrategyError

__all__ = ["HELP", "ask_glx", "configure", "execute"]

HELP = "run a program that gets the GPU"

_SCREEN = (1280, 1024)  # pixels, for programs that open windows
_GLX_TIMEOUT = 20.0  # seconds
_GLX_VERSION = 330
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class _Interrupted(KeyboardInterrupt):
    """A signal came that ends this process."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options and the program with its arguments."""
    add_device(parser)
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the program to run"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the program; what becomes of it becomes of this process.

    Where it needs no display of ours, it takes this process's place. Otherwise signals that others
    send here are passed on, and this process ends as the program did.

    Returns:
        Its exit status; 126 or 127 where it cannot be started, and what ``env`` returns where there
        is no GPU for it.
    """
    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not any(command[:1]):  # The empty string is no program, either.
        return said("run", "no program is named: moderngl-colab run -- CMD ...", commands.USAGE)
    found = prepared("run", arguments.device)
    if isinstance(found, int):
        return found
    variables = written("run", found)
    if isinstance(variables, int):
        return variables
    environ = {**os.environ, **variables}
    screen = environ.get("DISPLAY")
    if variables and screen and (why := _x11.unusable(screen)) is not None:
        commands.complain(f"moderngl-colab run: DISPLAY={screen} is not used: {why}")
        del environ["DISPLAY"]
    # GLX cannot choose a device, so a certain one is not to be had over our display.
    if found.glx and not environ.get("DISPLAY") and not found.certain:
        status = _with_display(command, environ, needed=not found.egl)
        if status is not None:
            return status
    return _in_place(command, environ)


def _not_started(command: list[str], error: OSError) -> int:
    absent = isinstance(error, FileNotFoundError)
    return said("run", f"{command[0]}: {error.strerror}", _NOT_FOUND if absent else _NOT_EXECUTABLE)


def _in_place(command: list[str], environ: Mapping[str, str]) -> int:
    """Make this process the program; a status is returned only where it cannot be started."""
    try:
        return _supervise.become(command, environ)
    except OSError as error:
        return _not_started(command, error)


def _with_display(command: list[str], environ: Mapping[str, str], needed: bool) -> int | None:
    """Run the program on a display of its own; its status.

    Where EGL serves as well, a display on which GLX is refused is not given, since some programs
    take X wherever there is a display; None then, and where there is no display at all.
    """
    from moderngl_colab import _xvfb, display_causes

    # An ignored SIGCHLD would keep from us how the program ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        display = _xvfb.Display(*_SCREEN)
    except _xvfb.XvfbMissing:
        return _no_display(display_causes.no_xvfb()) if needed else None
    caught: list[int] = []
    with _interrupted_by(caught):
        try:
            display.start()
            refusal = None if needed else _refusal(display, environ)
            if refusal is None:
                return _on_display(display, command, environ)
        except (_xvfb.XvfbError, OSError) as error:
            if needed:
                return _no_display(display_causes.xvfb_failed(error))
            refusal = str(error)
        except _Interrupted:
            pass
        finally:
            display.stop()
    if caught:
        return _supervise.die_of(caught[0])
    commands.complain(f"moderngl-colab run: EGL serves, GLX does not: {refusal}")
    return None


def _no_display(error: StrategyError) -> int:
    text = f"the program has no display: {error.reason}"
    text += f"\n  fix: {error.remedy}" if error.remedy is not None else ""
    return said("run", text, UNAVAILABLE)


@contextlib.contextmanager
def _interrupted_by(caught: list[int]) -> Iterator[None]:
    """Let signals that end this process raise _Interrupted, so that the display is stopped first.

    Arguments:
        caught: takes the signals' numbers.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            raise _Interrupted

    numbers = (n for n in _supervise.numbers(_ENDING) if signal.getsignal(n) is not signal.SIG_IGN)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refusal(display: _xvfb.Display, environ: Mapping[str, str]) -> str | None:
    """Why NVIDIA's GLX does not serve on a display; None where it does."""
    from moderngl_colab.diagnostics import child

    with display.variables() as variables, _process.environment({**environ, **variables}):
        ended = child.run(ask_glx, timeout=_GLX_TIMEOUT)
    if ended.answers:
        return ended.answers[0] or None
    if ended.error is not None:
        return f"no process could be started to try it: {ended.error}"
    if ended.timed_out:
        return f"the process that tried it did not end within {_GLX_TIMEOUT:g} s"
    if ended.signal is not None:
        return f"the process that tried it was ended by signal {ended.signal}"
    return f"the process that tried it ended with status {ended.status}"


def ask_glx() -> Iterator[str]:
    """Be the process that tries NVIDIA's GLX on $DISPLAY: what refuses it, or an empty text."""
    from moderngl_colab import _glx

    try:
        # By the name by which libGLX will ask; it takes Mesa's without a word if this fails.
        ctypes.CDLL("libGLX_nvidia.so.0")
        _glx.Context(_GLX_VERSION).release()
    except (OSError, _glx.GLXError) as error:
        yield str(error)
    else:
        yield ""


def _on_display(display: _xvfb.Display, command: list[str], environ: Mapping[str, str]) -> int:
    """Run the program on a display, which is stopped before this process ends by a signal."""
    with display.variables() as variables:
        try:
            status = _supervise.run(command, {**environ, **variables})
        except OSError as error:
            return _not_started(command, error)
    display.stop()
    return _supervise.die_of(-status) if status < 0 else status
