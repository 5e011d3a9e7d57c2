"""The private virtual display: its life, its death, and whom it lets in."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MESA_GLX, without_noise

from moderngl_colab import _display, _x11, _xvfb


def sockets() -> set[str]:
    """What X servers leave in /tmp."""
    folder = Path("/tmp")
    return {str(p) for pattern in (".*X*-lock", ".X11-unix/X*") for p in folder.glob(pattern)}


def traces(number: str) -> tuple[str, ...]:
    """How the names end that a display of that number has in /tmp."""
    return f"/X{number}", f"/.X{number}-lock", f"/.tX{number}-lock"


def ended(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process is gone, or a zombie that somebody else must reap, before long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


def start(code: str) -> tuple[subprocess.Popen[str], int, str]:
    """A process that runs `code`, and the server's process and display, which it prints first.

    What it prints after that must wait for a line of input, or it is lost in a buffer.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(str(process.communicate()[1]))
    pid, name = line.split()
    return process, int(pid), name


DISPLAY = """
import os, sys
from moderngl_colab import _display
with _display.shared() as display:
    pass
print(display.proc.pid, display.name, flush=True)
"""
CONTEXT = (
    MESA_GLX
    + """
import os, sys, warnings
from moderngl_colab import _display
warnings.simplefilter("ignore")
ctx = mesa_glx()
with _display.shared() as display:
    pass
print(display.proc.pid, display.name, flush=True)
"""
)
IN_A_THREAD = """
import threading
def body():
    exec({!r}, globals())
thread = threading.Thread(target=body)
thread.start()
thread.join()
"""
# It holds what it inherits, but for the pipes whose end the test waits for.
FORKED = """
import time
child = os.fork()
if child == 0:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    time.sleep(1000)
print(child, flush=True)
"""
BEFORE = [
    (IN_A_THREAD.format(code) if threaded else code) + forked
    for code in (DISPLAY, CONTEXT)
    for threaded in (False, True)
    for forked in ("", FORKED)
]
ENDS = {
    "normally": ("", 0, ""),
    "by an exception": ("raise LookupError('the end')", 1, "LookupError: the end\n"),
    "by os._exit": ("os._exit(4)", 4, ""),
    "by SIGTERM": ("os.kill(os.getpid(), 15)", -15, ""),
    "by SIGKILL": ("os.kill(os.getpid(), 9)", -9, ""),
}
REPETITIONS, AT_ONCE = 50, 5


@pytest.mark.parametrize("how", ENDS)
def test_the_server_ends_with_the_process(how: str) -> None:
    """By each of BEFORE in turn: with a context and without, by a thread that ended, forked."""
    code, status, said = ENDS[how]
    for first in range(0, REPETITIONS, AT_ONCE):
        numbers = range(first, first + AT_ONCE)
        programs = [BEFORE[number % len(BEFORE)] + code for number in numbers]
        running = [start(program) for program in programs]
        for program, (process, server, name) in zip(programs, running, strict=True):
            assert process.stdout is not None
            child = process.stdout.readline() if FORKED in program else ""
            errors = without_noise(process.communicate(timeout=30)[1])
            try:
                assert process.returncode == status
                assert errors.endswith(said)
                assert bool(errors) == bool(said)
                assert ended(server)
                number = name.removeprefix(":")
                assert not {path for path in sockets() if path.endswith(traces(number))}
            finally:
                if child:
                    os.kill(int(child), signal.SIGKILL)


