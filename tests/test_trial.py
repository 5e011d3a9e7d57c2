"""Strategies tried for real: every ending of the process that tries is told as what it was."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import path_with_xvfb

from moderngl_colab.diagnostics import child, picture
from rig import machines

Tried = Callable[..., dict[str, Any]]

PROGRAM = """
import contextlib, json, os, sys
from pathlib import Path
strategy, timeout, setup = json.loads(sys.argv[1])
if setup:
    exec(setup)
from moderngl_colab.diagnostics import child, trial
before = len(os.listdir("/proc/self/fd"))
tried, drawn = trial.attempt(strategy, timeout)
assert len(os.listdir("/proc/self/fd")) == before
tasks = Path("/proc/self/task").iterdir()
assert not [line for task in tasks for line in (task / "children").read_text().split()]
print(json.dumps(tried._asdict() | {"drawn": None if drawn is None else drawn.hex()}))
"""


@pytest.fixture
def tried(python: Callable[..., machines.Finished]) -> Tried:
    """Try a strategy in a simulated machine, and see that the process that asked keeps nothing."""

    def call(
        machine: str | machines.Machine,
        strategy: str,
        timeout: float = 60,
        setup: str = "",
        **arguments: Any,
    ) -> dict[str, Any]:
        job = json.dumps([strategy, timeout, setup])
        report: dict[str, Any] = json.loads(python(machine, PROGRAM, job, **arguments).stdout)
        return report

    return call


def ending(report: dict[str, Any]) -> dict[str, Any]:
    names = ("outcome", "reason", "remedy", "cause", "pixels", "signal", "timed_out")
    return {name: report[name] for name in names}


@pytest.mark.parametrize(("strategy", "device"), [("egl", 0), ("glx", None)])
def test_the_gpu_is_proven_by_pixels(tried: Tried, strategy: str, device: int | None) -> None:
    report = tried("colab", strategy)

    assert ending(report) == {
        "outcome": "selected",
        "reason": "NVIDIA Corporation, NVIDIA Stand-in GPU 0/PCIe/SSE2",
        "remedy": None,
        "cause": None,
        "pixels": True,
        "signal": None,
        "timed_out": False,
    }
    assert report["vendor"] == "NVIDIA Corporation"
    assert report["renderer"] == "NVIDIA Stand-in GPU 0/PCIe/SSE2"
    assert report["version"] == "3.3.0 NVIDIA 550.54.15"
    assert (report["software"], report["egl_device"]) == (False, device)
    assert report["seconds"] > 0
    assert picture.differences(bytes.fromhex(report["drawn"])) == 0


def test_the_server_is_gone_before_the_process_that_tried(
    python: Callable[..., machines.Finished],
) -> None:
    code = (
        "import ctypes, os\n"
        "from pathlib import Path\n"
        "from moderngl_colab.diagnostics.trial import attempt\n"
        "set_child_subreaper = 36\n"
        "assert ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0) == 0\n"
        "print(attempt('glx')[0].pixels)\n"
        "print(repr(Path('/proc/self/task', str(os.getpid()), 'children').read_text()))\n"
    )
    assert python("colab", code).stdout == "True\n''\n"


def test_the_cpu_is_named_though_software_is_not_allowed(tried: Tried) -> None:
    report = tried("no-nvidia", "mesa", env={"MODERNGL_COLAB_ALLOW_SOFTWARE": "0"})

    assert (report["outcome"], report["pixels"], report["software"]) == ("selected", True, True)
    assert report["stderr"] == []


@pytest.mark.parametrize("strategy", ["egl", "glx"])
def test_a_context_that_draws_nothing_is_rejected(tried: Tried, strategy: str) -> None:
    report = tried("colab", strategy, env={"STANDIN_FAULT": "blank"})

    wrong = picture.differences(bytes.fromhex(report["drawn"]))
    assert 60000 < wrong <= picture.PIXELS
    assert ending(report) == {
        "outcome": "rejected",
        "reason": f"{wrong} of 65536 pixels are wrong",
        "remedy": None,
        "cause": None,
        "pixels": False,
        "signal": None,
        "timed_out": False,
    }
    assert report["vendor"] == "NVIDIA Corporation"


def test_a_crash_is_told_by_its_signal(tried: Tried) -> None:
    report = tried("colab", "egl", env={"STANDIN_FAULT": "crash"})

    assert ending(report) == {
        "outcome": "failed",
        "reason": "the process that tried it was ended by SIGSEGV (11)",
        "remedy": None,
        "cause": "driver-crash",
        "pixels": False,
        "signal": 11,
        "timed_out": False,
    }


def test_a_hang_is_told_as_such(tried: Tried) -> None:
    report = tried("colab", "egl", timeout=2.5, env={"STANDIN_FAULT": "hang"})

    assert ending(report) == {
        "outcome": "failed",
        "reason": "the process that tried it did not end within 2.5 s",
        "remedy": None,
        "cause": "driver-hang",
        "pixels": False,
        "signal": None,
        "timed_out": True,
    }


def test_a_refusal_is_the_strategys_own(tried: Tried) -> None:
    report = tried("colab", "egl", env={"STANDIN_FAULT": "init"})

    assert report["outcome"] == "failed"
    assert report["reason"] == (
        "EGL device 0: eglInitialize failed: EGL_NOT_INITIALIZED (0x3001); "
        "NVML lists NVIDIA Stand-in GPU 0"
    )
    assert report["drawn"] is None
    assert report["stderr"] == []


def test_a_server_that_does_not_answer_is_not_taken_for_the_drivers_fault(
    tried: Tried, folder: Path
) -> None:
    report = tried("colab", "glx", timeout=10, env=path_with_xvfb(folder, "exec sleep 60"))

    assert re.fullmatch(r"Xvfb did not answer within [\d.]+ s", report["reason"])
    assert (report["outcome"], report["cause"]) == ("failed", "xvfb-start")
    assert (report["timed_out"], report["signal"]) == (False, None)


def test_an_xvfb_that_is_ended_by_a_signal_has_crashed(tried: Tried, folder: Path) -> None:
    report = tried("colab", "glx", env=path_with_xvfb(folder, "kill -SEGV $$"))

    assert (report["outcome"], report["cause"]) == ("failed", "xvfb-crash")
    assert report["reason"] == "Xvfb ended at once with status -11; it said: nothing"
    assert (report["signal"], report["timed_out"]) == (None, False)


def test_what_is_said_on_stderr_is_kept(tried: Tried) -> None:
    report = tried("no-nvidia", "mesa", env={"EGL_LOG_LEVEL": "debug"})

    assert report["pixels"]
    assert any(line.startswith("libEGL debug: ") for line in report["stderr"])


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        ("sys.executable = ''", "sys.executable names no program"),
        ("sys.executable = None", "sys.executable names no program"),
        (
            "sys.executable = '/nowhere/python'",
            "[Errno 2] No such file or directory: '/nowhere/python'",
        ),
    ],
)
def test_where_no_python_can_be_started_that_is_said(tried: Tried, setup: str, reason: str) -> None:
    report = tried("no-nvidia", "mesa", setup=setup)

    assert report["outcome"] == "skipped"
    assert report["reason"] == f"no process could be started to try it: {reason}"


def test_a_program_that_is_no_python_is_quoted(tried: Tried) -> None:
    report = tried("no-nvidia", "mesa", setup="sys.executable = '/bin/ls'")

    assert report["outcome"] == "failed"
    assert report["reason"].startswith("the process that tried it ended with status 2; it said: ")


@pytest.mark.parametrize(
    "setup",
    [
        "os.environ.update(PYTHONWARNINGS='error', PYTHONPROFILEIMPORTTIME='1')",
        "os.environ.update(PYTHONINSPECT='1', PYTHONVERBOSE='1', PYTHONHASHSEED='nonsense')",
        "sys.path.append(Path('/a/path/that/is/no/text')); sys.path.append('/\\udcff')",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    ],
)
def test_the_state_of_the_asking_process_does_not_matter(tried: Tried, setup: str) -> None:
    report = tried("no-nvidia", "mesa", setup=setup)

    assert (report["pixels"], report["stderr"]) == (True, [])


def test_it_works_without_standard_streams(python: Callable[..., machines.Finished]) -> None:
    code = (
        "import os\n"
        "from moderngl_colab.diagnostics.trial import attempt\n"
        "kept = os.dup(1)\n"
        "for number in (0, 1, 2): os.close(number)\n"
        "tried, _ = attempt('mesa')\n"
        "os.write(kept, f'{tried.outcome} {tried.pixels} {tried.stderr}'.encode())\n"
        "os._exit(0)\n"
    )
    assert python("no-nvidia", code).stdout == "selected True ()"


def test_it_works_in_threads_and_in_a_forked_child(
    python: Callable[..., machines.Finished],
) -> None:
    code = (
        "import os\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import moderngl_colab\n"
        "from moderngl_colab.diagnostics.trial import attempt\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    print(*[t.pixels for t, _ in pool.map(attempt, ['egl', 'mesa'])], flush=True)\n"
        "ctx = moderngl_colab.get_gpu_context()\n"
        "if os.fork() == 0:\n"
        "    print(attempt('egl')[0].pixels, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert python("colab", code).stdout == "True True\nTrue\n"


def test_an_interrupt_ends_the_process_that_tries(python: Callable[..., machines.Finished]) -> None:
    code = (
        "import os, signal, threading\n"
        "from pathlib import Path\n"
        "from moderngl_colab.diagnostics.trial import attempt\n"
        "threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    attempt('egl')\n"
        "except KeyboardInterrupt:\n"
        "    path = Path('/proc/self/task', str(os.getpid()), 'children')\n"
        "    print(f'interrupted, {path.read_text()!r} left')\n"
    )
    assert python("colab", code, env={"STANDIN_FAULT": "hang"}).stdout == "interrupted, '' left\n"


def test_wrong_pixels_are_counted_one_by_one(tried: Tried) -> None:
    drawn = bytearray.fromhex(tried("no-nvidia", "mesa")["drawn"])
    assert picture.differences(bytes(drawn)) == 0

    drawn[0] ^= 0xFF
    drawn[-1] ^= 0xFF

    assert picture.differences(bytes(drawn)) == 2
    assert picture.differences(bytes(drawn[:-1])) == picture.PIXELS
    assert picture.differences(b"") == picture.PIXELS


def test_a_picture_upside_down_or_with_its_colours_swapped_is_wrong(tried: Tried) -> None:
    drawn = bytes.fromhex(tried("no-nvidia", "mesa")["drawn"])
    rows = [drawn[start : start + 768] for start in range(0, len(drawn), 768)]
    swapped = bytearray(drawn)
    swapped[0::3], swapped[2::3] = drawn[2::3], drawn[0::3]

    assert picture.differences(b"".join(reversed(rows))) > 10000
    assert picture.differences(bytes(swapped)) > 10000


def test_the_picture_is_a_png_of_its_pixels() -> None:
    pixels = bytes(range(256)) * 768

    content = picture.png(pixels)

    assert content.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\x02\0\0\0")
    start = content.index(b"IDAT") + 4
    rows = zlib.decompress(content[start : content.rindex(b"IEND") - 8])
    assert b"".join(rows[n + 1 : n + 769] for n in range(0, len(rows), 769)) == pixels


def behave(how: str) -> Iterator[object]:
    """What a process of its own may do; it is imported there from this file."""
    print("noise on stdout")
    os.write(1, b'{"no": "answer"}\n')
    yield {"first": "\udcff\n"}
    if how == "stop":
        os._exit(3)
    if how == "raise":
        raise LookupError("a mistake of ours")
    if how == "chatter":
        for number in range(20000):
            print(f"line {number}", file=sys.stderr)
        sys.stderr.flush()
        os.write(2, b"\xff\x00\x1b[31m")
    if how == "abort":
        os.abort()
    if how in ("fork", "session"):
        if (pid := os.fork()) == 0:
            if how == "session":
                os.setsid()  # as an X server has one
            os.execlp("sleep", "sleep", "60")
        yield pid
        signal.pause()
    yield ["second"]


def test_answers_come_by_a_way_of_their_own() -> None:
    ended = child.run(behave, "end", timeout=60)

    assert ended == child.Ended(
        answers=({"first": "\udcff\n"}, ["second"]),
        stderr=('{"no": "answer"}', "noise on stdout"),
        status=0,
    )
    assert ended.signal is None


@pytest.mark.parametrize(("how", "status"), [("stop", 3), ("raise", 1), ("abort", -6)])
def test_what_was_answered_before_the_end_is_kept(how: str, status: int) -> None:
    ended = child.run(behave, how, timeout=60)

    assert ended.answers == ({"first": "\udcff\n"},)
    assert (ended.status, ended.timed_out) == (status, False)
    assert ended.signal == (6 if how == "abort" else None)
    if how == "raise":
        assert "Traceback (most recent call last):" in ended.stderr
        assert "LookupError: a mistake of ours" in ended.stderr


def test_of_much_the_last_is_kept() -> None:
    ended = child.run(behave, "chatter", timeout=60)

    assert ended.answers[1] == ["second"]
    assert "line 19999" in ended.stderr
    assert "\ufffd\x00\x1b[31m" in "".join(ended.stderr)
    assert 60000 < sum(len(line) + 1 for line in ended.stderr) <= 65536


def runs(pid: int) -> bool:
    """Whether a process is there; one that has ended, and that nobody waits for, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["fork", "session"])
