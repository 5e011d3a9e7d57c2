"""Processes that are forked, spawned, or come of a fork server, and what they inherit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DRAWN, path_with_xvfb

from rig import machines

Python = Callable[..., machines.Finished]

LOST = (
    "ForkedProcessError: NVIDIA's driver was used, by OpenGL or CUDA, before this process was "
    "forked, and in such a child it hangs\n"
    '  fix: start workers by multiprocessing.set_start_method("spawn") or "forkserver", or by '
    'DataLoader(..., multiprocessing_context="spawn"), and make the context in the worker\n'
)
INHERITED = (
    "ForkedProcessError: this context was made before this process was forked, and belongs to "
    "the one that made it\n"
    "  fix: make a context in the process that uses it; where the GPU was used before, start that "
    "one by spawn or forkserver\n"
)

# A child is started by child(function) and ends by os._exit, or by sys.exit like any program; what
# is printed comes in the order of events, for each process waits for its own.
COMMON = (
    DRAWN
    + """
import os, signal, sys, threading, time, warnings
import moderngl
warnings.simplefilter("ignore", RuntimeWarning)  # SoftwareRenderingWarning is one.
RED, GREEN, BLUE, WHITE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)

def get(**settings):
    import moderngl_colab
    return moderngl_colab.get_gpu_context(**settings)

def pixel(ctx, colour):
    return drawn(ctx, colour).hex()

def say(*words):
    print(*words, flush=True)

def attempt(function):
    "Say what a function raises, or what it gives draws."
    try:
        made = function()
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
    else:
        say(pixel(made, GREEN))

def fresh():
    "Say on what a new context renders, and what."
    from moderngl_colab import describe
    ctx = get()
    say(describe(ctx).strategy, pixel(ctx, GREEN))
    return ctx

def child(function, end=os._exit):
    pid = os.fork()
    if pid == 0:
        function()
        end(0)
    if (status := os.waitpid(pid, 0)[1]) != 0:
        say("a child ended with", status)

def children(function):
    for end in (os._exit, sys.exit):
        child(function, end)
"""
)

RAW = "ctx = moderngl.create_context(standalone=True, backend='egl')"
# The real driver has the GPU open, and by that others than this library are told to use it.
OPEN_GPU = "gpu = os.open('/dev/nvidia0', os.O_RDWR)"
RAW_NVIDIA = f"{RAW}\n{OPEN_GPU}"
USES_NVIDIA = {
    "egl": ("colab", "ctx = get()"),
    "glx": ("glx-only", "ctx = get()"),
    "raw": ("package", "from moderngl_colab import describe\n" + RAW_NVIDIA),
    "raw, imported in the child": ("package", RAW_NVIDIA),
}


@pytest.mark.parametrize("how", USES_NVIDIA)
def test_after_nvidias_driver_was_used_every_forked_child_is_told(python: Python, how: str) -> None:
    machine, parent = USES_NVIDIA[how]
    code = """
def worker():
    attempt(get)
    attempt(lambda: get(strategies=["mesa"]))
    children(lambda: attempt(get))
children(worker)
say(pixel(ctx, RED), pixel(get(), BLUE))
"""

    done = python(machine, f"{COMMON}{parent}\n{code}")

    assert done.stdout == LOST * 8 + "ff0000 0000ff\n"


@pytest.mark.parametrize("machine", ["colab", "glx-only", "no-nvidia", "no-libegl-no-nvidia"])
def test_an_inherited_context_is_not_entered_and_its_release_does_nothing_to_the_parents(
    python: Python, machine: str
) -> None:
    code = """
contexts = [get(), get(), get()]
def worker():
    attempt(contexts[0].__enter__)
    contexts.pop().release()
    contexts.clear()
child(worker)  # By sys.exit Mesa's GLX crashes in a child of a parent with several contexts.
with contexts[0]:
    say(pixel(contexts[0], RED))
    with contexts[2]:
        say(pixel(contexts[2], BLUE), pixel(get(), WHITE))
