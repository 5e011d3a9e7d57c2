"""Signals and exceptions that strike in the middle of a call."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from conftest import DRAWN, ENVIRONMENT, MESA_GLX, without_noise

GLX = (
    MESA_GLX
    + ENVIRONMENT
    + """
import ctypes, gc, json, os, random, signal, sys, threading, time, warnings
from moderngl_colab import _display, _signals
warnings.simplefilter("ignore")
call = mesa_glx
def stop_server():
    if _display._shared is not None:
        _display.retire(_display._shared)
def state():
    files = sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{n}"))
    servers = [f for f in files if f.startswith("socket:")]
    handlers = [signal.getsignal(n) for n in signal.valid_signals()]
    return {"environ": environment(), "python": list(os.environ.items()), "handlers": handlers,
            "sockets": len(servers), "files": len(files), "threads": threading.active_count()}
"""
)

# A context was made, and SIGALRM raises from now on.
AT_ALARM = """
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
call().release()
"""


def run(code: str, timeout: float = 120) -> Any:
    """What a program that starts with GLX prints, as JSON."""
    process = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", GLX + code],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert (process.returncode, without_noise(process.stderr)) == (0, "")
    return json.loads(process.stdout)


def test_an_interrupt_at_any_moment_of_a_call_leaves_nothing() -> None:
    code = f"""
{DRAWN}
{AT_ALARM}
stop_server()
before, hits, differences = state(), 0, []
random.seed(1)
for trial in range(150):
    took, ctx = 0.15 if trial % 2 else 0.02, None
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, took))
        ctx = call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    if ctx is not None:
        ctx.release()
    if trial % 2:
        call().release()
    stop_server()
    gc.collect()
    now = state()
    differences += [name for name in now if now[name] != before[name]]
ctx = call()
print(json.dumps([hits, differences, list(drawn(ctx, (1, 0, 0)))]))
"""
    hits, differences, pixel = run(code)

    assert hits > 50
    assert differences == []
    assert pixel == [255, 0, 0]


def test_an_interrupt_when_the_context_is_ready_leaves_what_was_before() -> None:
    code = f"""
{DRAWN}
import moderngl
from moderngl_colab import _current
{AT_ALARM}
raw = moderngl.create_context(standalone=True, backend="egl")
before, current, seen = state(), _current.current(), []
def strike(frame, event, _):
    if event == "return" and frame.f_code.co_name == "remember":
        seen.append("ready")
        signal.raise_signal(signal.SIGALRM)
sys.setprofile(strike)
try:
    call()
except KeyboardInterrupt:
    seen.append("told")
sys.setprofile(None)
gc.collect()
now = state()
differences = [name for name in now if now[name] != before[name]]
print(json.dumps([seen, differences, _current.current() == current, list(drawn(raw, (0, 0, 1)))]))
"""
    seen, differences, is_current, pixel = run(code)

    assert (seen, differences) == (["ready", "told"], [])
    assert is_current
    assert pixel == [0, 0, 255]


def test_an_exception_thrown_into_a_thread_leaves_environment_and_locks() -> None:
    code = f"""
{DRAWN}
throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
throw.argtypes = [ctypes.c_ulong, ctypes.py_object]
call().release()
class Struck(BaseException):
    pass
before, hits, differences = state(), [], []
random.seed(2)
def work():
    try:
        call().release()
    except Struck:
        hits.append(1)
for _ in range(150):
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(random.uniform(0, 0.03))
    if thread.is_alive():
        throw(thread.ident, Struck)
    thread.join()
    now = state()
    differences += [name for name in ("environ", "python") if now[name] != before[name]]
ctx = call()
print(json.dumps([len(hits), differences, list(drawn(ctx, (0, 1, 0)))]))
"""
    hits, differences, pixel = run(code)

    assert hits > 30
    assert differences == []
    assert pixel == [0, 255, 0]


def test_handlers_run_once_at_the_end_and_are_as_before() -> None:
    code = """
seen = []
def note(number, frame):
    seen.append(number)
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, note)
before = [signal.getsignal(n) for n in signal.valid_signals()]
with _signals.held():
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    early = list(seen)
    _signals.let_in()
    between = list(seen)
    os.kill(os.getpid(), signal.SIGUSR2)
    with _signals.held():
        pass
    late = list(seen)
after = [signal.getsignal(n) for n in signal.valid_signals()]
print(json.dumps([early, between, late, seen, before == after]))
"""
    one, two = signal.SIGUSR1, signal.SIGUSR2
    assert run(code) == [[], [one, two], [one, two], [one, two, two], True]


def test_every_handler_runs_where_each_of_them_raises() -> None:
    code = """
seen = []
def interrupt(number, frame):
    seen.append(number)
    raise KeyboardInterrupt(number)
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, interrupt)
try:
    with _signals.held():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
except KeyboardInterrupt as error:
    print(json.dumps([seen, error.args[0], error.__context__.args[0],
        signal.getsignal(signal.SIGUSR1) is interrupt, signal.getsignal(signal.SIGUSR2) is interrupt
    ]))