def test_a_kill_at_any_moment_of_the_servers_start_leaves_nothing(python: Any) -> None:
    """Neither a process, which the machine would report, nor a socket, a lock, a key map.

    But for the server's own: it takes its lock and its socket less than a millisecond before it
    is ready for a signal, and that moment is struck by one trial in a few hundred.
    """
    trials = """
import os, random, subprocess, sys, time
random.seed(3)
for trial in range(60):
    process = subprocess.Popen([sys.executable, "-P", "-c", sys.argv[1]], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(random.uniform(0, 0.06))
    process.kill()
    process.communicate()
end = time.monotonic() + 5
def left():
    return sorted(name for folder in ("/tmp", "/tmp/.X11-unix") for name in os.listdir(folder))
while left() != [".X11-unix"] and time.monotonic() < end:
    time.sleep(0.01)
print(left())
"""
    started = """
from moderngl_colab import _xvfb
display = _xvfb.Display()
print("now", flush=True)
display.start()
"""
    machine = (
        "import os, sys; os.execvp('unshare', ['unshare', '-m' if os.geteuid() == 0 else '-Urm', "
        "'sh', '-c', 'mount -t tmpfs -o mode=1777 rig /tmp && mkdir -m 1777 /tmp/.X11-unix && "
        "exec \"$@\"', 'sh', sys.executable, '-P', '-c', sys.argv[1], sys.argv[2]])"
    )
    names = ast.literal_eval(python("no-nvidia", machine, trials, started).stdout)
    names.remove(".X11-unix")
    struck = [re.fullmatch(r"\.?X(\d+)(-lock)?", name) for name in names]
    assert all(struck), names
    assert len({trace[1] for trace in struck if trace}) <= 2, names


def test_an_interrupt_of_the_process_group_leaves_the_server() -> None:
    before = "import signal\nsignal.signal(signal.SIGINT, lambda *_: hits.append(1))\nhits = []\n"
    after = """
sys.stdin.readline()
framebuffer = ctx.simple_framebuffer((2, 2))
framebuffer.clear(1, 0, 0)
print(hits, framebuffer.read()[0], display.is_alive())
"""
    process, server, _ = start(before + CONTEXT + after)
    os.killpg(process.pid, signal.SIGINT)

    output, errors = process.communicate("\n", timeout=20)

    assert (output, process.returncode) == ("[1] 255 True\n", 0)
    assert without_noise(errors) == ""
    assert ended(server)


def test_no_other_client_is_let_in() -> None:
    process, _, name = start(DISPLAY + "sys.stdin.readline()")
    code = (
        "import ctypes; x = ctypes.CDLL('libX11.so.6'); x.XOpenDisplay.restype = ctypes.c_void_p;"
        f"print(x.XOpenDisplay(b'{name}'))"
    )

    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "XAUTHORITY": "/nowhere"},
    )  # fmt: skip
    process.communicate("\n", timeout=20)

    assert other.stdout == "None\n"


def test_nobody_else_can_answer_by_the_abstract_name_that_xcb_asks_first() -> None:
    process, _, name = start(DISPLAY + "sys.stdin.readline()")
    address = f"\0/tmp/.X11-unix/X{name.removeprefix(':')}"
    with socket.socket(socket.AF_UNIX) as stranger:
        with pytest.raises(OSError, match="Address already in use"):
            stranger.bind(address)
        with pytest.raises(ConnectionRefusedError):
            stranger.connect(address)
    process.communicate("\n", timeout=20)


def test_a_number_whose_abstract_name_is_somebody_elses_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = iter([2, 3])
    display = _xvfb.Display()
    monkeypatch.setattr("secrets.randbelow", lambda _: next(drawn))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind("\0/tmp/.X11-unix/X1002")
        display.start()
    display.stop()

    assert display.name == ":1003"


STRANGER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen()
    print("ready", flush=True)
    connection, _ = server.accept()
    print(len(connection.recv(1024)), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_server_of_another_user_is_told_no_cookie() -> None:
    number = 70000 + os.getpid() % 5000
    path = f"/tmp/.X11-unix/X{number}"
    Path(path).parent.mkdir(mode=0o1777, exist_ok=True)
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable]
    stranger = subprocess.Popen([*other, "-c", STRANGER, path], stdout=subprocess.PIPE, text=True)
    try:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "ready\n"
        with pytest.raises(_x11.RefusedError, match="somebody else answered in Xvfb's place"):
            _x11.connect(number, b"c" * 16, until=0)
        assert stranger.communicate(timeout=20)[0] == "0\n"
    finally:
        os.unlink(path)


