"""Contexts over GLX: the death of their server, X errors, handlers, connections."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DRAWN

from rig import machines

Python = Callable[..., machines.Finished]

MACHINES = ("glx-only", "no-libegl-no-nvidia")
KILLS = ("SIGKILL", "SIGTERM")

COMMON = (
    DRAWN
    + """
import atexit, builtins, ctypes, json, os, random, signal, sys, threading, warnings
from ctypes import c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
import moderngl
from moderngl_colab import GPUContextError, StrategyFailed, get_gpu_context, gl
from moderngl_colab import _display as xvfb

warnings.simplefilter("ignore")
answers = []
x11, libgl = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libGL.so.1")
for library, name, result, *arguments in (
    (x11, "XOpenDisplay", c_void_p, c_char_p),
    (x11, "XCloseDisplay", c_int, c_void_p),
    (x11, "XSync", c_int, c_void_p, c_int),
    (x11, "XDestroyWindow", c_int, c_void_p, c_ulong),
    (x11, "XClearWindow", c_int, c_void_p, c_ulong),
    (x11, "XDefaultRootWindow", c_ulong, c_void_p),
    (x11, "XSelectInput", c_int, c_void_p, c_ulong, c_long),
    (x11, "XFreePixmap", c_int, c_void_p, c_ulong),
    (x11, "XSetWindowBackgroundPixmap", c_int, c_void_p, c_ulong, c_ulong),
    (x11, "XCreatePixmap", c_ulong, c_void_p, c_ulong, c_uint, c_uint, c_uint),
    (x11, "XSetErrorHandler", c_void_p, c_void_p),
    (x11, "XSetIOErrorHandler", c_void_p, c_void_p),
    (x11, "XSetIOErrorExitHandler", None, c_void_p, c_void_p, c_void_p),
    (libgl, "glXGetCurrentDisplay", c_void_p),
    (libgl, "glXGetCurrentContext", c_void_p),
    (libgl, "glXDestroyContext", None, c_void_p, c_void_p),
):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments

def red(ctx):
    return drawn(ctx, (1, 0, 0)) == b"\\xff\\0\\0"

def server():
    with xvfb.shared() as display:
        return display.proc

def kill(signal_name="SIGKILL"):
    process = server()
    process.send_signal(getattr(signal, signal_name))
    process.wait()

def files():
    return len(os.listdir("/proc/self/fd"))

def told(function, *arguments):
    "What it gives, or how it fails."
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def enter(ctx):
    with ctx:
        return red(ctx)

def ask(display):
    "Wait for the server's answer, and with it for its errors."
    x11.XSync(display, 0)
