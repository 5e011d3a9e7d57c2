"""get_gpu_context() as its caller sees it: arguments, variables, warnings, threads, failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Chain = Callable[..., dict[str, Any]]

KNOWN = "egl, glx, mesa"
TWO_DEVICES = "of EGL devices there are 2, of index 0 to 1"
ACCEPTED = (
    "beside require, device, allow_software and strategies it takes standalone, share, backend, "
    "device_index, timeout, probe"
)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"require": 330}, {"require": 430}, {"standalone": True}, {"backend": "egl"},
     {"share": False}, {"standalone": True, "backend": "egl", "share": False, "device_index": 0},
     {"device_index": None, "backend": None}],
)  # fmt: skip
def test_what_moderngl_takes_for_a_standalone_context_is_taken(
    chain: Chain, arguments: dict[str, Any]
) -> None:
    report = chain("colab", **arguments)

    assert (report["strategy"], report["pixel"]) == ("egl", "ff0000")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            {"share": True},
            "ValueError: share=True: a context of get_gpu_context() shares nothing with another",
        ),
        (
            {"standalone": False},
            "ValueError: standalone=False: get_gpu_context() makes contexts of its own; "
            "moderngl.create_context() takes over one that is current",
        ),
        (
            {"backend": "x11"},
            "ValueError: backend='x11': only \"egl\" is known; strategies=[...] orders the ways",
        ),
        (
            {"glversion": 330, "colour": 1},
            f"TypeError: get_gpu_context() knows no colour, glversion; {ACCEPTED}",
        ),
        ({"require": "430"}, "TypeError: require='430': an int is needed, not str"),
        ({"require": 3.3}, "TypeError: require=3.3: an int is needed, not float"),
        ({"require": True}, "TypeError: require=True: an int is needed"),
        ({"require": 33}, "ValueError: require=33: OpenGL 3.3 is written 330, and 4.6 is 460"),
        ({"require": -330}, "ValueError: require=-330: OpenGL 3.3 is written 330, and 4.6 is 460"),
        ({"device_index": "0"}, "TypeError: device_index='0': an int is needed, not str"),
        ({"device_index": 7}, f"ValueError: device_index=7: {TWO_DEVICES}"),
        ({"device_index": -1}, f"ValueError: device_index=-1: {TWO_DEVICES}"),
        ({"allow_software": "no"}, "TypeError: allow_software='no': True or False is needed"),
        (
            {"standalone": None},
            "ValueError: standalone=None: get_gpu_context() makes contexts of its own; "
            "moderngl.create_context() takes over one that is current",
        ),
        ({"strategies": 5}, "TypeError: strategies=5: a sequence of strategies is needed"),
        ({"strategies": ","}, f"ValueError: strategies is empty: name at least one of {KNOWN}"),
        ({"strategies": []}, f"ValueError: strategies is empty: name at least one of {KNOWN}"),
        ({"strategies": ["vulkan"]}, f"ValueError: strategies: 'vulkan' is none of {KNOWN}"),
        (
            {"strategies": [3]},
            "TypeError: strategies: 3 is no strategy: an object with name, vendor and create(), or "
            f"one of the names {KNOWN}",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named_and_nothing_is_left(
    chain: Chain, arguments: dict[str, Any], error: str
) -> None:
    report = chain("package", "raw-current", **arguments)

    assert report["error"] == error
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])
    assert report["raw"] == ["NVIDIA Corporation ffff00", "NVIDIA Corporation ffffff"]


def test_without_libegl_devices_the_index_is_checked_against_those_of_mesa(chain: Chain) -> None:
    report = chain("no-nvidia", device_index=1)

    assert report["error"] == "ValueError: device_index=1: of EGL devices there are 1, of index 0"


@pytest.mark.parametrize(
    ("machine", "arguments"),
    [("no-libegl", {}), ("no-gl", {}), ("colab", {"strategies": ["glx"]})],
)
def test_a_negative_index_is_an_error_where_no_device_can_be_counted(
    chain: Chain, machine: str, arguments: dict[str, Any]
) -> None:
    report = chain(machine, device_index=-1, **arguments)

    assert report["error"] == "ValueError: device_index=-1: EGL devices are numbered from 0"


def test_the_device_index_chooses_among_the_gpus(chain: Chain) -> None:
    report = chain("colab", "raw", device_index=1, env={"STANDIN_GPUS": "3"})

    assert (report["strategy"], report["egl_device"]) == ("egl", 1)
    assert report["renderer"] == "NVIDIA Stand-in GPU 1/PCIe/SSE2"


@pytest.mark.parametrize(("machine", "state"), [("package", "clean"), ("colab", "raw")])
def test_an_index_of_mesas_device_gives_mesas_device(
    chain: Chain, machine: str, state: str
) -> None:
    report = chain(machine, state, device_index=1)

    assert (report["strategy"], report["egl_device"], report["software"]) == ("mesa", 1, True)
    assert report["attempts"][0]["remedy"] == "leave device_index out, or ask for 0"
    assert [a["reason"] for a in report["attempts"][:2]] == [
        "EGL device 1 is not an NVIDIA GPU",
        "device_index=1 names an EGL device, and GLX chooses its own",
    ]


@pytest.mark.parametrize(("machine", "state"), [("package", "clean"), ("colab", "raw")])
def test_an_index_of_a_gpu_that_refuses_never_gives_another_device(
    chain: Chain, machine: str, state: str
) -> None:
    report = chain(machine, state, device_index=0, env={"STANDIN_FAULT": "init"})

    assert report["error"].startswith("GPUContextError: no OpenGL 3.3 context could be made:\n")
    assert report["attempts"][2]["reason"] == "EGL device 0 is NVIDIA's, not Mesa's"


@pytest.mark.parametrize(
    ("variables", "strategy", "reasons"),
    [
        (
            {"__EGL_VENDOR_LIBRARY_FILENAMES": "/usr/share/glvnd/egl_vendor.d/50_mesa.json"},
            "glx",
            ["__EGL_VENDOR_LIBRARY_FILENAMES is set to /usr/share/glvnd/egl_vendor.d/50_mesa.json, "
             "and that leaves NVIDIA's vendor library out"],
        ),
        (
            {"__EGL_VENDOR_LIBRARY_DIRS": "/nowhere", "__GLX_VENDOR_LIBRARY_NAME": "mesa"},
            "mesa",
            ["__EGL_VENDOR_LIBRARY_DIRS is set to /nowhere, and that leaves NVIDIA's vendor "
             "library out",
             "__GLX_VENDOR_LIBRARY_NAME is set to mesa, and that leaves NVIDIA's vendor library "
             "out"],
        ),
        (
            {"__EGL_VENDOR_LIBRARY_FILENAMES":
             "/usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json"},
            "egl",
            [],
        ),
        ({"LIBGL_ALWAYS_SOFTWARE": "1", "GALLIUM_DRIVER": "llvmpipe",
          "MESA_LOADER_DRIVER_OVERRIDE": "swrast", "LIBGL_DRI3_DISABLE": "1"}, "egl", []),
        ({"DISPLAY": ":0", "XAUTHORITY": "/nowhere"}, "egl", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("state", ["clean", "raw"])
def test_the_users_own_variables_win(
    chain: Chain, state: str, variables: dict[str, str], strategy: str, reasons: list[str]
) -> None:
    mesa_is_left_out = "nvidia" in str(variables) or "/nowhere" in str(variables)
    if "__EGL_VENDOR" in str(variables) and mesa_is_left_out:
        state = "clean"  # Raw moderngl finds no device at all there.

    report = chain("gke", state, env=variables)

    assert (report["strategy"], report["pixel"]) == (strategy, "ff0000")
    assert [a["reason"] for a in report["attempts"][: len(reasons)]] == reasons
    causes = ["icd-override", "software-forced"]
    assert [a["cause"] for a in report["attempts"][: len(reasons)]] == causes[: len(reasons)]
    assert report["changed"] == []


def test_a_foreign_display_is_never_used(chain: Chain) -> None:
    report = chain("glx-only", env={"DISPLAY": "localhost:10.0"})

    assert (report["strategy"], report["pixel"]) == ("glx", "ff0000")


@pytest.mark.parametrize("value", ["0", "no", "FALSE", " off "])
def test_the_variable_forbids_software(chain: Chain, value: str) -> None:
    report = chain("no-nvidia", env={"MODERNGL_COLAB_ALLOW_SOFTWARE": value})

    assert report["error"].startswith("GPUContextError: no OpenGL 3.3 context on a GPU could be")


def test_the_argument_wins_over_the_variable(chain: Chain) -> None:
    report = chain("no-nvidia", env={"MODERNGL_COLAB_ALLOW_SOFTWARE": "0"}, allow_software=True)

    assert (report["strategy"], len(report["warnings"])) == ("mesa", 1)


def test_a_variable_of_an_impossible_value_is_an_error(chain: Chain) -> None:
    assert (
        chain("no-nvidia", env={"MODERNGL_COLAB_ALLOW_SOFTWARE": "perhaps"})["error"]
        == "ValueError: MODERNGL_COLAB_ALLOW_SOFTWARE='perhaps': 0 or 1 is possible"
    )
    assert (
        chain("no-nvidia", env={"MODERNGL_COLAB_STRATEGIES": "egl,vulkan"})["error"]
        == f"ValueError: MODERNGL_COLAB_STRATEGIES: 'vulkan' is none of {KNOWN}"
    )


def test_mesa_that_is_hardware_is_not_software(chain: Chain) -> None:
    report = chain("wsl2", allow_software=False)

    assert (report["strategy"], report["software"], report["warnings"]) == ("mesa", False, [])


def test_the_variable_narrows_and_orders_the_chain(chain: Chain) -> None:
    report = chain("colab", env={"MODERNGL_COLAB_STRATEGIES": "mesa, egl"})

    assert [(a["strategy"], a["outcome"], a["reason"]) for a in report["attempts"]] == [
        ("mesa", "selected", f"{report['vendor']}, {report['renderer']}"),
        ("egl", "skipped", "mesa served"),
        ("glx", "skipped", "not among the strategies asked for"),
    ]
    assert report["warnings"][0][1] == (
        f"OpenGL renders on the CPU ({report['renderer']}), as asked for"
    )


def run(python: Any, machine: str, code: str, **options: Any) -> Any:
    """The JSON that some code prints."""
    return json.loads(python(machine, code, **options).stdout)


def test_a_strategy_of_the_users_own_is_tried_and_verified(python: Any, mesa: str) -> None:
    code = """
