"""What this library, xvfbwrapper, PyVirtualDisplay and raw moderngl do to the process they live in.

    python tests/benchmarks/promises.py [--quick]

It prints the table that docs/promises.md ends with. A row is one thing done by each, in processes
of their own; n/a where it makes no sense for one. Mesa draws for all: over a display
(moderngl_colab by GLX, and moderngl on a display of xvfbwrapper's or PyVirtualDisplay's, which are
used as their documentation has it, in a with-block), and by EGL without one (moderngl_colab, and
moderngl alone).
The last column tells whether ours, among those of its kind, is better than each rival (lower is
better: what is left, what is lost, how often it fails), or equal to one of them, or worse.

PyVirtualDisplay is no dependency: pip install PyVirtualDisplay. A full run takes some minutes, and
as root it also becomes another user; --quick repeats less.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from rig import machines, writes  # noqa: E402 - found by the line above

PROGRAM = str(TESTS / "programs" / "side.py")
OVER_X = {"ours by GLX": "moderngl_colab, GLX", "xvfbwrapper": "xvfbwrapper",
          "PyVirtualDisplay": "PyVirtualDisplay"}  # fmt: skip
BY_EGL = {"ours by EGL": "moderngl_colab, EGL", "moderngl": "moderngl, EGL"}
BOTH = (*OVER_X, *BY_EGL)
COLUMNS = ("what", *OVER_X.values(), *BY_EGL.values(), "ours is")
GRACE = 5.0
"""How long what belongs to an ended process may stay, in seconds."""
LIMIT = 45.0
"""After how many seconds a process counts as hanging."""


class Cell(NamedTuple):
    """What was seen, and how bad it is: 0 for nothing bad."""

    text: str
    bad: float


class Times(NamedTuple):
    """How often things are done."""

    ends: int
    cycles: int
    processes: int


FULL, QUICK = Times(20, 200, 40), Times(3, 50, 8)


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measure: Callable[[str, Times], Cell]
    sides: Iterable[str]
    alone: bool = False
    """Whether one side at a time is measured, and not two."""
    waits: bool = False
    """Whether it mostly waits, and may do so beside the others that do."""


def command(side: str, *arguments: str) -> list[str]:
    """What starts a side's process."""
    return [sys.executable, "-P", "-B", PROGRAM, side, *arguments]