"""
)


@pytest.fixture
def answers(python: Python) -> Callable[..., list[Any]]:
    """The list of answers that a program gathers; it ends with status 0 and says nothing."""

    def run(machine: str, code: str, *arguments: str, **settings: Any) -> list[Any]:
        done = python(
            machine, f"{COMMON}{code}\nprint(json.dumps(answers))", *arguments, **settings
        )
        found: list[Any] = json.loads(done.stdout)
        return found

    return run


# ---- the server's death -----------------------------------------------------------------------

ENDED = (
    "GPUContextError: the X server of this context has ended, and the context cannot be entered "
    "any more\n  fix: make a new context; get_gpu_context() starts a new server"
)
MOMENTS = {
    "before it is entered": (
        """
        ctx.__exit__(None, None, None)
        kill(sys.argv[1])
        answers += [told(enter, ctx), red(get_gpu_context()), told(enter, ctx)]
        """,
        [ENDED, True, ENDED],
    ),
    "while it is current": (
        """
        kill(sys.argv[1])
        answers += [red(ctx), enter(ctx), red(ctx)]
        ctx.__exit__(None, None, None)
        answers.append(red(get_gpu_context()))
        """,
        [True] * 4,
    ),
    "within its with-block": (
        """
        ctx.__exit__(None, None, None)
        with ctx:
            kill(sys.argv[1])
            answers.append(red(ctx))
        answers.append(told(enter, ctx))
        """,
        [True, ENDED],
    ),
    "within the with-block of another one": (
        """
        other = get_gpu_context(strategies="mesa")
        ctx.__enter__()
        def nest():
            with other:
                kill(sys.argv[1])
                answers.append(red(other))
        answers += [told(nest), red(get_gpu_context())]
        """,
        [True, ENDED, True],
    ),
    "before it is released": (
        """
        kill(sys.argv[1])
        answers += [ctx.release(), ctx.release(), red(get_gpu_context())]
        """,
        [None, None, True],
    ),
    "before another one is made": (
        """
        kill(sys.argv[1])
        other = get_gpu_context()
        answers.append(red(other))
        other.release()
        answers += [told(enter, ctx), ctx.release()]
        """,
        [True, ENDED, None],
    ),
    "before the process ends": (
        """
        answers += [red(ctx), red(get_gpu_context())]
        kill(sys.argv[1])
        """,
        [True, True],
    ),
    "before it is released at exit": (
        """
        atexit.register(lambda: (ctx.release(), other.release()))
        other = get_gpu_context()
        kill(sys.argv[1])
        """,
        [],
    ),
    "before it is released when Python ends": (
        """
        builtins.kept = get_gpu_context()
        ctx.gc_mode = builtins.kept.gc_mode = "auto"
        kill(sys.argv[1])
        """,
        [],
    ),
    "before another thread takes over": (
        """
        display = libgl.glXGetCurrentDisplay()
        kill(sys.argv[1])
        ask(display)
        ctx.__exit__(None, None, None)
        def work():
            ask(display)  # Xlib keeps others from a display on which it met the end.
            answers.append(told(enter, ctx))
            ctx.release()
            answers.append(red(get_gpu_context()))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        [ENDED, True],
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("how", KILLS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_that_dies_ends_nobody(
    answers: Callable[..., list[Any]], moment: str, how: str, machine: str
) -> None:
    code, expected = MOMENTS[moment]

    found = answers(machine, "ctx = get_gpu_context()\n" + textwrap.dedent(code), how)

    if moment == "within the with-block of another one" and machine == "no-libegl-no-nvidia":
        expected = [True, ENDED, True]  # The other one is of the same server.
    assert found == expected


RANDOM = """
chance = random.Random(int(sys.argv[1]))
contexts, kills = [], 0

def make():
    contexts.append(get_gpu_context())
    return red(contexts[-1])

def enter_one():
    return told(enter, chance.choice(contexts))

def leave():
    chance.choice(contexts).__exit__(None, None, None)
    return True

def release():
    contexts.pop(chance.randrange(len(contexts))).release()
    return True

while kills < 50:
    step = chance.choice((enter_one, enter_one, leave, release)) if contexts else make
    answers.append(step())
    if chance.random() < 0.5:
        kill(chance.choice(("SIGKILL", "SIGTERM")))
        kills += 1
answers = sorted(set(answers), key=str)
"""


def test_a_server_that_dies_at_any_time_between_calls_ends_nobody(
    answers: Callable[..., list[Any]],
) -> None:
    assert answers("glx-only", RANDOM, "5", timeout=300) == [ENDED, True]


# ---- X errors ---------------------------------------------------------------------------------

REQUESTS = {
    "BadWindow": "x11.XDestroyWindow(display, 0x12345)",
    "BadDrawable": "x11.XCreatePixmap(display, 0x12345, 1, 1, 24)",
    "BadPixmap": "x11.XFreePixmap(display, 0x12345)",
    "BadValue": "x11.XCreatePixmap(display, root, 0, 0, 24)",
    "BadMatch": "x11.XSetWindowBackgroundPixmap(display, root, x11.XCreatePixmap(display, root, "
    "1, 1, 1))",
    # Of two connections, only one may redirect what becomes of the root window's children.
    "BadAccess": "x11.XSelectInput(display, root, 1 << 20)",
}


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("when", ["ask(display)", "pass"], ids=["at once", "at some later call"])
def test_an_x_error_on_our_connection_ends_nobody(
    answers: Callable[..., list[Any]], request_name: str, when: str
) -> None:
    code = f"""
for ctx in (get_gpu_context(), get_gpu_context()):
    with ctx:
        display = libgl.glXGetCurrentDisplay()
        root = x11.XDefaultRootWindow(display)
        {REQUESTS[request_name]}
        {when}
        answers.append(red(ctx))
ctx.release()
other = get_gpu_context()
answers.append(red(other))
"""
    assert answers("no-libegl-no-nvidia", code) == [True, True, True]


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ("no-fbconfig", "glXChooseFBConfig gave no config"),
        ("glx-context", "glXCreateContextAttribsARB: no context"),
        (
            "glx-badvalue",
            "glXCreateContextAttribsARB: X error BadValue (integer parameter out of range for "
            "operation) (2)",
        ),
    ],
)
def test_a_context_that_is_refused_leaves_no_connection(
    answers: Callable[..., list[Any]], fault: str, step: str
) -> None:
    code = """
with xvfb.shared() as display:
    os.environ["__GLX_VENDOR_LIBRARY_NAME"] = "nvidia"
    refusals = []
    for _ in range(20):
        refusals.append(told(gl.create_glx, 330, display.name))
        answers.append(files())
answers = [len(set(answers[1:])), *set(refusals)]
"""
    assert answers("glx-only", code, env={"STANDIN_FAULT": fault}) == [
        1,
        f"StrategyFailed: GLX over Xvfb: OpenGL 3.3: {step}",
    ]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_context_that_is_released_leaves_no_connection(
    answers: Callable[..., list[Any]], machine: str
) -> None:
    code = """
for _ in range(20):
    ctx = get_gpu_context()
    red(ctx)
    ctx.release()
    answers.append(files())
answers = [len(set(answers))]
"""
    assert answers(machine, code) == [1]