import json, glcontext, moderngl_colab

class Own:
    def __init__(self, name, vendor, device_index):
        self.name, self.vendor, self.device_index = name, vendor, device_index

    def create(self, request):
        egl = glcontext.get_backend_by_name("egl")
        return egl(mode="standalone", glversion=request.version, device_index=self.device_index)

class Broken:
    name, vendor = "broken", None

    def create(self, request):
        raise moderngl_colab.StrategyUnavailable("the moon is full", remedy="wait", cause="moon")

chain = [Broken(), Own("second", "NVIDIA", 1), Own("first", "NVIDIA", 0)]
ctx = moderngl_colab.get_gpu_context(strategies=chain)
framebuffer = ctx.simple_framebuffer((2, 2))
framebuffer.clear(0, 0, 1)
pixel = framebuffer.read().hex()[:6]
ctx.release()
print(json.dumps([*map(str, moderngl_colab.describe(ctx).attempts), pixel]))
"""
    seen = run(python, "package", code)

    assert seen[0] == "broken: unavailable: the moon is full"
    assert seen[1].startswith(f"second: rejected: GL_VENDOR is '{mesa}', GL_RENDERER is ")
    assert seen[2] == "first: selected: NVIDIA Corporation, NVIDIA Stand-in GPU 0/PCIe/SSE2"
    assert seen[3:6] == [
        f"{name}: skipped: not among the strategies asked for" for name in ("egl", "glx", "mesa")
    ]
    assert seen[6] == "0000ff"


def test_a_strategy_that_gives_no_context_is_named(python: Any) -> None:
    code = """
