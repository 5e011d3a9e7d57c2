"""Threads: many calls at once, and a context that belongs to another thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DRAWN, ENVIRONMENT, EVERYWHERE

from rig import machines, remedies

Python = Callable[..., machines.Finished]

COMMON = (
    DRAWN
    + """
import ctypes, json, os, sys, threading, warnings
from moderngl_colab import GPUContextError, SoftwareRenderingWarning, describe, get_gpu_context
warnings.simplefilter("ignore", SoftwareRenderingWarning)

def pixel(ctx, colour):
    return list(drawn(ctx, [channel / 255 for channel in colour]))

def elsewhere(function, *arguments):
    "What a function gives in a thread of its own, which then ends."
    answers = []
    def work():
        try:
            answers.append(function(*arguments))
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        pass  # Python has done with it; EGL lets go of its context when the system has.
    return answers[0]
"""
)
AT_ONCE = (
    ENVIRONMENT
    + """
def work(number):
    barrier.wait()
    try:
        ctx = get_gpu_context(**calls[number])
    except (GPUContextError, ValueError) as error:
        answers[number] = str(error)
        barrier.wait()
        return
    info, colour = describe(ctx), [number * 7, 255 - number, number]
    barrier.wait()
    drawn = [pixel(ctx, colour), pixel(ctx, colour[::-1])]
    if drawn != [colour, colour[::-1]]:
        answers[number] = f"drew {drawn}"
    else:
        answers[number] = [info.strategy, info.renderer]
    ctx.release()

calls = json.loads(sys.argv[1])
barrier, answers = threading.Barrier(len(calls)), {}
before = dict(os.environ), sorted(environment())
threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({
    "answers": [answers.get(number) for number in range(len(calls))],
    "environment is exact": (dict(os.environ), sorted(environment())) == before,
    "threads": threading.active_count(),
}))
"""
)


@pytest.fixture
def at_once(python: Python) -> Callable[..., list[Any]]:
    """What each of many calls gives, made in threads of their own at the same moment."""

    def call(machine: str, calls: list[dict[str, Any]], **settings: Any) -> list[Any]:
        done = python(machine, COMMON + AT_ONCE, json.dumps(calls), **settings)
        report = json.loads(done.stdout)
        answers: list[Any] = report.pop("answers")
        assert report == {"environment is exact": True, "threads": 1}
        return answers

    return call


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_thirty_two_threads_at_once_get_a_context_each(
    at_once: Callable[..., list[Any]], machine: str
) -> None:
    answers = at_once(machine, [{}] * 32)

    strategy = EVERYWHERE[machine]
    assert [answer[0] for answer in answers] == [strategy] * 32
    assert len({answer[1] for answer in answers}) == 1
    assert ("NVIDIA" in answers[0][1]) is (strategy != "mesa")


def test_thirty_two_threads_at_once_are_told_alike_why_there_is_none(
    at_once: Callable[..., list[Any]],
) -> None:
    answers = at_once("no-gl", [{"allow_software": False}] * 32)

    no_egl, no_gl = (
        f"the loader says: {library}: cannot open shared object file: No such file or directory"
        for library in ("libEGL.so.1", "libGL.so.1")
    )
    assert (
        answers
        == [
            "no OpenGL 3.3 context on a GPU could be made:\n"
            f"  1. egl: unavailable: {no_egl}\n     fix: {remedies.DISPATCH}\n"
            f"  2. glx: unavailable: {no_gl}\n     fix: {remedies.DISPATCH}\n"
            f"  3. mesa: unavailable: {no_egl}; by GLX: {no_gl}\n     fix: {remedies.DISPATCH}\n"
            "  more: python -m moderngl_colab"
        ]
        * 32
    )


def test_threads_that_ask_for_different_gpus_get_each_its_own(
    at_once: Callable[..., list[Any]],
) -> None:
    ways = (
        lambda gpu: {"device_index": 3 - gpu},  # EGL counts backwards on this machine.
        lambda gpu: {"device": gpu},
        lambda gpu: {"device": f"cuda:{gpu}"},
        lambda gpu: {"device": f"GPU-57a2d10{gpu}"},
    )
    calls = [way(gpu) for gpu in range(4) for way in ways] * 2

    answers = at_once("colab", calls, env={"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse"})

    renderers = [f"NVIDIA Stand-in GPU {gpu}/PCIe/SSE2" for gpu in range(4) for _ in ways] * 2
    assert answers == [["egl", renderer] for renderer in renderers]


def test_a_thread_that_asks_for_a_gpu_which_is_not_there_keeps_nobody_from_theirs(
    at_once: Callable[..., list[Any]],
) -> None:
    answers = at_once("colab", [{}, {"device_index": 7}] * 8)

    assert (
        answers
        == [
            ["egl", "NVIDIA Stand-in GPU 0/PCIe/SSE2"],
            "device_index=7: of EGL devices there are 2, of index 0 to 1",
        ]
        * 8
    )


# ---- the thread that a context belongs to -----------------------------------------------------

WRONG = (
    "RuntimeError: this context is current in another thread, and a context is current in one "
    "thread at a time\n"
    "  fix: use a context in the thread that made it, or leave it there, by "
    "ctx.__exit__(None, None, None), and enter it here: with ctx:"
)
ENTER = """
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
def enter(ctx):
    with ctx:
        return pixel(ctx, GREEN)
