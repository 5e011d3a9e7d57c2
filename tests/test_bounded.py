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
        (10**400, f"ValueError: timeout={10**400}: {POSSIBLE}"),
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

    assert report["error"] == f"ValueError: MODERNGL_COLAB_TIMEOUT={value}: {POSSIBLE}"


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
        (a["outcome"], a["cause"], a["reason"].partition("; ")[2], a["remedy"])
        for a in report["attempts"][:2]
    ] == [
        ("failed", cause, "NVML did not answer within 10 s", remedies.SMI)
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

    # One thread stays behind in the driver, and no second one is sent after it.
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
for seconds in (0.2, 5):
    try:
        _bounded.ask("pipe", question, time.monotonic() + seconds)
    except _bounded.SilentError as error:
        said.append(str(error))
said.append(_bounded.ask("another", lambda: 7, time.monotonic() + 5))
os.write(pipe[1], b"12")
while _bounded._silent["pipe"][0].is_alive():
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
    assert json.loads(python("no-nvidia", BEHIND).stdout) == [
        "pipe did not answer within 0.2 s",
        "pipe did not answer within 0.2 s",
        7,
        1,
        "division by zero",
        "pipe was not asked, for no time was left",
    ]


def test_a_question_at_the_end_of_python_does_not_raise(python: Python) -> None:
    code = """
import atexit, moderngl_colab
info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
atexit.register(lambda: print(info.gpu))
"""
    said = python("colab", code).stdout

    assert said == "None\n" or said.startswith("GPU(name='NVIDIA Stand-in GPU 0'")