import json, moderngl, moderngl_colab

class Wrong:
    name, vendor = "wrong", None

    def create(self, request):
        return moderngl.create_context(standalone=True, backend="egl")

try:
    moderngl_colab.get_gpu_context(strategies=[Wrong()])
except TypeError as error:
    print(json.dumps(str(error)))
"""
    assert run(python, "package", code) == (
        "strategy 'wrong' made a Context; what is needed is what glcontext's backends give, with "
        "load(), release(), __enter__() and __exit__()"
    )


def test_a_context_that_knows_no_function_has_failed(python: Any) -> None:
    code = """
import json, moderngl_colab

class Empty:
    name, vendor = "empty", None
    released = 0

    def create(self, request):
        return self

    def load(self, name):
        return 0

    def release(self):
        self.released += 1

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

empty = Empty()
try:
    moderngl_colab.get_gpu_context(strategies=[empty])
except moderngl_colab.GPUContextError as error:
    print(json.dumps([str(error.attempts[0]), empty.released]))
"""
    assert run(python, "no-nvidia", code) == [
        "empty: failed: the context gives no address for glGetString and glGetIntegerv",
        1,
    ]


def test_a_python_without_memfd_create_reaches_the_gpu_all_the_same(python: Any) -> None:
    code = """
import json, os
del os.memfd_create  # as in Pythons that were built against an old glibc
import moderngl, moderngl_colab
raw = moderngl.create_context(standalone=True, backend="egl")
print(json.dumps(moderngl_colab.describe(moderngl_colab.get_gpu_context()).strategy))
"""
    assert run(python, "colab", code) == "egl"
    assert run(python, "glx-only", code) == "glx"


@pytest.mark.parametrize("machine", ["colab", "glx-only"])
def test_where_no_memory_file_can_be_made_mesa_serves(python: Any, machine: str) -> None:
    code = """
