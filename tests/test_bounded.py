"""No call waits for ever: a total limit, which is named where it was reached."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import path_with_xvfb

from rig import machines, remedies

Chain = Callable[..., dict[str, Any]]
Python = Callable[..., machines.Finished]

SILENT = "exec sleep 1000"
POSSIBLE = "a number of seconds above 0 is needed, 86400 at most"
# How long something was waited for is the share of the limit that was left, measured.
SECONDS = re.compile(r"within [\d.]+ s")


def observed(report: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    """Outcome, cause and reason of each attempt; of a measured time only that there is one."""
    return [
        (a["outcome"], a["cause"], SECONDS.sub("within N s", a["reason"]))
        for a in report["attempts"]
    ]


@pytest.mark.parametrize("timeout", [1e-9, 0.5, 30, 86400])
def test_a_number_of_seconds_is_taken(chain: Chain, timeout: float) -> None:
    report = chain("no-nvidia", strategies="mesa", timeout=timeout)

    if timeout < 0.1:
        assert report["error"].startswith(
            "GPUContextError: no OpenGL 3.3 context could be made within 1e-09 s:"
        )
    else:
        assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (0, f"ValueError: timeout=0: {POSSIBLE}"),
        (-1.5, f"ValueError: timeout=-1.5: {POSSIBLE}"),
        (float("nan"), f"ValueError: timeout=nan: {POSSIBLE}"),
        (float("inf"), f"ValueError: timeout=inf: {POSSIBLE}"),
        (86401, f"ValueError: timeout=86401: {POSSIBLE}"),
        (10**400, f"ValueError: timeout=inf: {POSSIBLE}"),
        ("30", "TypeError: timeout='30': a number of seconds is needed"),
        (True, "TypeError: timeout=True: a number of seconds is needed"),
        ([30], "TypeError: timeout=[30]: a number of seconds is needed"),
    ],
)
def test_what_is_no_limit_is_refused(chain: Chain, timeout: object, error: str) -> None:
    report = chain("no-nvidia", timeout=timeout)

    assert report["error"] == error
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e6", "soon", "30 s"])
def test_a_variable_that_is_no_limit_is_refused(chain: Chain, value: str) -> None:
    report = chain("no-nvidia", env={"MODERNGL_COLAB_TIMEOUT": value})

    assert report["error"] == f"ValueError: MODERNGL_COLAB_TIMEOUT={value!r}: {POSSIBLE}"


def test_the_variable_is_the_limit_and_the_argument_wins(chain: Chain) -> None:
    env = {"MODERNGL_COLAB_TIMEOUT": " 1e-9 "}

    by_variable = chain("colab", env=env)
    by_argument = chain("colab", env=env, timeout=30)
    unset = chain("colab", env={"MODERNGL_COLAB_TIMEOUT": " "})

    assert by_variable["error"].startswith(
        "GPUContextError: no OpenGL 3.3 context could be made within 1e-09 s:"
    )
    assert (by_argument["strategy"], unset["strategy"]) == ("egl", "egl")


def test_a_server_that_does_not_answer_leaves_time_for_the_next_strategy(
    chain: Chain, folder: Path
) -> None:
    report = chain("glx-only", env=path_with_xvfb(folder, SILENT), timeout=4)

    assert observed(report)[1] == ("failed", "xvfb-start", "Xvfb did not answer within N s")
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])
    warned = SECONDS.sub("within N s", report["warnings"][0][1])
    assert "\n  glx: failed: Xvfb did not answer within N s\n" in warned


def test_a_server_that_does_not_answer_is_named_where_nothing_else_serves(
    chain: Chain, folder: Path
) -> None:
    env = path_with_xvfb(folder, SILENT)

    report = chain("no-libegl", env=env, timeout=2, strategies=["glx", "mesa"])

    absent = (
        "the loader says: libEGL.so.1: cannot open shared object file: No such file or directory"
    )
    assert observed(report)[:2] == [
        ("failed", "xvfb-start", "Xvfb did not answer within N s"),
        ("failed", "dispatch-absent", f"{absent}; by GLX: Xvfb did not answer within N s"),
    ]
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


RELEASED = """
import json, threading, time, warnings, moderngl_colab
warnings.simplefilter("ignore")
inside, go_on = threading.Event(), threading.Event()

class Slow:
    name, vendor = "slow", None

    def create(self, request):
        seen.append(0 < request.until - time.monotonic() <= 30)
        inside.set()
        go_on.wait()
        raise moderngl_colab.StrategyFailed("slow")

def work():
    try:
        moderngl_colab.get_gpu_context(strategies=[Slow()])
    except moderngl_colab.GPUContextError as error:
        seen.append(error.attempts[0].reason)

seen = []
thread = threading.Thread(target=work)
thread.start()
inside.wait()
try:
    moderngl_colab.get_gpu_context(timeout=0.5)