def test_a_server_that_was_stopped_is_not_waited_for_for_ever() -> None:
    code = """
import signal
with ctx:
    pass
display.proc.send_signal(signal.SIGSTOP)
try:
    mesa_glx(timeout=1)
except moderngl_colab.GPUContextError as error:
    print(error.attempts[0].reason, flush=True)
display.proc.send_signal(signal.SIGCONT)
new = mesa_glx()
print(new.simple_framebuffer((1, 1)).read())
"""
    process, server, _ = start(CONTEXT + "sys.stdin.readline()" + code)
    output, errors = process.communicate("\n", timeout=20)

    # How long it was waited for is measured, so that a busy machine's 1.1 s is right, too.
    said = re.sub(r"within 1(\.\d)? s", "within N s", output)
    assert said == "Xvfb did not answer within N s\nb'\\x00\\x00\\x00'\n"
    assert (without_noise(errors), process.returncode) == ("", 0)
    assert ended(server)


@pytest.mark.parametrize("way", ["blocked", "ignored"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_the_server_ends_also_where_its_signals_are_kept_from_it(way: str, number: int) -> None:
    """By the next one that serves: SIGTERM, SIGINT, and SIGKILL where neither does."""
    kept = [signal.SIGTERM, signal.SIGINT][: 1 + (number == signal.SIGINT)]
    code = f"import signal\nkept = {[int(one) for one in kept]}\n"
    if way == "blocked":
        code += "signal.pthread_sigmask(signal.SIG_BLOCK, kept)\n"
    else:
        code += "for one in kept: signal.signal(one, signal.SIG_IGN)\n"
    process, server, name = start(code + CONTEXT + FORKED + "os.kill(os.getpid(), 9)")
    assert process.stdout is not None
    child = process.stdout.readline()
    process.communicate(timeout=20)
    try:
        assert ended(server)
    finally:
        os.kill(int(child), signal.SIGKILL)
        for trace in (f"/tmp/.X{name[1:]}-lock", f"/tmp/.X11-unix/X{name[1:]}"):
            Path(trace).unlink(missing_ok=True)


def test_one_server_serves_the_process_and_listens_on_its_socket_only() -> None:
    code = """
sys.stdin.readline()
with _display.shared() as again:
    print(display is again, display.xvfb_cmd)
"""
    process, server, name = start(DISPLAY + code)
    output, _ = process.communicate("\n", timeout=20)

    assert output.startswith("True ['Xvfb', ")
    assert "'-nolisten', 'tcp', '-nolisten', 'local'" in output
    assert int(name.removeprefix(":")) >= 1000  # nobody's :0, nor :1 or :99
    assert ended(server)


def test_a_server_that_was_killed_is_replaced() -> None:
    code = """
sys.stdin.readline()
display.proc.kill()
display.proc.wait()
with _display.shared() as other:
    print(other is not display, other.is_alive())
"""
    process, _, name = start(DISPLAY + code)
    output, errors = process.communicate("\n", timeout=20)

    assert (output, errors) == ("True True\n", "")
    number = name.removeprefix(":")
    assert not {path for path in sockets() if path.endswith(traces(number))}


def test_a_forked_child_starts_a_display_of_its_own_and_leaves_its_parents_alone() -> None:
    code = """
sys.stdin.readline()
child = os.fork()
if child == 0:
    with _display.shared() as own:
        os._exit(own.name == display.name)
status = os.waitpid(child, 0)[1]
with _display.shared() as still:
    print(status, still is display, os.path.exists(f"/tmp/.X11-unix/X{display.new_display}"))
"""
    process, server, _ = start(DISPLAY + code)
    output, errors = process.communicate("\n", timeout=20)

    assert (output, errors) == ("0 True True\n", "")
    assert ended(server)


def test_the_server_never_reads_nvidias_icd(python: Any) -> None:
    code = """
import json
from pathlib import Path
from moderngl_colab import _display
with _display.shared() as display:
    environment = Path(f"/proc/{display.proc.pid}/environ").read_text().split("\\0")
    maps = Path(f"/proc/{display.proc.pid}/maps").read_text()
print(json.dumps([sorted(e for e in environment if e.startswith("__")), "nvidia" in maps]))
"""
    variables, has_nvidia = json.loads(python("package", code).stdout)

    assert variables == [
        "__EGL_VENDOR_LIBRARY_FILENAMES=/usr/share/glvnd/egl_vendor.d/50_mesa.json",
        "__GLX_VENDOR_LIBRARY_NAME=mesa",
    ]
    assert has_nvidia is False


def test_a_taken_number_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0, 0, 1])
    first = _xvfb.Display()
    monkeypatch.setattr("secrets.randbelow", lambda _: next(drawn))
    second = _xvfb.Display()
    try:
        first.start()
        second.start()
        assert (first.name, second.name) == (":1000", ":1001")
    finally:
        second.stop()
        first.stop()