def test_a_display_that_does_not_answer_is_no_other_ones(
    answers: Callable[..., list[Any]],
) -> None:
    code = """
before = files()
answers += [told(gl.create_glx, 330, ":64242"), files() - before]
"""
    assert answers("no-libegl-no-nvidia", code) == [
        "StrategyFailed: GLX over Xvfb: OpenGL 3.3: XOpenDisplay: the display does not answer",
        0,
    ]


def test_a_process_without_standard_streams_gets_no_connection_in_their_place(
    answers: Callable[..., list[Any]],
) -> None:
    code = """
kept = [os.dup(number) for number in (0, 1, 2)]
for number in (0, 1, 2):
    os.close(number)
ctx = get_gpu_context()
for number in (0, 1, 2):
    try:
        answers.append("socket" in os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        answers.append(False)
for number, other in enumerate(kept):
    os.dup2(other, number)
answers.append(red(ctx))
"""
    assert answers("no-libegl-no-nvidia", code) == [False, False, False, True]


# ---- handlers that others have set ------------------------------------------------------------

HANDLERS = """
HANDLER = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
IO_HANDLER = ctypes.CFUNCTYPE(c_int, c_void_p)
met = []
error_handler = HANDLER(lambda display, _: (met.append("error"), 0)[1])
io_handler = IO_HANDLER(lambda display: (met.append("death"), 0)[1])
ours, theirs = (ctypes.cast(h, c_void_p).value for h in (error_handler, io_handler))
x11.XSetErrorHandler(ours)
x11.XSetIOErrorHandler(theirs)

other_server = xvfb.Display()
other_server.start()
with other_server.selected():
    foreign = x11.XOpenDisplay(None)
nothing = ctypes.cast(ctypes.CDLL(None).abs, c_void_p)
x11.XSetIOErrorExitHandler(foreign, nothing, None)

def provoke(display):
    x11.XDestroyWindow(display, 0x12345)
    ask(display)
    answers.append(list(met))
    met.clear()

def handlers_are_theirs():
    "Whether those that were set first are in place; afterwards they are."
    found = [x11.XSetErrorHandler(ours), x11.XSetIOErrorHandler(theirs)]
    return found == [ours, theirs]
"""


def test_handlers_of_others_serve_their_connections_and_not_ours(
    answers: Callable[..., list[Any]],
) -> None:
    code = (
        HANDLERS
        + """
first, second = get_gpu_context(), get_gpu_context()
provoke(libgl.glXGetCurrentDisplay())
provoke(foreign)
kill()
provoke(libgl.glXGetCurrentDisplay())
other_server.proc.kill()
other_server.proc.wait()
provoke(foreign)
first.release()
second.release()
answers.append(handlers_are_theirs())
other_server.stop()
"""
    )
    assert answers("no-libegl-no-nvidia", code) == [[], ["error"], [], ["death"], True]


def test_handlers_that_were_set_since_are_called_and_stay(
    answers: Callable[..., list[Any]],
) -> None:
    code = (
        HANDLERS
        + """
first, second = get_gpu_context(), get_gpu_context()
with xvfb.shared():
    raw = moderngl.create_context(standalone=True)  # glcontext sets Xlib's own error handler.
raw.release()
later = IO_HANDLER(lambda display: (met.append("later"), IO_HANDLER(before)(display))[1])
address = ctypes.cast(later, c_void_p).value
before = x11.XSetIOErrorHandler(address)
with second:
    provoke(libgl.glXGetCurrentDisplay())
    kill()
    provoke(libgl.glXGetCurrentDisplay())
other_server.proc.kill()
other_server.proc.wait()
ask(foreign)
answers.append(list(met))
x11.XSetIOErrorHandler(address)  # the last word, after all calls of ours
first.release()
second.release()
answers.append(x11.XSetIOErrorHandler(theirs) == address)
other_server.stop()
"""
    )
    assert answers("no-libegl-no-nvidia", code) == [[], [], ["later", "death"], True]


def test_a_process_that_made_no_context_over_glx_has_its_handlers(
    answers: Callable[..., list[Any]],
) -> None:
    code = (
        HANDLERS
        + """
answers.append(told(gl.create_glx, 330, ":64242").partition(":")[0])
answers.append(handlers_are_theirs())
other_server.stop()
"""
    )
    assert answers("no-libegl-no-nvidia", code) == ["StrategyFailed", True]