"""

    done = python(machine, COMMON + code)

    assert done.stdout == INHERITED + "ff0000\n0000ff ffffff\n"


@pytest.mark.parametrize("machine", ["colab", "glx-only", "no-nvidia", "no-libegl-no-nvidia"])
def test_a_child_leaves_its_parents_with_block_as_any_other(python: Python, machine: str) -> None:
    code = """
ctx = get()
framebuffer = ctx.simple_framebuffer((512, 512))
with ctx:
    framebuffer.clear(1, 0, 0)
    child(lambda: None, sys.exit)
    child(lambda: ctx.__exit__(None, None, None))
    say(framebuffer.read()[:3].hex())
say(pixel(ctx, BLUE))
"""

    assert python(machine, COMMON + code).stdout == "ff0000\n0000ff\n"


TORCH = """
import os
class cuda:
    bad = False
    def _is_in_bad_fork():
        return cuda.bad
if os.environ["CUDA_IS_USED"] == "1":
    os.register_at_fork(after_in_child=lambda: setattr(cuda, "bad", True))
"""


@pytest.mark.parametrize(
    ("used", "imported", "said"),
    [("1", True, LOST), ("0", True, "00ff00\n"), ("1", False, "00ff00\n")],
)
def test_torch_is_asked_whether_it_used_cuda_if_it_is_imported(
    python: Python, folder: Path, used: str, imported: bool, said: str
) -> None:
    (folder / "torch.py").write_text(TORCH)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = f"""
import {"torch" if imported else "sys"}, moderngl_colab
child(lambda: attempt(get))
say(pixel(get(), RED), "torch" in sys.modules)
"""

    done = python("colab", COMMON + code, env={"PYTHONPATH": path, "CUDA_IS_USED": used})

    assert done.stdout == f"{said}ff0000 {imported}\n"


BEFORE_WITHOUT_GL = {
    "nothing": "",
    "the doctor": "import moderngl_colab; moderngl_colab.diagnose(strategies='mesa')",
    "preparing other programs": "import moderngl_colab; moderngl_colab.prepare_environment()",
    "watching by nvml": f"""
import moderngl_colab.context, pynvml
pynvml.nvmlInit()
{OPEN_GPU}
""",
    "failing": """
os.environ["STANDIN_FAULT"] = "init,glx-context"
try:
    get(allow_software=False)
except RuntimeError as error:
    assert len(error.attempts) == 3
del os.environ["STANDIN_FAULT"]
""",
}


@pytest.mark.parametrize(("machine", "strategy"), [("colab", "egl"), ("glx-only", "glx")])
@pytest.mark.parametrize("before", BEFORE_WITHOUT_GL)
def test_where_the_parent_drew_nothing_its_children_reach_the_gpu(
    python: Python, tmp_path: Path, machine: str, strategy: str, before: str
) -> None:
    code = f"{COMMON}{BEFORE_WITHOUT_GL[before]}\nchildren(fresh)\nfresh()"

    done = python(machine, code, env={"XDG_CACHE_HOME": str(tmp_path)})

    assert done.stdout == f"{strategy} 00ff00\n" * 3


OURS = "ctx = get(strategies=['mesa'])"
DREW_BY_MESA = {
    "ours": ("no-nvidia", OURS, "mesa"),
    "ours by glx": ("no-libegl-no-nvidia", OURS, "mesa"),
    "raw": ("no-nvidia", "import moderngl_colab\n" + RAW, "mesa"),
    "raw, imported in the child": ("no-nvidia", RAW, "mesa"),
    "ours beside a gpu": ("colab", OURS, "egl"),
    "raw beside a gpu": ("colab", RAW, "egl"),
    "ours beside glx": ("glx-only", OURS, "glx"),
}


@pytest.mark.parametrize("how", DREW_BY_MESA)
def test_where_the_parent_drew_by_mesa_its_children_draw_and_it_goes_on(
    python: Python, how: str
) -> None:
    machine, parent, strategy = DREW_BY_MESA[how]
    code = """
