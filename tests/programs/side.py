"""One side of docs/promises.md's comparison does one thing, in a process of its own.

    side.py SIDE ACTION [ARGUMENT]

It prints JSON: where an action says :func:`ready`, first a line on its display, and after it has
read a line of input the rest. What a rival starts is started as its documentation has it, in a
with-block.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import moderngl

Make = Callable[..., moderngl.Context]

# How the rivals' servers are started for many cycles: without this, they start anew whenever their
# last client leaves, which takes its time and shows nothing.
LASTING = ["-noreset"]
WARM_UP = 20
"""How many cycles, or calls, come before the first look."""
_TOO_MUCH = 990
"""A version that no driver has."""

# ---- the sides ---------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(**settings: Any) -> Iterator[Make]:
    """What this library gives, with these arguments."""
    import moderngl_colab

    yield lambda require=330: moderngl_colab.get_gpu_context(require, **settings)


@contextlib.contextmanager
def ours_by_mesas_glx() -> Iterator[Make]:
    """The same, by the GLX of Mesa, which serves by itself only where there is no libEGL."""
    from moderngl_colab.strategies.glx import over_xvfb

    class MesaGLX:
        name, vendor = "mesa-glx", None

        def create(self, request: Any) -> Any:
            return over_xvfb("mesa", request.version, request.until)

    with ours(strategies=[MesaGLX()]) as make:
        yield make


def raw(require: int = 330, **settings: Any) -> moderngl.Context:
    """A context of moderngl's own."""
    return moderngl.create_context(require=require, standalone=True, **settings)


@contextlib.contextmanager
def xvfbwrapper() -> Iterator[Make]:
    """Moderngl on a display of xvfbwrapper's."""
    with importlib.import_module("xvfbwrapper").Xvfb(extra_args=LASTING if lasting() else None):
        yield raw


@contextlib.contextmanager
def pyvirtualdisplay() -> Iterator[Make]:
    """Moderngl on a display of PyVirtualDisplay's."""
    display = importlib.import_module("pyvirtualdisplay").Display
    shown = display(extra_args=LASTING if lasting() else [])
    try:
        with shown:
            yield raw
    finally:
        if sys.argv[2] not in ("end", "wait"):  # where it is counted; it stays after every stop
            Path(f"/tmp/.X11-unix/X{shown.display}").unlink(missing_ok=True)


@contextlib.contextmanager
def raw_by_egl() -> Iterator[Make]:
    """Moderngl, and nothing else."""
    yield lambda require=330: raw(require, backend="egl")


def lasting() -> bool:
    """Whether the action makes many contexts on one display."""
    return sys.argv[2] in ("cycles", "failing")


SIDES: dict[str, Callable[[], contextlib.AbstractContextManager[Make]]] = {
    "ours": ours,
    "ours, probe=True": lambda: ours(probe=True),
    "ours by GLX": ours_by_mesas_glx,
    "ours by EGL": lambda: ours(strategies=["mesa"]),
    "xvfbwrapper": xvfbwrapper,
    "PyVirtualDisplay": pyvirtualdisplay,
    "moderngl": raw_by_egl,
}
Side = Callable[[], contextlib.AbstractContextManager[Make]]

# ---- what can be seen of a process --------------------------------------------------------------

_libc = ctypes.CDLL(None)


def environment() -> list[str]:
    """environ(7), in its order, as C sees it; after it os.environ, in its own."""
    names, seen = ctypes.POINTER(ctypes.c_char_p).in_dll(_libc, "environ"), list[str]()
    while (entry := names[len(seen)]) is not None:
        seen.append(os.fsdecode(entry))
    return seen + [f"{name}={value}" for name, value in os.environ.items()]


def counted() -> dict[str, int]:
    """Open files, threads, and resident memory in kB, without what is garbage or free."""
    gc.collect()
    _libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "kB": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
    }


def growth(step: Callable[[], None], times: int) -> dict[str, Any]:
    """How what is counted grows while a step is done so often, and what becomes of environ(7)."""
    for _ in range(WARM_UP):
        step()
    before, variables = counted(), environment()
    for _ in range(times):
        step()
    after = counted()
    grown = {name: after[name] - before[name] for name in before}
    return grown | {"environment is the same": environment() == variables}


def children() -> list[int]:
    """The processes that this one started."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def server() -> tuple[int, str] | None:
    """The display's process and number; None without one."""
    for pid in children():
        if Path(f"/proc/{pid}/comm").read_text() == "Xvfb\n":
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            names = [word[1:] for word in words if word[:1] == ":"]
            return pid, (names or [os.environ.get("DISPLAY", ":")[1:]])[0]
    return None


def ready(**more: Any) -> int:
    """Tell the server's process and number, wait for a line, and give the process."""
    pid, number = server() or (0, "")
    print(json.dumps({"server": pid, "display": number, **more}), flush=True)
    sys.stdin.readline()
    return pid


def pixel(context: moderngl.Context, colour: tuple[int, int, int] = (255, 0, 0)) -> str:
    """Draw a triangle over everything, and say whether a pixel of it is right."""
    program = context.program(
        vertex_shader="""#version 330
        void main() {
            gl_Position = vec4(vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID], 0, 1);
        }""",
        fragment_shader="""#version 330
        uniform vec3 colour;
        out vec4 result;
        void main() { result = vec4(colour / 255, 1); }""",
    )
    program["colour"] = colour
    framebuffer = context.simple_framebuffer((16, 16))
    framebuffer.use()
    framebuffer.clear()
    context.vertex_array(program, []).render(vertices=3)
    seen = tuple(framebuffer.read(components=3)[120:123])
    return "right" if seen == colour else f"wrong: {seen}"