def test_a_process_that_hangs_is_ended_with_those_it_started(how: str) -> None:
    ended = child.run(behave, how, timeout=5)

    assert (ended.timed_out, ended.status, ended.signal) == (True, None, None)
    first, sleeper = ended.answers
    assert first == {"first": "\udcff\n"}
    while runs(sleeper):
        time.sleep(0.01)


def test_a_crash_leaves_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert child.run(behave, "abort", timeout=60).signal == 6

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_none_to_stumble_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    ended = child.run(behave, "end", timeout=60)

    assert ended.answers[1] == ["second"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_hangs_does_not_outlive_the_doctor(python: Any, number: int) -> None:
    code = f"""
        import contextlib, subprocess, sys, time
        from pathlib import Path
        doctor = subprocess.Popen([sys.executable, "-P", "-m", "moderngl_colab"])
        children = Path(f"/proc/{{doctor.pid}}/task/{{doctor.pid}}/children")
        def tries():
            for pid in children.read_text().split():
                with contextlib.suppress(OSError):  # That one has ended.
                    if "diagnostics.trial" in Path(f"/proc/{{pid}}/fd/0").read_text():
                        return True
            return False
        while not tries():
            time.sleep(0.05)
        time.sleep(1)
        doctor.send_signal({int(number)})
        print(doctor.wait())
    """

    done = python("package", textwrap.dedent(code), env={"STANDIN_FAULT": "hang"}, timeout=90)

    assert (done.stdout, done.survivors) == (f"{-number}\n", ())
