"""``run``: start a program that gets the GPU, and a display where it has none."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping

from moderngl_colab import _xvfb, commands
from moderngl_colab.commands.env import add_device, prepared, said

__all__ = ["HELP", "configure", "execute"]

HELP = "run a program that gets the GPU"

# Python ignores these two, and what is ignored stays so in the program that is started.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_NOT_FOUND, _NOT_EXECUTABLE, _BY_SIGNAL = 127, 126, 128  # as a shell


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
    environ = {**os.environ, **found.variables}
    # GLX cannot choose a device, so one that was asked for is not to be had over our display.
    if found.glx and found.xvfb and arguments.device is None:
        # An ignored SIGCHLD would keep from us how the program ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            display = _xvfb.Display()
            display.start()
        except KeyboardInterrupt:
            return _die_of(signal.SIGINT)
        except (_xvfb.XvfbError, OSError) as error:
            if not found.egl:
                return said("run", f"the program has no display: {error}", os.EX_UNAVAILABLE)
            print(f"moderngl-colab run: EGL serves, GLX does not: {error}", file=sys.stderr)
        else:
            return _on_display(display, command, environ)
    return _in_place(command, environ)


def _not_started(command: list[str], error: OSError) -> int:
    absent = isinstance(error, FileNotFoundError)
    return said("run", f"{command[0]}: {error.strerror}", _NOT_FOUND if absent else _NOT_EXECUTABLE)


def _in_place(command: list[str], environ: Mapping[str, str]) -> int:
    """Make this process the program; a status is returned only where it cannot be started."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _IGNORED_BY_PYTHON}
    try:
        os.execvpe(command[0], command, environ)
    except OSError as error:
        for number, handler in before.items():
            signal.signal(number, handler)
        return _not_started(command, error)


def _on_display(display: _xvfb.Display, command: list[str], environ: Mapping[str, str]) -> int:
    """Run the program on a display that is stopped after it."""
    try:
        with display.variables() as variables:
            status = _supervised(command, {**environ, **variables})
    finally:
        display.stop()
    if os.WIFSIGNALED(status):
        return _die_of(os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


def _supervised(command: list[str], environ: Mapping[str, str]) -> int:
    """Start the program, pass signals on to it, and give its wait status."""
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)
    try:
        try:
            child = os.posix_spawnp(
                command[0], command, environ, setsigmask=before, setsigdef=_IGNORED_BY_PYTHON
            )
        except OSError as error:
            return _not_started(command, error) << 8
        while True:
            caught = signal.sigwaitinfo(every)
            if caught.si_signo == signal.SIGCHLD:
                ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
                if ended and not os.WIFSTOPPED(status):
                    return status
                if ended:
                    _stop_with(child, os.WSTOPSIG(status))
            elif caught.si_code <= 0 and caught.si_pid != child:
                # Of a process, not of the terminal, which sends to the whole group by itself; and
                # not of the program, which has its own share of what it sends to its group.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, caught.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop_with(child: int, number: int) -> None:
    """Stop as the program did, so that a shell sees its job stopped; go on together with it."""
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    # The SIGCONT that came here may be gone: the next signal that stops cancels it.
    signal.sigtimedwait({signal.SIGCONT}, 0)
    os.kill(child, signal.SIGCONT)


def _die_of(number: int) -> int:
    """End by a signal, as the program did; a status where the kernel spares this process."""
    # The memory image of interest is the program's, and it is written already.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # SIGKILL has no handler.
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return _BY_SIGNAL + number