framebuffer = ctx.simple_framebuffer((512, 512))
say(pixel(ctx, RED))
framebuffer.use()
framebuffer.clear(0, 0, 1)  # not drawn before somebody asks for it
def worker():
    mine = fresh()
    if sys.argv[1] == "mesa":
        children(fresh)
    say(pixel(mine, WHITE))
    mine.release()
    fresh()
children(worker)
say(framebuffer.read(components=3)[:3].hex(), pixel(ctx, RED))
say(pixel(get(strategies=["mesa"]), GREEN))
"""

    done = python(machine, f"{COMMON}{parent}\n{code}", strategy)

    drawn = f"{strategy} 00ff00\n"
    grandchildren = drawn * 2 if strategy == "mesa" else ""
    worker = f"{drawn}{grandchildren}ffffff\n{drawn}"
    assert done.stdout == f"ff0000\n{worker * 2}0000ff ff0000\n00ff00\n"


def test_what_a_child_of_mesas_makes_on_the_gpu_counts_for_its_own_children(python: Python) -> None:
    code = """
ctx = get(strategies=["mesa"])
def worker():
    fresh()
    child(lambda: attempt(get))
children(worker)
say(pixel(ctx, RED))
"""

    assert python("colab", COMMON + code).stdout == f"egl 00ff00\n{LOST}" * 2 + "ff0000\n"


# ---- the parent's display ---------------------------------------------------------------------

# Nothing but what the program itself leaves is in its /tmp: a server ends shortly after it.
OWN_TMP = """
mount -t tmpfs -o mode=1777 rig /tmp
"$@" || exit
for _ in $(seq 500); do
    [ -n "$(find /tmp -not -type d)" ] || exit 0
    sleep 0.01
done
find /tmp -not -type d
"""
IN_OWN_TMP = """
import os, sys
unshare = ["unshare", "-m" if os.geteuid() == 0 else "-Urm", "sh", "-c", sys.argv[1], "sh"]
os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"  # It would be in root's home, for any user.
os.execvp("unshare", [*unshare, sys.executable, "-P", "-W", "error", "-c", sys.argv[2]])
"""
ENDS = {
    "by os._exit": "os._exit(0)",
    "by sys.exit": "sys.exit(0)",
    "by an exception": "os.dup2(os.open(os.devnull, os.O_WRONLY), 2); raise LookupError",
    "by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "by SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
}
STATUS = {"by an exception": 256, "by SIGTERM": 15, "by SIGKILL": 9}


@pytest.mark.parametrize(
    ("machine", "drawn"), [("glx-only", ""), ("no-libegl-no-nvidia", "mesa 00ff00\n")]
)
@pytest.mark.parametrize("how", ENDS)
def test_a_childs_end_leaves_the_parents_display_alone(
    python: Python, machine: str, drawn: str, how: str
) -> None:
    code = f"""
ctx = get()
for draws in (False, True):
    pid = os.fork()
    if pid == 0:
        if draws and {bool(drawn)}:
            fresh()
        {ENDS[how]}
    status = os.waitpid(pid, 0)[1]
    with ctx:
        red = pixel(ctx, RED)
    other = get()
    say(status, red, pixel(other, BLUE))
    other.release()
"""

    done = python(machine, IN_OWN_TMP, OWN_TMP, COMMON + code)

    said = f"{STATUS.get(how, 0)} ff0000 0000ff\n"
    assert done.stdout == f"{said}{drawn}{said}"


def test_the_display_ends_with_the_parent_whose_contexts_are_released_though_a_child_lives(
    python: Python,
) -> None:
    code = """
ctx, parent = get(), os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.01)
    for _ in range(500):
        if not (left := os.listdir("/tmp/.X11-unix")):
            break
        time.sleep(0.01)
    say(left)
    os._exit(0)
ctx.release()
"""

    assert python("no-libegl-no-nvidia", IN_OWN_TMP, OWN_TMP, COMMON + code).stdout == "[]\n"


# ---- a thread that is inside when the process forks ----------------------------------------------


def test_a_fork_while_a_thread_starts_a_display_gives_a_child_that_draws(
    python: Python, folder: Path
) -> None:
    started = folder / "started"
    xvfb = path_with_xvfb(folder, f'>{started}; sleep 0.5; exec /usr/bin/Xvfb "$@"')
    code = """