"""
    one, two = signal.SIGUSR1, signal.SIGUSR2
    assert run(code) == [[one, two], two, one, True, True]


def test_what_the_kernel_was_told_of_signals_is_the_same_afterwards() -> None:
    """Of asyncio's handlers, which restart system calls, and of those that a library of C's set."""
    code = """
import asyncio, faulthandler
from moderngl_colab import _signals
def note(number, frame):
    pass
signal.signal(signal.SIGUSR1, note)
faulthandler.register(signal.SIGUSR1, file=open(os.devnull, "w"), chain=True)
loop = asyncio.new_event_loop()
loop.add_signal_handler(signal.SIGUSR2, note)
signal.signal(signal.SIGALRM, note)
signal.siginterrupt(signal.SIGALRM, False)
def told():
    "Handler, mask and flags of each; what lies between them is nobody's."
    actions = [_signals._action(n) for n in range(1, signal.NSIG)]
    return [(action[:16], action[136:140]) for action in actions]
before = told()
ctx = call()
with ctx:
    pass
ctx.release()
print(json.dumps([n for n, (one, other) in enumerate(zip(before, told()), 1) if one != other]))
"""
    assert run(code) == []


# A signal at each line of ours in turn, but for the first ones of __exit__: until it has begun,
# nobody can know that the block was to be left.
SWEPT = """
from moderngl_colab import _current
package = os.path.dirname(moderngl_colab.__file__)
make = call if sys.argv[1] == "glx" else lambda: moderngl_colab.get_gpu_context(strategies=["mesa"])
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, interrupt)
def holds(frame):
    return frame.f_code.co_filename.endswith("_signals.py")
def struck(line, action):
    "Run an action, interrupted when it has come to a line; whether it was."
    count = 0
    def follow(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line" and frame.f_code.co_name != "__exit__" and not holds(frame):
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGUSR1)
        return follow
    sys.settrace(follow)
    try:
        action()
        return count >= line
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
def files():
    return len(os.listdir("/proc/self/fd"))
"""


def swept(way: str, code: str) -> Any:
    return run(f"sys.argv.append({way!r})\n" + SWEPT + code)


@pytest.mark.parametrize("way", ["egl", "glx"])
def test_an_interrupt_at_any_line_of_a_switch_leaves_the_context_of_the_block(way: str) -> None:
    code = """
first, second = make(), make()
second.__exit__(None, None, None)
def switch():
    with second:
        pass
line, wrong = 5, []
while True:
    with first:
        inside = _current.current()
        hit = struck(line, switch)
        if _current.current() != inside:
            wrong.append(line)
    if not hit:
        break
    line += 1
print(json.dumps([line > 30, wrong]))
"""
    assert swept(way, code) == [True, []]


@pytest.mark.parametrize("way", ["egl", "glx"])
def test_an_interrupt_at_any_line_of_a_release_leaves_nothing(way: str) -> None:
    code = """
make().release()
before, line, wrong = files(), 2, []
while True:
    ctx = make()
    hit = struck(line, ctx.release)
    ctx.release()
    if _current.current() is not None or files() != before:
        wrong.append(line)
        before = files()
    if not hit:
        break
    line += 1
print(json.dumps([line > 20, wrong]))
"""
    assert swept(way, code) == [True, []]


def test_a_handler_that_puts_another_in_its_place_is_obeyed() -> None:
    code = """
def second(number, frame):
    pass
def first(number, frame):
    signal.signal(signal.SIGUSR1, second)
signal.signal(signal.SIGUSR1, first)
with _signals.held():
    os.kill(os.getpid(), signal.SIGUSR1)
    _signals.let_in()
print(json.dumps(signal.getsignal(signal.SIGUSR1) is second))
"""
    assert run(code) is True


def test_a_child_that_is_forked_meanwhile_has_its_handlers() -> None:
    code = """
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, interrupt)
def fork():
    child = os.fork()
    if child == 0:
        os._exit(0 if signal.getsignal(signal.SIGUSR1) is interrupt else 1)
    status.append(os.waitpid(child, 0)[1])
status = []
with _signals.held():
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
print(json.dumps(status))
"""
    assert run(code) == [0]


def test_an_interrupt_ends_the_wait_for_a_server_that_does_not_answer() -> None:
    code = """
import pathlib, tempfile
with tempfile.TemporaryDirectory() as folder:
    server = pathlib.Path(folder, "Xvfb")
    server.write_text("#!/bin/sh\\nexec sleep 1000\\n")
    server.chmod(0o755)
    os.environ["PATH"] = folder + ":" + os.environ["PATH"]
    before = state()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        call()
    except KeyboardInterrupt:
        for thread in threading.enumerate()[1:]:
            thread.join()
        print(json.dumps([name for name, what in state().items() if what != before[name]]))
"""
    assert run(code, timeout=25) == []