def test_without_a_program_the_absence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(_xvfb.XvfbMissing), _display.shared():
        pass


READ_ONLY = """
from moderngl_colab import _xvfb
try:
    _xvfb.Display().start()
except _xvfb.XvfbPlaceError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("mount", "what"),
    [
        ("mount --bind /tmp /tmp; mount -o remount,bind,ro /tmp", "/tmp is read-only (EROFS)"),
        (
            "mkdir -p /tmp/.X11-unix; mount --bind /tmp/.X11-unix /tmp/.X11-unix; "
            "mount -o remount,bind,ro /tmp/.X11-unix",
            "/tmp/.X11-unix is read-only (EROFS)",
        ),
    ],
)
def test_a_read_only_tmp_is_told_at_once(mount: str, what: str, python: Any) -> None:
    program = (
        "import os, sys; os.execvp('unshare', ['unshare', '-m' if os.geteuid() == 0 else '-Urm', "
        "'sh', '-c', sys.argv[1] + '; exec \"$@\"', 'sh', sys.executable, '-P', '-c', sys.argv[2]])"
    )
    assert python("no-nvidia", program, mount, READ_ONLY).stdout == (
        f"Xvfb puts its socket and its lock into /tmp, and {what}\n"
    )


CLOSED = """
mount -t tmpfs -o mode=755 rig /tmp
[ -z "$X" ] || { chmod 1777 /tmp; $X /tmp/.X11-unix; }
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("", "/tmp may not be written to by this user (EACCES)"),
        ("mkdir -m 755", "/tmp/.X11-unix may not be written to by this user (EACCES)"),
        ("touch", "/tmp/.X11-unix is no directory (ENOTDIR)"),
        ("ln -s nowhere", "/tmp/.X11-unix is not there (ENOENT)"),
    ],
)
def test_a_tmp_that_belongs_to_others_is_told_at_once(made: str, what: str, python: Any) -> None:
    program = (
        "import os, sys; os.environ['X'] = sys.argv[1]; os.execvp('unshare', ['unshare', '-m', "
        "'sh', '-c', sys.argv[2], 'sh', sys.executable, '-P', '-c', sys.argv[3]])"
    )
    assert python("no-nvidia", program, made, CLOSED, READ_ONLY).stdout == (
        f"Xvfb puts its socket and its lock into /tmp, and {what}\n"
    )


@pytest.mark.parametrize("prefix", ["", "\0"], ids=["file", "abstract"])
def test_whether_somebody_answers_on_a_display_is_asked_of_its_socket(prefix: str) -> None:
    number = 60000 + os.getpid() % 5000
    path = f"/tmp/.X11-unix/X{number}"
    names = [f":{number}", f":{number}.0", f"unix:{number}"]
    if not prefix:
        Path(path).parent.mkdir(mode=0o1777, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(prefix + path)
        try:
            assert [_x11.answers(name) for name in names] == [False] * 3  # Nobody listens yet.
            server.listen()
            assert [_x11.answers(name) for name in names] == [True] * 3
            for other in (f"localhost:{number}", "", ":", str(number), f":{number}.0.0", ":-1"):
                assert not _x11.answers(other)
        finally:
            if not prefix:
                os.unlink(path)
    assert [_x11.answers(name) for name in names] == [False] * 3


def test_the_screen_is_as_large_as_it_was_asked_for() -> None:
    assert _xvfb.Display(1280, 1024).extra_xvfb_args[:3] == ["-screen", "0", "1280x1024x24"]
    assert _xvfb.Display().extra_xvfb_args[:3] == ["-screen", "0", "64x64x24"]


def test_forty_processes_at_once_get_forty_displays() -> None:
    running = [start(DISPLAY + "sys.stdin.readline()") for _ in range(40)]
    names = {name for _, _, name in running}
    for process, _, _ in running:
        assert process.communicate("\n", timeout=20)[1] == ""

    assert len(names) == 40
    assert all(ended(server) for _, server, _ in running)