before = dict(os.environ)
thread = threading.Thread(target=get)
thread.start()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.001)
def worker():
    changed = {k for k in before | os.environ if before.get(k) != os.environ.get(k)}
    say(sorted(changed))
    fresh()
child(worker)
thread.join()
say(pixel(get(), RED))
"""

    done = python("no-libegl-no-nvidia", COMMON + code, str(started), env=xvfb)

    assert done.stdout == "[]\nmesa 00ff00\nff0000\n"


@pytest.mark.parametrize("machine", ["no-nvidia", "no-libegl-no-nvidia"])
def test_forks_while_a_thread_makes_contexts_give_children_that_draw(
    python: Python, machine: str
) -> None:
    code = """
# Python itself does not bear a fork in the middle of an import.
from moderngl_colab import describe, get_gpu_context
before = dict(os.environ)
def loop():
    while not stopped:
        get().release()
stopped = []
thread = threading.Thread(target=loop)
thread.start()
def worker():
    assert os.environ == before
    fresh()
for number in range(4):
    time.sleep(0.007 * number)
    child(worker)
stopped.append(True)
thread.join()
"""

    assert python(machine, COMMON + code, timeout=30).stdout == "mesa 00ff00\n" * 4


def test_a_fork_waits_for_what_another_thread_does_to_a_context(python: Python) -> None:
    code = """
from moderngl_colab import _calls
done, begun = [], threading.Event()
def work():
    with _calls.unforked():
        begun.set()
        time.sleep(0.5)
        done.append("done")
def again():
    with _calls.unforked():
        say(done)
thread = threading.Thread(target=work)
thread.start()
begun.wait()
child(again)
thread.join()
with _calls.unforked():  # A thread does not wait for itself.
    child(again)
"""
    assert python("no-nvidia", COMMON + code).stdout == "['done']\n" * 2


# ---- multiprocessing ----------------------------------------------------------------------------

# A file, for what is spawned imports it.
WORKERS = (
    COMMON
    + """
import multiprocessing

def draw(number):
    from moderngl_colab import describe
    ctx = get()
    return describe(ctx).strategy, pixel(ctx, GREEN)

def say_what_is_drawn(number):
    say(*draw(number))

if __name__ == "__main__":
    method, settings = sys.argv[1], {"strategies": sys.argv[2:]} if sys.argv[2:] else {}
    ctx = get(**settings)
    workers = multiprocessing.get_context(method)
    with workers.Pool(2) as pool:
        try:
            say(sorted(set(pool.map(draw, range(8), chunksize=1))))
        except Exception as error:
            say(f"{type(error).__name__}: {error}")
        pool.close()
        pool.join()
    if method != "fork" or settings:
        process = workers.Process(target=say_what_is_drawn, args=(0,))
        process.start()
        process.join()
        say(process.exitcode)
    say(pixel(ctx, RED))
"""
)


@pytest.mark.parametrize(
    ("machine", "arguments", "strategy"),
    [
        ("colab", ["spawn"], "egl"),
        ("colab", ["forkserver"], "egl"),
        ("glx-only", ["spawn"], "glx"),
        ("glx-only", ["forkserver"], "glx"),
        ("colab", ["fork", "mesa"], "egl"),
        ("no-nvidia", ["fork", "mesa"], "mesa"),
        ("no-libegl-no-nvidia", ["fork", "mesa"], "mesa"),
    ],
)
def test_multiprocessings_workers_draw(
    python: Python, tmp_path: Path, machine: str, arguments: list[str], strategy: str
) -> None:
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)

    done = python(machine, program, *arguments)

    assert done.stdout == f"[('{strategy}', '00ff00')]\n{strategy} 00ff00\n0\nff0000\n"


@pytest.mark.parametrize("machine", ["colab", "glx-only"])
def test_the_error_of_a_forked_worker_reaches_its_pool_whole(
    python: Python, tmp_path: Path, machine: str
) -> None:
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)

    assert python(machine, program, "fork").stdout == f"{LOST}ff0000\n"