except moderngl_colab.GPUContextError as error:
    seen += [str(error), error.cause, error.attempts]
go_on.set()
thread.join()
seen.append(moderngl_colab.describe(moderngl_colab.get_gpu_context()).strategy)
print(json.dumps(seen))
"""


def test_another_threads_call_is_waited_for_and_named(python: Python) -> None:
    assert json.loads(python("colab", RELEASED).stdout) == [
        True,
        "another thread's call of get_gpu_context() did not end within 0.5 s\n"
        "  fix: get_gpu_context(timeout=1) or MODERNGL_COLAB_TIMEOUT=1 waits longer",
        "timeout",
        [],
        "slow",
        "egl",
    ]


USED_UP = """
import json, threading, time, warnings, moderngl_colab

class Slow:
    name, vendor = "slow", None

    def create(self, request):
        came = time.monotonic()
        while time.monotonic() < came + 0.3:
            time.sleep(0.01)
        raise moderngl_colab.StrategyFailed("the mill grinds slowly")

try:
    moderngl_colab.get_gpu_context(timeout=0.2, strategies=[Slow(), "egl", "mesa"])
except moderngl_colab.GPUContextError as error:
    print(error, error.cause, [a.cause for a in error.attempts])
"""


def test_what_is_not_tried_for_want_of_time_says_so(python: Python) -> None:
    assert python("colab", USED_UP).stdout == (
        "no OpenGL 3.3 context could be made within 0.2 s:\n"
        "  1. slow: failed: the mill grinds slowly\n"
        "  2. egl: unavailable: it was not tried: the time limit of 0.2 s was used up by slow\n"
        "     fix: get_gpu_context(timeout=0.4) or MODERNGL_COLAB_TIMEOUT=0.4 waits longer\n"
        "  3. mesa: unavailable: it was not tried: the time limit of 0.2 s was used up by slow\n"
        "     fix: get_gpu_context(timeout=0.4) or MODERNGL_COLAB_TIMEOUT=0.4 waits longer\n"
        "  4. glx: skipped: not among the strategies asked for\n"
        "  more: python -m moderngl_colab timeout [None, 'timeout', 'timeout', None]\n"
    )


SHARES = """
import json, time, moderngl_colab

class Asks:
    vendor = None

    def __init__(self, name):
        self.name = name

    def create(self, request):
        shares.append(round(request.until - time.monotonic()))
        raise moderngl_colab.StrategyFailed("no")

shares = []
try:
    moderngl_colab.get_gpu_context(timeout=6000, strategies=[Asks(name) for name in "abc"])
except moderngl_colab.GPUContextError as error:
    print(shares, error.cause, error.headline)
"""


def test_each_strategy_has_its_share_and_the_last_one_all_that_is_left(python: Python) -> None:
    assert python("no-nvidia", SHARES).stdout == (
        "[2000, 3000, 6000] None no OpenGL 3.3 context could be made:\n"
    )


def test_an_nvml_that_hangs_is_given_up_and_named_beside_the_refusal(chain: Chain) -> None:
    env = {"STANDIN_FAULT": "init,glx-context,nvml-hang"}

    report = chain("colab", env=env)

    assert [
        (outcome, cause, reason.partition("; ")[2], each["remedy"])
        for (outcome, cause, reason), each in zip(observed(report), report["attempts"], strict=True)
    ][:2] == [
        ("failed", cause, "NVML did not answer within N s", remedies.SMI)
        for cause in ("driver-refused", "glx-refused")
    ]
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


def test_which_gpu_is_meant_is_not_told_by_an_nvml_that_hangs(chain: Chain) -> None:
    # By a number alone EGL does not tell it where the driver gives no ordinals.
    env = {
        "STANDIN_GPUS": "2",
        "STANDIN_FAULT": "nvml-hang,no-cuda-attrib,no-uuid,no-render-node",
        "CUDA_VISIBLE_DEVICES": "GPU-57a2d100",
    }

    report = chain("container-graphics", env=env, timeout=3)

    reason = "which GPU is meant cannot be told: NVML did not answer within N s"
    assert observed(report)[:2] == [("failed", "driver-hang", reason)] * 2
    assert report["strategy"] == "mesa"


ASK = """
import json, os, threading, moderngl_colab
ctx = moderngl_colab.get_gpu_context()
os.environ["STANDIN_FAULT"] = "nvml-hang"
info, said = moderngl_colab.describe(ctx), []
for ask in (info.gpu_memory, moderngl_colab.visible_gpus, moderngl_colab.visible_gpus):
    try:
        said.append(ask())
    except moderngl_colab.GPUContextError as error:
        said += [str(error), error.cause]
    said.append(threading.active_count())
