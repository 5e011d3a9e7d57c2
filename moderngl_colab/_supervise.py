"""A program in this process's place, or under it as if it were in its place."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping

from moderngl_colab import _files

__all__ = ["become", "die_of", "numbers", "run"]

# By name, for other systems have few of them. Python ignores these two, and what is ignored stays
# so in the program that is started.
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")
# With these a terminal stops a whole job; SIGSTOP is meant for one process alone, and whoever
# sends it to the program has no reason to continue this one.
_STOPPING = ("SIGTSTP", "SIGTTIN", "SIGTTOU")
_FIRST_BYTES = 80  # by which bash, too, tells a script from another machine's program
_BY_SIGNAL = 128  # as a shell


def numbers(names: tuple[str, ...]) -> tuple[signal.Signals, ...]:
    """The signals of these names."""
    return tuple(signal.Signals[name] for name in names)


def become(command: list[str], environ: Mapping[str, str]) -> int:
    """Make this process the program; nothing comes back then.

    Raises:
        OSError: it cannot be started.
    """
    ignored = numbers(_IGNORED_BY_PYTHON)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ignored}
    try:
        return _start(lambda path, words: os.execvpe(path, words, environ), command)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: list[str], environ: Mapping[str, str]) -> int:
    """Start the program, pass signals on to it, stop with it, and wait for its end.

    Returns:
        Its exit status, negative for the signal that ended it.

    Raises:
        OSError: it cannot be started.
    """
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)
    ignored, stopping = numbers(_IGNORED_BY_PYTHON), numbers(_STOPPING)
    try:
        child = _start(
            lambda path, words: os.posix_spawnp(
                path, words, environ, setsigmask=before, setsigdef=ignored
            ),
            command,
        )
        while True:
            caught = signal.sigwaitinfo(every)
            if caught.si_signo == signal.SIGCHLD:
                ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
                if ended and not os.WIFSTOPPED(status):
                    return os.waitstatus_to_exitcode(status)
                if ended and os.WSTOPSIG(status) in stopping:
                    _stop_with(child, os.WSTOPSIG(status))
            elif caught.si_code <= 0 and caught.si_pid != child:
                # Of a process, not of the terminal, which sends to the whole group by itself; and
                # not of the program, which has its own share of what it sends to its group.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, caught.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(start: Callable[[str, list[str]], int], command: list[str]) -> int:
    """Start a program; a script that does not begin with ``#!`` is run as a shell does it."""
    name = command[0]
    # What starts a program by its name would go on to the next one of that name.
    path = name if "/" in name else shutil.which(name) or name
    try:
        return start(path, command)
    except OSError as error:
        if error.errno != errno.ENOEXEC or b"\0" in _files.read(path, _FIRST_BYTES):
            raise
        return start("/bin/sh", ["/bin/sh", path, *command[1:]])


def _stop_with(child: int, number: int) -> None:
    """Stop as the program did, so that a shell sees its job stopped; go on together with it."""
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    # The SIGCONT that came here may be gone: the next signal that stops cancels it.
    signal.sigtimedwait({signal.SIGCONT}, 0)
    os.kill(child, signal.SIGCONT)


def die_of(number: int) -> int:
    """End by a signal, as the program did; a status where the kernel spares this process."""
    import resource

    # The memory image of interest is the program's, and it is written already.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # SIGKILL has no handler.
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return _BY_SIGNAL + number
