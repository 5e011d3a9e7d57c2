"""What a release leaves, and what becomes of contexts that nobody releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DRAWN, EVERYWHERE

from rig import machines

Python = Callable[..., machines.Finished]

COMMON = (
    DRAWN
    + """
import atexit, builtins, ctypes, gc, json, sys, threading, warnings
import moderngl
from moderngl_colab import get_gpu_context
warnings.simplefilter("ignore")
answers = []

def red(ctx):
    return drawn(ctx, (1, 0, 0)) == b"\\xff\\0\\0"

def current():
    "The contexts that EGL and GLX say are current."
    found = []
    for library, name in (("libEGL.so.1", "eglGetCurrentContext"),
                          ("libGL.so.1", "glXGetCurrentContext")):
        try:
            function = getattr(ctypes.CDLL(library), name)
        except OSError:
            found.append(None)
            continue
        function.restype = ctypes.c_void_p
        found.append(function())
    return found

def things(ctx):
    "One of everything that belongs to a context."
    program = ctx.program(
        vertex_shader="#version 330\\nin vec2 at; void main() { gl_Position = vec4(at, 0, 1); }",
    )
    buffer, texture = ctx.buffer(reserve=64), ctx.texture((4, 4), 4)
    return [
        program, buffer, texture, ctx.framebuffer([texture], ctx.depth_renderbuffer((4, 4))),
        ctx.vertex_array(program, [(buffer, "2f", "at")]), ctx.sampler(), ctx.query(samples=True),
        ctx.scope(ctx.simple_framebuffer((4, 4))),
    ]

def made(mode):
    ctx = get_gpu_context()
    ctx.gc_mode = mode
    return ctx

MODES = None, "auto", "context_gc"
"""
)


@pytest.fixture
def answers(python: Python) -> Callable[..., list[Any]]:
    """The list of answers that a program gathers; it ends with status 0 and says nothing."""

    def run(machine: str, code: str) -> list[Any]:
        done = python(machine, f"{COMMON}{code}\nprint(json.dumps(answers))")
        found: list[Any] = json.loads(done.stdout)
        return found

    return run


@pytest.mark.parametrize("machine", EVERYWHERE)
def test_after_a_release_nothing_of_ours_is_current(
    answers: Callable[..., list[Any]], machine: str
) -> None:
    code = """
for leave in (False, True):
    ctx = get_gpu_context()
    if leave:
        ctx.__exit__(None, None, None)
    for _ in range(3):
        ctx.release()
        answers.append(current())
with get_gpu_context() as ctx:
    mglo = ctx.mglo
    mglo.release()
    answers.append(current())
"""
    assert answers(machine, code) == [[None, None]] * 7


RAW = {
    "egl": """
def foreign():
    return moderngl.create_context(standalone=True, backend="egl")
""",
    "glx": """
from moderngl_colab import _display
def foreign():
    with _display.shared():
        return moderngl.create_context(standalone=True)
""",
    "pyglet": """
import pyglet
pyglet.options.headless = True
class Pyglet:
    def __init__(self):
        import pyglet.gl
        self.window = pyglet.window.Window(4, 4)
        moderngl.init_context()  # of what is current
        self.ctx = moderngl.get_context()
    def __enter__(self):
        self.window.switch_to()
        return self.ctx
    def __exit__(self, *_):
        pass
foreign = Pyglet
""",
}


# Where there is no libEGL, GLX is all that others can use.
FOREIGN = [
    (kind, machine)
    for kind in RAW
    for machine in EVERYWHERE
    if kind == "glx" or machine != "no-libegl-no-nvidia"
]


@pytest.mark.parametrize(("kind", "machine"), FOREIGN)
def test_a_foreign_context_that_is_current_stays_so(
    answers: Callable[..., list[Any]], kind: str, machine: str
) -> None:
    code = f"""
{RAW[kind]}
ours = get_gpu_context()
ours.__exit__(None, None, None)
raw = foreign()
with raw as ctx:
    before = current()
    answers += [any(before), red(ctx)]
    for _ in range(2):
        ours.release()
        answers += [current() == before, red(ctx)]
"""
    assert answers(machine, code) == [True] * 6


# ---- forgotten --------------------------------------------------------------------------------

FORGOTTEN = {
    "in globals, contexts first": """
