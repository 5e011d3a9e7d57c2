"""A function of ours, run in a fresh Python process with a time limit.

Drivers crash and hang, and they do it inside the process that asks them. What they are asked by
the doctor is asked here: by a process whose end, whichever it is, is one more answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from moderngl_colab import _children, _loader, _process, _signals
from moderngl_colab.diagnostics.answers import Answers, lines

__all__ = ["Ended", "run", "serve"]

_MARK = "_MODERNGL_COLAB_CHILD"
_PR_SET_PDEATHSIG = 1

_BOOTSTRAP = """\
import json, sys
job = json.load(sys.stdin)
sys.path[:] = job.pop("path")
from moderngl_colab.diagnostics import child
child.serve(**job)
"""

# What the interpreter itself needs to start. The others, such as PYTHONWARNINGS,
# PYTHONPROFILEIMPORTTIME and PYTHONINSPECT, are meant for the user's own programs.
_FOR_PYTHON = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"}
)
# Who starts Python so keeps others' code out of it, and out of its children.
_FLAGS = {"-I": "isolated", "-E": "ignore_environment", "-s": "no_user_site", "-S": "no_site"}


class Ended(NamedTuple):
    """What became of the process."""

    answers: tuple[Any, ...] = ()
    """What the function yielded until the end, as JSON gives it back."""
    stderr: tuple[str, ...] = ()
    """What was written to stdout and stderr, line by line; of much, the last 64 KiB."""
    status: int | None = None
    """Its exit status, negative for the signal that ended it; None where it was not started, or
    had to be ended."""
    timed_out: bool = False
    """Whether it did not end in time, and was ended."""
    error: str | None = None
    """Why it could not be started."""

    @property
    def signal(self) -> int | None:
        """The signal that ended it, unless it was ended for taking too long."""
        return None if self.status is None or self.status >= 0 else -self.status

    @property
    def how(self) -> str:
        """How it ended, for instance ``"was ended by SIGSEGV (11)"``."""
        if self.signal is None:
            return f"ended with status {self.status}"
        try:
            return f"was ended by {signal.Signals(self.signal).name} ({self.signal})"
        except ValueError:  # The real-time signals but two have no name.
            return f"was ended by signal {self.signal}"


def run(
    function: Callable[..., Iterator[Any]],
    *arguments: Any,
    timeout: float,
    heard: Callable[[Any], None] | None = None,
) -> Ended:
    """Call a function in a fresh process and wait for its end.

    Arguments:
        function: one of a module's, in this package; each value that it yields is kept the moment
            it is yielded. Values are those that JSON has.
        arguments: what it is called with; they are those that JSON has.
        timeout: in seconds.
        heard: called with each value soon after it is yielded; the time begins anew with each.
    """
    if (why := _forbidden()) is not None:
        return Ended(error=why)
    try:
        with (
            _process.file_in_memory("job", b"") as job,
            _process.file_in_memory("answers", b"") as answers,
            _process.file_in_memory("stderr", b"") as said,
        ):
            # An interrupt amid the start would leave the process to nobody.
            known = Answers(answers, heard)
            with contextlib.ExitStack() as held:
                held.enter_context(_signals.held())
                process = _start(function, arguments, job, answers, said)
                in_time = _children.wait(process, timeout, held, known.read)
            known.read()
            return Ended(
                answers=tuple(known.all),
                stderr=lines(said),
                status=process.returncode if in_time else None,
                timed_out=not in_time,
            )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the environment or in a path
        return Ended(error=str(error))


def _forbidden() -> str | None:
    """Why no process of Python may be started; None where one may."""
    if not sys.executable:
        return "sys.executable names no program"
    if getattr(sys, "frozen", False):
        return "this program is frozen, and would be started itself in place of Python"
    if _MARK in os.environ:
        return "this program was started by moderngl_colab in place of Python"
    if not _process.may_steer_loader():
        return "real and effective ids differ, and it would run code of the one who started this"
    return None


def serve(
    parent: int, loader: list[str], answers: int, function: str, arguments: list[Any]
) -> None:
    """Be the process that :func:`run` started.

    Arguments:
        parent: the process that waits for this one.
        loader: where its loader looks; this one was started with the variables as they are now.
        answers: the descriptor that takes the answers, each one line of JSON.
        function: its module and its name, with a colon between them.
        arguments: what it is called with.
    """
    import resource  # Windows has none.

    # A driver that hangs does not notice that nobody waits for it any more.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.set_inheritable(answers, False)
    _loader.answer_for(loader)
    with contextlib.suppress(OSError, ValueError):  # A crash shall leave no core file.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    module, _, name = function.partition(":")
    for answer in getattr(import_module(module), name)(*arguments):
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]


def _start(
    function: Callable[..., Any], arguments: tuple[Any, ...], job: int, answers: int, said: int
) -> subprocess.Popen[bytes]:
    # The last one for a program that came by us through a folder it has left since.
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    told = {
        "path": [*(entry for entry in sys.path if isinstance(entry, str)), home],
        "parent": os.getpid(),
        "loader": _loader.at_the_start(),
        "answers": answers,
        "function": f"{function.__module__}:{function.__name__}",
        "arguments": arguments,
    }
    os.pwrite(job, json.dumps(told).encode(), 0)
    flags = [flag for flag, name in _FLAGS.items() if getattr(sys.flags, name)]
    return subprocess.Popen(
        [sys.executable, *flags, "-P", "-W", "ignore", "-c", _BOOTSTRAP],
        stdin=job,
        stdout=said,
        stderr=said,
        pass_fds=(answers,),
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTHON") or name in _FOR_PYTHON
        }
        | {_MARK: "1"},
        start_new_session=True,
    )