framebuffer = ctx.simple_framebuffer((2, 2))
framebuffer.clear(0, 1, 0)
said.append(framebuffer.read()[1])
print(json.dumps(said))
"""


def test_gpus_that_nobody_tells_are_not_taken_for_none(python: Python) -> None:
    why = (
        "which GPUs this process was given cannot be told: NVML did not answer within 10 s\n"
        "  fix: nvidia-smi shows whether the driver itself works"
    )

    # One thread stays behind in the driver, and no second one is sent after it; after its 10 s
    # nobody waits for it, either.
    assert json.loads(python("colab", ASK).stdout) == [
        None, 2, why, "driver-hang", 2, why, "driver-hang", 2, 255
    ]  # fmt: skip


BEHIND = """
import ctypes, json, os, time
from moderngl_colab import _bounded

pipe = os.pipe()
libc = ctypes.CDLL(None)

def question():
    return libc.read(pipe[0], ctypes.create_string_buffer(1), 1)

def wrong():
    return 1 / 0

said = []
for seconds in (0.2, 1):
    try:
        _bounded.ask("pipe", question, time.monotonic() + seconds)
    except _bounded.SilentError as error:
        said.append(str(error))
said.append(_bounded.ask("another", lambda: 7, time.monotonic() + 5))
os.write(pipe[1], b"12")
while "pipe" in _bounded._under_way:
    time.sleep(0.01)
said.append(_bounded.ask("pipe", question, time.monotonic() + 5))
try:
    _bounded.ask("pipe", wrong, time.monotonic() + 5)
except ZeroDivisionError as error:
    said.append(str(error))
try:
    _bounded.ask("pipe", question, time.monotonic() - 1)
except _bounded.SilentError as error:
    said.append(str(error))
print(json.dumps(said))
"""


def test_who_is_silent_is_asked_again_once_it_has_answered(python: Python) -> None:
    first, second, *others = json.loads(python("no-nvidia", BEHIND).stdout)
    silent = re.compile(r"pipe did not answer within ([\d.]+) s")
    waits = [float(found[1]) for found in map(silent.fullmatch, (first, second)) if found]
    # The second wait began with the question, and is told rounded.
    assert waits[0] >= 0.2
    assert waits[1] - waits[0] > 0.9
    assert others == [7, 1, "division by zero", "pipe was not asked, for no time was left"]


INTERRUPTED = """
import json, os, signal, threading, time, moderngl_colab
ctx = moderngl_colab.get_gpu_context()
os.environ["STANDIN_FAULT"] = "nvml-hang"
info, said, began = moderngl_colab.describe(ctx), [], time.monotonic()
for _ in range(3):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        info.gpu_memory()
    except KeyboardInterrupt:
        said.append("interrupted")
said.append(time.monotonic() - began < 9)
eight = [threading.Thread(target=info.gpu_memory) for _ in range(8)]
for thread in eight:
    thread.start()
names = [thread.name for thread in threading.enumerate()]
said.append(names.count("moderngl_colab: NVML"))
for thread in eight:
    thread.join()
print(json.dumps(said))
"""


def test_of_many_who_ask_and_are_interrupted_one_thread_stays_behind(python: Python) -> None:
    assert json.loads(python("colab", INTERRUPTED).stdout) == [*["interrupted"] * 3, True, 1]


IN_TURN = """
import threading, time
from moderngl_colab import _bounded

def question():
    inside.append(1)
    time.sleep(0.05)
    return len(inside), inside.clear()

inside, said = [], []
ask = lambda: said.append(_bounded.ask("library", question, time.monotonic() + 60)[0])
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(said, _bounded._under_way)
"""


def test_those_who_ask_at_once_are_answered_in_turn(python: Python) -> None:
    assert python("no-nvidia", IN_TURN).stdout == f"{[1] * 8} {{}}\n"


AMID_THE_CALL = """
import os, signal, sys, threading, time, moderngl_colab
began = time.monotonic()
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    moderngl_colab.get_gpu_context(strategies="egl", timeout=60)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 8)
"""


def test_an_interrupt_ends_the_wait_for_nvml(python: Python) -> None:
    done = python("colab", AMID_THE_CALL, env={"STANDIN_FAULT": "init,nvml-hang"})

    assert done.stdout == "interrupted True\n"


def test_a_fork_amid_a_question_leaves_the_next_one_to_the_child(python: Python) -> None:
    code = """
import os, threading, time
from moderngl_colab import _bounded
threading.Thread(
    target=lambda: _bounded.ask("library", lambda: time.sleep(1), time.monotonic() + 9)
).start()
while not _bounded._under_way:
    time.sleep(0.01)
if os.fork() == 0:
    print(_bounded.ask("library", lambda: 7, time.monotonic() + 0.5), flush=True)
    os._exit(0)
os.wait()
"""
    assert python(
        "no-nvidia", "import warnings; warnings.simplefilter('ignore')" + code
    ).stdout == ("7\n")


def test_a_gpu_that_nobody_knows_is_refused_in_time(python: Python) -> None:
    code = """