class Process:
    """A side at work: its first line is read, and what follows waits for :meth:`go_on`."""

    def __init__(self, side: str, *arguments: str, **settings: Any) -> None:
        self._process = subprocess.Popen(
            command(side, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True, **settings,
        )  # fmt: skip
        self.pid = self._process.pid
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.first: dict[str, Any] = json.loads(line) if line else {}
        self.display = str(self.first.get("display", ""))
        self.server = int(self.first.get("server", 0))

    def go_on(self) -> tuple[int, list[Any], str]:
        """Let it end; its status, what it printed, and its last words."""
        try:
            output, errors = self._process.communicate("\n", timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return -signal.SIGALRM, [], "it hangs"
        return self._process.returncode, list(map(json.loads, output.splitlines())), _last(errors)

    def left(self) -> list[str]:
        """What is left of its display after a while; then it is removed."""
        files = [f"/tmp/.X11-unix/X{self.display}", f"/tmp/.X{self.display}-lock"]
        kinds = dict(zip(files, ("socket", "lock"), strict=True)) if self.display else {}
        until = time.monotonic() + GRACE
        while (seen := self._seen(kinds)) and time.monotonic() < until:
            time.sleep(0.05)
        if "process" in seen:
            os.kill(self.server, signal.SIGKILL)
        for path in kinds:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return seen

    def _seen(self, kinds: dict[str, str]) -> list[str]:
        process = ["process"] if self.server and _runs(self.server) else []
        return process + [kind for path, kind in kinds.items() if os.path.lexists(path)]


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _last(errors: str) -> str:
    """The line that tells most: Xlib's farewell, else the first attempt of ours, else the last."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("XIO", "1. "))]
    words = (telling or lines[-1:] or [""])[0].removeprefix("1. ")[:150]
    return re.sub(r"\d{4,}", "N", words)  # Displays and processes differ in every run.


def _all(side: str, *arguments: str, **settings: Any) -> tuple[int, Any, str]:
    """Run a side's action to its end: status, answer (None without one), last words."""
    try:
        done = subprocess.run(
            command(side, *arguments), capture_output=True, text=True, timeout=600,
            stdin=subprocess.DEVNULL, check=False, **settings,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM, None, "it hangs"
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, _last(done.stderr)


def _status(status: int, words: str) -> str:
    how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"{how}: {words}" if words else how


# ---- the rows ----------------------------------------------------------------------------------


def ends(how: str, action: str = "end") -> Callable[[str, Times], Cell]:
    """What is left after so many ends of this kind."""

    def once(side: str) -> list[str]:
        process = Process(side, action, *([how] if action == "end" else []))
        process.go_on()
        left = process.left()
        if child := process.first.get("child"):
            os.kill(child, signal.SIGKILL)
        return left

    def measure(side: str, times: Times) -> Cell:
        with ThreadPoolExecutor(times.ends) as pool:
            left = list(pool.map(once, [side] * times.ends))
        counts = [sum(kind in each for each in left) for kind in ("process", "socket", "lock")]
        return Cell("{} + {} + {}".format(*counts), sum(counts))

    return measure


def killed(then: str) -> Callable[[str, Times], Cell]:
    """Whether Python is still there after its server was not."""

    def measure(side: str, _: Times) -> Cell:
        process = Process(side, "killed", then)
        status, answers, words = process.go_on()
        process.left()
        if status == 0 and answers and then != "exit":
            said = answers[-1]["said"]
            if then == "again":
                return Cell("it serves" if said == "right" else said, float(said != "right"))
            return Cell("nothing happens" if said == "nothing" else said, 0)
        return Cell(_status(status, words), float(status != 0 or bool(words)))

    return measure


def interrupted(side: str, _: Times) -> Cell:
    """What is left of a display after Ctrl-C, or a notebook's stop button."""
    process = Process(side, "interrupt")
    os.killpg(process.pid, signal.SIGINT)
    status, answers, words = process.go_on()
    process.left()
    answer = answers[-1] if answers else {}
    if answer.get("the display lives") and answer.get("pixel") == "right":
        return Cell("the display lives, pixels are right", 0)
    died = "" if answer.get("the display lives", True) else "the display dies; "
    return Cell(died + _status(status, words), 1)


def admits(abstract: bool) -> Callable[[str, Times], Cell]:
    """Whether a client without the cookie is let in, another user's if there can be one."""

    def measure(side: str, _: Times) -> Cell:
        process = Process(side, "wait")
        path = "\0" * abstract + f"/tmp/.X11-unix/X{process.display}"
        answer = _connect_as_another(path)
        process.go_on()
        process.left()
        return Cell(answer, float(answer == "let in"))

    return measure


def _connect_as_another(path: str) -> str:
    """What an X server answers to a client that shows nothing, in another user's process."""
    answers = ["let in", "refused", "nobody listens"]
    child = os.fork()
    if child == 0:
        code = 2
        with contextlib.suppress(OSError):
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                # X11's set-up, little-endian, protocol 11.0, without a cookie.
                connection.sendall(b"l\0\x0b\0\0\0\0\0\0\0\0\0")
                code = 0 if connection.recv(1) == b"\x01" else 1
        os._exit(code)
    return answers[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def cycles(side: str, times: Times) -> Cell:
    """What grows."""
    status, grown, words = _all(side, "cycles", str(times.cycles))
    return _grown(status, grown, words)


def failing(side: str, times: Times) -> Cell:
    """What grows while nothing comes of it."""
    status, grown, words = _all(side, "failing", str(times.cycles))
    return _grown(status, grown, words)


def _grown(status: int, grown: Any, words: str) -> Cell:
    if grown is None:
        return Cell(_status(status, words), 1e9)
    megabytes, handles = round(grown["kB"] / 1000), grown["files"] + grown["threads"]
    text = f"{grown['files']} + {grown['threads']} + {megabytes} MB"
    return Cell(text, 1000 * handles + megabytes)


def many(side: str, times: Times) -> Cell:
    """How many of many processes at once get their context."""
    patient = {"env": os.environ | {"MODERNGL_COLAB_TIMEOUT": "500"}}
    with ThreadPoolExecutor(times.processes) as pool:
        every = list(pool.map(lambda _: Process(side, "wait", **patient), range(times.processes)))
        ended = list(pool.map(Process.go_on, every))
        left = sum(len(seen) for seen in pool.map(Process.left, every))
    right = sum(process.first.get("pixel") == "right" for process in every)
    displays = len({process.display for process in every if process.display})
    bad = sum(status != 0 for status, _, _ in ended) + left + times.processes - right
    seconds = max(process.first.get("seconds", 0.0) for process in every)
    number = f", {displays} displays" if side in OVER_X else ""
    return Cell(f"{right}{number}, slowest {seconds:.0f} s, {left} left", bad)


def changed(side: str, _times: Times) -> Cell:
    """What of the process is not what it was."""
    _, names, words = _all(side, "changed")
    return Cell(words if names is None else ", ".join(names) or "nothing", len(names or words))


def files(side: str, _: Times) -> Cell:
    """Which files were written, created or removed on the way; the X server's own do not count."""
    paths, _programs = _traced(side)
    own = re.compile(r"/tmp/\.X11-unix/XN|/tmp/\.t?XN-lock|(/tmp|/var/lib/xkb)/server-N\.xkm")
    others = [path for path in paths if not own.fullmatch(path)]
    text = f"Xvfb's own {len(paths) - len(others)}" if side in OVER_X else "none"
    return Cell(" and ".join((text, *(f"`{path}`" for path in others))), len(others))


def programs(side: str, _: Times) -> Cell:
    """Which programs were started on the way, the X server's compiler of keymaps among them."""
    _paths, names = _traced(side)
    return Cell(", ".join(names) or "none", len(names))


def _traced(side: str) -> tuple[list[str], list[str]]:
    with tempfile.TemporaryDirectory(prefix="promises-") as folder:
        log = Path(folder) / "log"
        quiet = {"MESA_SHADER_CACHE_DISABLE": "true"}
        argv = writes.traced(log, command(side, "draw"))
        subprocess.run(argv, env=os.environ | quiet, capture_output=True, check=False)
        names = sorted(Path(program).name for program in writes.started(log))
        names.remove(Path(sys.executable).name)
        return writes.numberless(writes.written(log)), names


def read_only(side: str, _: Times) -> Cell:
    """What becomes of a call where /tmp cannot be written to, and how soon."""
    mount = 'mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && exec "$@"'
    how = ["-m"] if os.geteuid() == 0 else ["-Urm"]
    argv = ["unshare", *how, "sh", "-c", mount, "sh", *command(side, "draw")]
    cell = _timed(argv, LIMIT)
    # An error is as good as it is early.
    return cell if cell.bad != 1 else Cell(cell.text, 1 + float(cell.text.split()[0]) / LIMIT)


def silent_server(side: str, _: Times) -> Cell:
    """What becomes of a call whose X server never answers."""
    with tempfile.TemporaryDirectory(prefix="promises-") as folder:
        server = Path(folder) / "Xvfb"
        server.write_text("#!/bin/sh\nexec sleep 90\n")
        server.chmod(0o755)
        return _timed(command(side, "draw"), LIMIT, PATH=f"{folder}:{os.environ['PATH']}")


def _timed(argv: list[str], limit: float, **variables: str) -> Cell:
    started = time.monotonic()
    process = subprocess.Popen(
        argv, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Cell(f"hangs: ended from outside after {limit:.0f} s", 2)
    seconds = time.monotonic() - started
    with contextlib.suppress(ProcessLookupError):  # What it left of itself.
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0 and "right" in output:
        return Cell(f"{seconds:.1f} s: it serves", 0)
    return Cell(f"{seconds:.1f} s: {_last(errors)}", 1)


def faulty_driver(fault: str) -> Callable[[str, Times], Cell]:
    """What becomes of a call where NVIDIA's driver crashes or hangs, on a simulated machine."""

    def measure(side: str, _: Times) -> Cell:
        ours = {"ours by EGL": "ours, probe=True"}
        argv = command(ours.get(side, side), "draw")
        env = {"STANDIN_FAULT": fault}
        started = time.monotonic()
        try:
            done = machines.run(machines.MACHINES["package"], argv, env=env, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return Cell(f"hangs: ended from outside after {LIMIT:.0f} s", 1)
        if done.returncode == 0 and "right" in done.stdout:
            return Cell(f"{time.monotonic() - started:.1f} s: another way serves", 0)
        return Cell(_status(done.returncode, _last(done.stderr)), 1)

    return measure


def harmless(action: str, *arguments: str) -> Callable[[str, Times], Cell]:
    """Whether an action draws right pixels, and ends with status 0 and without a word."""

    def measure(side: str, _: Times) -> Cell:
        status, answer, words = _all(side, action, *arguments)
        pixel = answer.get("pixel", "right") if isinstance(answer, dict) else "right"
        if status == 0 and pixel == "right" and answer is not True:
            return Cell(
                f"harmless; on stderr: {words}" if words else "harmless", float(bool(words))
            )
        if answer is True:
            return Cell("it stays current", 1)
        return Cell(_status(status, words) if status else f"pixels are {pixel}", 1)

    return measure


_ENDS = {
    "the end of the block": "exit",
    "an end without stop()": "unstopped",
    "an exception": "exception",
    "SIGTERM": "SIGTERM",
    "SIGKILL": "SIGKILL",
    "os._exit": "os._exit",
}
_KILLED = {"draws": "draw", "releases": "release", "makes another": "again", "just ends": "exit"}
ROWS = (
    *(
        Row(f"processes + sockets + locks left, 5 s after {name} (of {{ends}})", ends(how), OVER_X)
        for name, how in _ENDS.items()
    ),
    Row("the same after SIGKILL, with a forked child alive", ends("", "fork"), OVER_X),
    *(
        Row(f"its server was killed; it {name}", killed(then), OVER_X)
        for name, then in _KILLED.items()
    ),
    Row("Ctrl-C to the process group", interrupted, OVER_X),
    Row("a client without the cookie, on the socket file", admits(abstract=False), OVER_X),
    Row("the same, on the abstract socket", admits(abstract=True), OVER_X),
    Row("released twice", harmless("twice"), BOTH),
    Row("released beside a current context, which draws on", harmless("beside"), BOTH),
    Row("released while current", harmless("left_current"), BOTH),
    Row("never released, gc_mode=None", harmless("forgotten", "None"), BOTH),
    Row('never released, gc_mode="auto"', harmless("forgotten", "auto"), BOTH),
    Row("files + threads + memory more, by {cycles} contexts", cycles, BOTH),
    Row("the same, by {cycles} calls that fail (OpenGL 9.9)", failing, BOTH),
    Row("contexts of {processes} processes at once", many, BOTH, alone=True),
    Row("what of the process has changed", changed, BOTH),
    Row("files written", files, BOTH),
    Row("programs started", programs, BOTH),
    Row("read-only /tmp", read_only, BOTH),
    Row("an Xvfb that never answers", silent_server, OVER_X, waits=True),
    Row("a driver that crashes (ours: probe=True)", faulty_driver("crash"), BY_EGL, waits=True),
    Row("a driver that hangs (ours: probe=True)", faulty_driver("hang"), BY_EGL, waits=True),
)


def verdict(cells: dict[str, Cell]) -> str:
    """How ours does beside its rivals; the display's and EGL's are compared among themselves."""
    words = []
    for kind in (OVER_X, BY_EGL):
        ours, *rivals = [cells[side].bad for side in kind if side in cells] or [0.0]
        if rivals:
            best = min(rivals)
            words.append("better" if ours < best else "equal" if ours == best else "worse")
    return words[0] if len(set(words)) == 1 else f"{words[0]} by GLX, {words[1]} by EGL"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="repeat less")
    parser.add_argument("--only", default="", metavar="WORDS", help="the rows that contain them")
    arguments = parser.parse_args()
    if importlib.util.find_spec("pyvirtualdisplay") is None:
        sys.exit("PyVirtualDisplay is missing: pip install PyVirtualDisplay")
    times = QUICK if arguments.quick else FULL
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n", flush=True)
    rows = [row for row in ROWS if arguments.only in row.what]
    with ThreadPoolExecutor(len(ROWS)) as beside:
        waiting: dict[str, Future[dict[str, Cell]]] = {}
        for row in rows:
            if row.waits and not waiting:
                waiting = {r.what: beside.submit(measured, r, times) for r in rows if r.waits}
            cells = waiting[row.what].result() if row.waits else measured(row, times)
            seen = [cells[side].text if side in cells else "n/a" for side in BOTH]
            what = row.what.format(**times._asdict())
            print(line([what, *seen, verdict(cells)]), flush=True)


def measured(row: Row, times: Times) -> dict[str, Cell]:
    """What was seen of each side."""
    with ThreadPoolExecutor(1 if row.alone else 2) as pool:
        cells = pool.map(lambda side: row.measure(side, times), row.sides)
        return dict(zip(row.sides, cells, strict=True))


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    main()