import json, os, warnings

def memfd_create(*_):
    raise OSError(38, "Function not implemented")

os.memfd_create = memfd_create
import moderngl_colab
warnings.simplefilter("ignore")
info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
print(json.dumps([info.strategy, *[a.reason for a in info.attempts]]))
"""
    strategy, egl, glx, _ = run(python, machine, code)

    assert strategy == "mesa"
    assert "[Errno 38] Function not implemented" in (egl if machine == "colab" else glx)


def test_a_driver_that_appears_later_is_found(python: Any, tmp_path: Path) -> None:
    from rig import driver

    tmp_path.chmod(0o755)
    there = tmp_path / "there"
    there.mkdir()
    code = f"""
import json, os, shutil, warnings, moderngl_colab
warnings.simplefilter("ignore")
os.environ["MODERNGL_COLAB_DRIVER_DIR"] = "{there}"

def strategy():
    ctx = moderngl_colab.get_gpu_context()
    name = moderngl_colab.describe(ctx).strategy
    ctx.release()
    return name

first = strategy()
shutil.copytree("{tmp_path}/driver", "{there}", symlinks=True, dirs_exist_ok=True)
print(json.dumps([first, strategy()]))
"""
    driver.build(tmp_path / "driver")

    assert run(python, "compute-only", code) == ["mesa", "egl"]


def test_a_user_who_closed_the_standard_streams_keeps_the_display_private(python: Any) -> None:
    code = """
import os, subprocess, sys, moderngl_colab
from moderngl_colab import _display
for number in (0, 1):
    os.close(number)
ctx = moderngl_colab.get_gpu_context()
with _display.shared() as display:
    name = display.name
look = "import ctypes; x = ctypes.CDLL('libX11.so.6'); x.XOpenDisplay.restype = ctypes.c_void_p;"
look += f"raise SystemExit(x.XOpenDisplay(b'{name}') is not None)"
refused = subprocess.call([sys.executable, "-c", look], env={"XAUTHORITY": "/nowhere"},
                          stderr=subprocess.DEVNULL) == 0