answers = []
"""


@pytest.fixture
def told(python: Python) -> Callable[..., list[Any]]:
    """The list of answers that a program gathers."""

    def run(machine: str, code: str) -> list[Any]:
        done = python(machine, COMMON + ENTER + code + "print(json.dumps(answers))")
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return run


CURRENT_ELSEWHERE = """
def enter_beside_mine():
    mine = get_gpu_context()
    try:
        return enter(ctx)
    except RuntimeError as error:
        return [str(error), pixel(mine, BLUE)]
ctx = get_gpu_context()
for _ in range(2):
    answers += [elsewhere(enter, ctx), pixel(ctx, RED)]
answers += [elsewhere(enter_beside_mine), pixel(ctx, RED)]
"""


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_context_that_is_current_in_another_thread_is_not_entered(
    told: Callable[..., list[Any]], machine: str
) -> None:
    red = [255, 0, 0]
    beside = [WRONG.partition(" ")[2], [0, 0, 255]]

    assert told(machine, CURRENT_ELSEWHERE) == [WRONG, red, WRONG, red, beside, red]


LEFT = """
ctx = get_gpu_context()
ctx.__exit__(None, None, None)
answers.append(elsewhere(enter, ctx))
with ctx:
    answers += [pixel(ctx, RED), elsewhere(enter, ctx)]
answers.append(elsewhere(enter, ctx))
"""
ENDED = """
def make():
    global ctx
    ctx = get_gpu_context()
    return pixel(ctx, RED)
answers.append(elsewhere(make))
answers += [elsewhere(enter, ctx) for _ in range(3)]
"""


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_context_that_its_thread_left_is_entered_in_another(
    told: Callable[..., list[Any]], machine: str
) -> None:
    red, green = [255, 0, 0], [0, 255, 0]

    assert told(machine, LEFT) == [green, red, WRONG, green]


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_context_whose_thread_ended_is_entered_in_another_or_refused(
    told: Callable[..., list[Any]], machine: str
) -> None:
    first, *others = told(machine, ENDED)

    assert first == [255, 0, 0]
    refused = others == [WRONG] * 3  # by GLX of Mesa 24 and later
    assert others == [[0, 255, 0]] * 3 or (refused and EVERYWHERE[machine] != "egl")


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_context_is_described_in_every_thread(
    told: Callable[..., list[Any]], machine: str
) -> None:
    code = """
ctx = get_gpu_context()
answers += [elsewhere(describe, ctx) == describe(ctx), describe(ctx).strategy, pixel(ctx, RED)]
"""
    assert told(machine, code) == [True, EVERYWHERE[machine], [255, 0, 0]]


RELEASED = """
for leave in (True, False):
    ctx = get_gpu_context()
    pixel(ctx, RED)
    if leave:
        ctx.__exit__(None, None, None)
    answers.append(elsewhere(ctx.release))
    other = get_gpu_context()
    answers += [pixel(other, RED), elsewhere(lambda: enter(get_gpu_context()))]
"""


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_release_in_another_thread_ends_nobody(
    told: Callable[..., list[Any]], machine: str
) -> None:
    after = [[255, 0, 0], [0, 255, 0]]

    assert told(machine, RELEASED) == [None, *after, None, *after]


RELEASED_WHILE_DRAWING = """
def connections():
    names = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(name) and "socket:" in os.readlink(name) for name in names)
def owner():
    ctx = get_gpu_context()
    handed.append(ctx)
    buffer = ctx.buffer(b"abcd")
    drawn.set()
    released.wait()
    answers.append([buffer.read().decode(), connections() - before])
    with get_gpu_context():
        pass
    get_gpu_context().release()
    answers.append(connections() - before)

get_gpu_context().release()
handed, drawn, released, before = [], threading.Event(), threading.Event(), connections()
thread = threading.Thread(target=owner)
thread.start()
drawn.wait()
handed[0].release()
released.set()
thread.join()
get_gpu_context().release()
answers.append(connections() - before)
"""


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_a_context_that_is_released_elsewhere_serves_its_thread_until_it_is_left(
    told: Callable[..., list[Any]], machine: str
) -> None:
    by_glx = machine in ("glx-only", "no-libegl-no-nvidia")

    # The one that was left in the middle is forgotten, and keeps its connection.
    assert told(machine, RELEASED_WHILE_DRAWING) == [["abcd", by_glx], by_glx, by_glx]