import time, moderngl_colab
began = time.monotonic()
try:
    moderngl_colab.get_gpu_context(device="bogus", timeout=1)
except ValueError as error:
    print(str(error).partition(":")[0], time.monotonic() - began < 6)
"""
    done = python("colab", code, env={"STANDIN_FAULT": "nvml-hang"})

    assert done.stdout == "device='bogus' True\n"


@pytest.mark.parametrize("number", ["np.float32(20)", "np.int64(20)", "Fraction(41, 2)"])
def test_every_kind_of_number_is_taken(python: Python, number: str) -> None:
    code = f"""
from fractions import Fraction
import numpy as np
import moderngl_colab
ctx = moderngl_colab.get_gpu_context(timeout={number})
print(moderngl_colab.describe(ctx).strategy)
"""
    assert python("colab", code).stdout == "egl\n"


def test_a_server_that_does_not_answer_is_given_more_time(chain: Chain, folder: Path) -> None:
    env = path_with_xvfb(folder, SILENT)

    report = chain("glx-only", env=env, timeout=2, strategies="glx")
    probed = chain("glx-only", env=env, timeout=8, strategies="glx", probe=True)

    assert [SECONDS.sub("within N s", each["error"]) for each in (report, probed)] == [
        "GPUContextError: no OpenGL 3.3 context could be made within N s:\n"
        "  1. glx: failed: Xvfb did not answer within N s\n"
        f"     fix: get_gpu_context(timeout={more}) or MODERNGL_COLAB_TIMEOUT={more} waits longer\n"
        "  2. egl: skipped: not among the strategies asked for\n"
        "  3. mesa: skipped: not among the strategies asked for\n"
        "  more: python -m moderngl_colab"
        for more in (4, 16)
    ]


def test_where_the_time_ran_out_the_error_says_so_beside_what_was_seen(chain: Chain) -> None:
    report = chain("colab", env={"STANDIN_FAULT": "init,nvml-hang"}, timeout=1, strategies="egl")

    assert SECONDS.sub("within N s", report["error"]) == (
        "GPUContextError: no OpenGL 3.3 context could be made within N s:\n"
        "  fix: get_gpu_context(timeout=2) or MODERNGL_COLAB_TIMEOUT=2 waits longer\n"
        "  1. egl: failed: EGL device 0: eglInitialize failed: EGL_NOT_INITIALIZED (0x3001); NVML "
        "did not answer within N s\n"
        f"     fix: {remedies.SMI}\n"
        "  2. glx: skipped: not among the strategies asked for\n"
        "  3. mesa: skipped: not among the strategies asked for\n"
        "  more: python -m moderngl_colab"
    )


def test_what_was_never_tried_blames_nobody(chain: Chain) -> None:
    report = chain("colab", timeout=1e-300, strategies="egl")

    reason = "it was not tried: the time limit of 1e-300 s was used up before"
    assert observed(report)[0] == ("unavailable", "timeout", reason)


@pytest.mark.parametrize(
    ("limit", "number", "remedy"),
    [
        (
            "RLIMIT_NOFILE",
            24,
            'ulimit -n "$(ulimit -Hn)" before the program allows it more open files',
        ),
        ("RLIMIT_FSIZE", 27, None),
    ],
)
def test_what_the_system_refuses_is_not_mended_by_packages(
    python: Python, limit: str, number: int, remedy: str | None
) -> None:
    code = f"""
import json, os, resource, moderngl_colab
moderngl_colab.get_gpu_context(strategies="mesa").release()
from moderngl_colab import _xvfb
from moderngl_colab.strategies.glx import over_xvfb
few = {{"RLIMIT_NOFILE": len(os.listdir("/proc/self/fd")) + 1, "RLIMIT_FSIZE": 0}}
before = resource.getrlimit(resource.{limit})
try:
    resource.setrlimit(resource.{limit}, (few["{limit}"], before[1]))
    over_xvfb("mesa", 330)
except moderngl_colab.StrategyFailed as error:
    resource.setrlimit(resource.{limit}, before)
    print(json.dumps([error.reason.partition("]")[0], error.remedy, error.cause]))
"""
    done = python("no-nvidia", "import warnings; warnings.simplefilter('ignore')" + code)

    assert json.loads(done.stdout) == [
        f"Xvfb could not be used: [Errno {number}", remedy, "xvfb-start"
    ]  # fmt: skip


def test_a_question_at_the_end_of_python_does_not_raise(python: Python) -> None:
    code = """
import atexit, moderngl_colab
info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
atexit.register(lambda: print(info.gpu))
"""
    said = python("colab", code).stdout

    assert said == "None\n" or said.startswith("GPU(name='NVIDIA Stand-in GPU 0'")