raise SystemExit(0 if refused else 7)
"""
    assert python("glx-only", code, check=False).returncode == 0


def test_a_child_forked_amid_a_call_makes_its_own(python: Any) -> None:
    code = """
import json, os, threading, warnings, moderngl_colab
warnings.simplefilter("ignore")
inside, go_on = threading.Event(), threading.Event()

class Slow:
    name, vendor = "slow", None

    def create(self, request):
        inside.set()
        go_on.wait()
        raise moderngl_colab.StrategyFailed("slow")

def work():
    try:
        moderngl_colab.get_gpu_context(strategies=[Slow()])
    except moderngl_colab.GPUContextError:
        pass

thread = threading.Thread(target=work)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    os._exit(moderngl_colab.describe(moderngl_colab.get_gpu_context()).strategy != "egl")
status = os.waitpid(child, 0)[1]
go_on.set()
thread.join()
print(json.dumps(status))
"""
    assert run(python, "colab", code, options=["-W", "ignore"]) == 0


def test_a_bug_in_a_strategy_shows_and_what_was_current_is_so_again(python: Any) -> None:
    code = """
import json, moderngl, moderngl_colab

class Bug:
    name, vendor = "bug", None

    def create(self, request):
        return 1 / 0

raw = moderngl.create_context(standalone=True, backend="egl")
try:
    moderngl_colab.get_gpu_context(strategies=[Bug()])
except ZeroDivisionError:
    framebuffer = raw.simple_framebuffer((2, 2))
    framebuffer.clear(1, 1, 0)
    print(json.dumps([moderngl.get_context() is raw, framebuffer.read().hex()[:6]]))
"""
    assert run(python, "no-nvidia", code) == [True, "ffff00"]


def test_the_warning_made_an_error_leaves_nothing_behind(python: Any) -> None:
    code = """
import json, os, moderngl, moderngl_colab

raw = moderngl.create_context(standalone=True, backend="egl")
moderngl_colab.describe(raw)
before = len(os.listdir("/proc/self/fd"))
try:
    moderngl_colab.get_gpu_context()
except moderngl_colab.SoftwareRenderingWarning:
    framebuffer = raw.simple_framebuffer((2, 2))
    framebuffer.clear(0, 1, 1)
    after = len(os.listdir("/proc/self/fd"))
    print(json.dumps([moderngl.get_context() is raw, framebuffer.read().hex()[:6], after - before]))
"""
    assert run(python, "no-nvidia", code) == [True, "00ffff", 0]


def test_after_an_error_moderngl_has_the_context_it_had_before(python: Any) -> None:
    code = """
import json, moderngl, moderngl_colab

seen = []
raw = None
for make_raw in (False, True):
    if make_raw:
        raw = moderngl.create_context(standalone=True, backend="egl")
    try:
        moderngl_colab.get_gpu_context(allow_software=False)
    except moderngl_colab.GPUContextError:
        try:
            seen.append(moderngl.get_context() is raw)
        except RuntimeError as error:
            seen.append(str(error))
print(json.dumps(seen))
"""
    nothing_before, raw_before = run(python, "no-nvidia", code)

    assert nothing_before == "Cannot detect window with OpenGL support"
    assert raw_before is True


@pytest.mark.parametrize(("machine", "vendor"), [("colab", "NVIDIA"), ("glx-only", "NVIDIA"),
                                                 ("no-nvidia", "Mesa")])  # fmt: skip
def test_calls_from_many_threads_give_a_context_each(
    python: Any, machine: str, vendor: str
) -> None:
    code = """
import json, os, threading, warnings, moderngl_colab

warnings.simplefilter("ignore")
before, seen = dict(os.environ), []

def work(number):
    ctx = moderngl_colab.get_gpu_context()
    framebuffer = ctx.simple_framebuffer((2, 2))
    framebuffer.clear(0, number / 255, 0)
    seen.append([moderngl_colab.describe(ctx).vendor, framebuffer.read()[1] == number])
    ctx.release()

threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([before == dict(os.environ), seen]))
"""
    same_environment, seen = run(python, machine, code)

    assert same_environment is True
    assert len(seen) == 16
    assert all(name.startswith(vendor) and right for name, right in seen)


@pytest.mark.parametrize("identity", ["os.seteuid(65534)", "os.setegid(65534)"])
def test_a_process_with_anothers_rights_leaves_the_loader_alone(python: Any, identity: str) -> None:
    import os

    if os.geteuid() != 0:
        pytest.skip("only root can take another effective user")
    code = f"""
import json, os, warnings, moderngl_colab
from moderngl_colab import describe, get_gpu_context  # or Python itself might be out of reach
from glcontext import egl
{identity}
warnings.simplefilter("ignore")
ctx = moderngl_colab.get_gpu_context()
print(json.dumps([[a.strategy, a.cause, a.reason] for a in moderngl_colab.describe(ctx).attempts]))
"""
    attempts = run(python, "colab-no-path", code)

    reason = (
        "real and effective user or group differ, and which libraries such a process loads is left "
        "alone"
    )
    assert attempts[:2] == [["egl", "privileged", reason], ["glx", "privileged", reason]]
    assert attempts[2][0] == "mesa"


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_are_referred_to_moderngl(python: Any, system: str) -> None:
    code = f"""
import json, sys
sys.platform = "{system}"
import moderngl_colab
try:
    moderngl_colab.get_gpu_context()
except moderngl_colab.GPUContextError as error:
    print(json.dumps([str(error), error.attempts]))
"""
    assert run(python, "no-nvidia", code) == [
        f"moderngl_colab serves Linux; on {system} the system itself gives GPU contexts: "
        "moderngl.create_context(standalone=True)",
        [],
    ]


def test_the_winner_is_logged_once_and_each_step_in_detail(python: Any) -> None:
    code = """
import json, logging, moderngl_colab

class Keep(logging.Handler):
    def emit(self, record):
        lines.append([record.levelname, record.name, record.getMessage()])

lines = []
logging.getLogger("moderngl_colab").addHandler(Keep())
logging.getLogger("moderngl_colab").setLevel(logging.DEBUG)
moderngl_colab.get_gpu_context()
print(json.dumps(lines))
"""
    lines = run(python, "no-libegl", code)

    assert [line[:2] for line in lines] == [["DEBUG", "moderngl_colab"]] * 3 + [
        ["INFO", "moderngl_colab"]
    ]
    assert lines[0][2] == "egl: trying"
    assert lines[1][2].startswith("egl: unavailable: the loader says: libEGL.so.1: ")
    assert lines[3][2].startswith(
        "OpenGL by glx: NVIDIA Corporation, NVIDIA Stand-in GPU 0/PCIe/SSE2 (OpenGL 3.3"
    )


def test_nothing_is_written_to_any_file_system(python: Any, tmp_path: Path) -> None:
    import shutil
    import sys

    from rig import machines

    if shutil.which("strace") is None:
        pytest.fail("strace is missing: apt-get install -y strace")
    log = tmp_path / "log"
    code = "import moderngl_colab; print(moderngl_colab.get_gpu_context().version_code)"
    result = machines.run(
        machines.MACHINES["colab-no-path"],
        ["strace", "-f", "-qq", "-e", "trace=open,openat,creat,mkdir,mkdirat,rename,unlink,execve,"
         "clone,fork,vfork", "-o", str(log), sys.executable, "-P", "-B", "-c", code],
        # The stand-in is Mesa underneath, and Mesa keeps a cache of its shaders.
        env={"MESA_SHADER_CACHE_DISABLE": "true"},
    )  # fmt: skip

    assert result.stdout == "330\n", result.stderr
    writes = ("O_WRONLY", "O_RDWR", "O_CREAT", "creat(", "mkdir", "rename", "unlink")
    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    written = [
        line for line in lines
        if any(word in line for word in writes) and "/dev/" not in line and "ENOENT" not in line
    ]  # fmt: skip
    assert written == []
    started = [line for line in lines if line.startswith(("execve", "fork", "vfork"))]
    assert len(started) == 1, started  # the interpreter itself