a, b, c = map(made, MODES)
x, y, z = (things(ctx) for ctx in (a, b, c) if ctx.__enter__())
""",
    "in globals, objects first": """
x, y, z = None, None, None
a, b, c = map(made, MODES)
x, y, z = (things(ctx) for ctx in (a, b, c) if ctx.__enter__())
""",
    "in a list": """
kept = []
for mode in MODES:
    ctx = made(mode)
    kept += [ctx, *things(ctx)]
del ctx
kept.reverse()
""",
    "in builtins and modules": """
builtins.kept = [(ctx, things(ctx)) for ctx in map(made, MODES)]
sys.kept = [(things(ctx), ctx) for ctx in map(made, MODES)]
""",
    "in cycles": """
class Node:
    def __init__(self, mode):
        self.me, self.ctx = self, made(mode)
        self.things = things(self.ctx)
        self.things.append(self.things)
gc.disable()
nodes = [Node(mode) for mode in MODES]
nodes[0].next, nodes[1].next, nodes[2].next = nodes[1], nodes[2], nodes[0]
del nodes
""",
    "in cycles that are collected now and then": """
class Node:
    def __init__(self, mode):
        self.me, self.ctx = self, made(mode)
        self.things = things(self.ctx)
gc.set_threshold(10, 2, 2)
for mode in MODES * 3:
    Node(mode)
with get_gpu_context() as ctx:
    answers.append(red(ctx))
    for mode in MODES:
        Node(mode)
        gc.collect()
        with ctx:
            answers.append(red(ctx))
answers = [answers == [True] * 4]
""",
    "in cycles that another thread collects": """
gc.disable()
class Node:
    def __init__(self, mode):
        self.me, self.ctx = self, made(mode)
        self.things = things(self.ctx)
last = get_gpu_context()
last.__exit__(None, None, None)
for mode in MODES:
    Node(mode)
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
with last:
    answers.append(red(last))
""",
    "by a thread that ended": """
kept = []
def work(mode):
    ctx = made(mode)
    kept.append((ctx, things(ctx)))
for mode in MODES:
    thread = threading.Thread(target=work, args=(mode,))
    thread.start()
    thread.join()
kept[0][0].release()
answers.append(red(get_gpu_context()))
""",
    "by a thread that still runs": """
kept, ready = [], threading.Semaphore(0)
def work(mode):
    ctx = made(mode)
    kept.append((ctx, things(ctx)))
    ready.release()
    threading.Event().wait()
for mode in MODES:
    threading.Thread(target=work, args=(mode,), daemon=True).start()
    ready.acquire()
kept.pop()
""",
    "when objects go after their context": """
for mode in MODES:
    ctx = made(mode)
    kept = things(ctx)
    ctx.release()
    for thing in kept:
        if hasattr(thing, "release"):
            thing.release()
            thing.release()
    ctx.release()
    other = made(mode)
    answers.append(red(other))
answers = [answers == [True] * 3]
""",
    "when released in reverse": """
kept = [made(mode) for mode in MODES]
for ctx in reversed(kept):
    ctx.release()
    ctx.release()
answers.append(red(get_gpu_context()))
""",
    "and released at exit": """
kept = [(ctx, things(ctx)) for ctx in map(made, MODES)]
atexit.register(lambda: [ctx.release() for ctx, _ in kept])
""",
}


@pytest.mark.parametrize("machine", EVERYWHERE)
@pytest.mark.parametrize("how", FORGOTTEN)
def test_a_context_that_is_forgotten_is_no_trouble_at_exit(
    answers: Callable[..., list[Any]], how: str, machine: str
) -> None:
    assert answers(machine, FORGOTTEN[how]) in ([], [True])


def test_a_context_is_released_by_what_was_registered_before_it_was_made(python: Python) -> None:
    code = """
kept = []
atexit.register(lambda: [ctx.release() for ctx, _ in kept])
from moderngl_colab import _display
kept += [(ctx, things(ctx)) for ctx in map(made, MODES)]
with _display.shared() as display:
    display.proc.kill()
    display.proc.wait()
"""
    assert python("glx-only", COMMON + code).stdout == ""