def stays_current() -> bool:
    """Whether a context is current in this thread, by EGL or by GLX, if they are loaded."""
    for library, name in (("libEGL.so.1", "eglGetCurrentContext"), ("libGL.so.1", GLX_CURRENT)):
        with contextlib.suppress(OSError):
            current = getattr(ctypes.CDLL(library, os.RTLD_NOLOAD), name)
            current.restype = ctypes.c_void_p
            if current():
                return True
    return False


GLX_CURRENT = "glXGetCurrentContext"

# ---- the actions -------------------------------------------------------------------------------


def draw(side: Side) -> Any:
    """A context, a triangle, a release."""
    started = time.monotonic()
    with side() as make:
        context = make()
        seconds = time.monotonic() - started
        seen = pixel(context)
        context.release()
    return {"pixel": seen, "seconds": seconds}


def wait(side: Side) -> Any:
    """A context and a triangle; the display is there until a line is read."""
    with side() as make:
        started = time.monotonic()
        seen = pixel(make())
        ready(pixel=seen, seconds=time.monotonic() - started)


def end(side: Side, how: str) -> Any:
    """A context; then the end."""
    with contextlib.ExitStack() as stack:
        pixel(stack.enter_context(side())())
        ready()
        if how == "unstopped":
            # As one that a script started and forgot: nothing closes it at the end, either.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(stack.pop_all()))
        if how == "exception":
            raise SystemExit(3)
        if how == "os._exit":
            os._exit(4)
        if how.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, how))
            time.sleep(60)


def fork(side: Side) -> Any:
    """A context, a child that lives on, and SIGKILL."""
    with side() as make:
        make()
        child = os.fork()
        if child == 0:
            os.closerange(0, 3)
            time.sleep(60)
            os._exit(0)
        ready(child=child)
        os.kill(os.getpid(), signal.SIGKILL)


def killed(side: Side, then: str) -> Any:
    """The server is killed; then the context is used, or released, or another one is made."""
    with side() as make:
        context = make()
        pixel(context)
        os.kill(ready(), signal.SIGKILL)
        time.sleep(0.3)
        try:
            if then == "draw":
                pixel(context)
            elif then == "release":
                context.release()
            elif then == "again":
                return {"said": pixel(make())}
        except Exception as error:  # noqa: BLE001 - whichever it is, Python is there
            return {"said": f"{type(error).__name__}: {error}".partition("\n")[0]}
    return {"said": "nothing"}


def interrupt(side: Side) -> Any:
    """What is drawn after an interrupt of the whole process group."""
    signal.signal(signal.SIGINT, lambda *_: None)
    with side() as make:
        context = make()
        process = ready()
        time.sleep(0.3)
        lives = process in children() and " Z " not in Path(f"/proc/{process}/stat").read_text()
        print(json.dumps({"the display lives": lives}), flush=True)
        return {"the display lives": lives, "pixel": pixel(context)}


def cycles(side: Side, times: str) -> Any:
    """What grows while contexts are made, used and released."""

    def cycle() -> None:
        context = make()
        if (seen := pixel(context)) != "right":
            raise RuntimeError(seen)
        context.release()

    with side() as make:
        return growth(cycle, int(times))


def failing(side: Side, times: str, version: str = str(_TOO_MUCH)) -> Any:
    """What grows while contexts are asked for that nobody has, or that a fault refuses."""
    ends: set[str] = set()

    def call() -> None:
        try:
            make(int(version))
        except Exception as error:  # noqa: BLE001 - the rivals raise nothing narrower
            ends.add(type(error).__name__)
        else:
            raise SystemExit("a context was made that cannot be")

    with side() as make:
        if int(version) == _TOO_MUCH:  # The display comes, and stays, with a first context.
            first = make()
            first.release()
        return growth(call, int(times)) | {"errors": sorted(ends)}


def changed(side: Side) -> Any:
    """What of the process is another thing after a context was made."""

    def process() -> dict[str, Any]:
        handlers = [str(signal.getsignal(number)) for number in signal.valid_signals()]
        return {
            "environment": sorted(environment()),
            "random": random.getstate(),
            "signal handlers": handlers,
            "folder": os.getcwd(),
            "warning filters": len(warnings.filters),
        }

    before = process()
    with side() as make:
        make()
        after = process()
    return sorted(name for name in before if before[name] != after[name])


def twice(side: Side) -> Any:
    """A context that is released twice, by moderngl's object and by the one below it."""
    with side() as make:
        context = make()
        below = context.mglo
        context.release()
        context.release()
        with contextlib.suppress(Exception):
            below.release()
        return {"pixel": pixel(make())}


def beside(side: Side) -> Any:
    """What is drawn by a current context after the release of another one."""
    with side() as make:
        first, second = make(), make()
        seen = pixel(second)
        first.release()
        return {"pixel": seen if seen != "right" else pixel(second, (0, 255, 0))}


def left_current(side: Side) -> Any:
    """Whether a context is current after its release."""
    with side() as make:
        context = make()
        context.release()
        return stays_current()


def forgotten(side: Side, mode: str) -> Any:
    """Contexts that nobody releases, in a reference cycle, with garbage collection of a kind."""
    with side() as make:
        for _ in range(3):
            context = make()
            context.gc_mode = None if mode == "None" else mode  # type: ignore[assignment]
            circle = [context, context.buffer(reserve=16)]
            circle.append(circle)
        return "made"


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action
    for action in (
        draw, wait, end, fork, killed, interrupt, cycles, failing, changed, twice, beside,
        left_current, forgotten,
    )
}  # fmt: skip

if __name__ == "__main__":
    warnings.filterwarnings("ignore", "OpenGL renders on the CPU", RuntimeWarning)
    print(json.dumps(ACTIONS[sys.argv[2]](SIDES[sys.argv[1]], *sys.argv[3:])))
