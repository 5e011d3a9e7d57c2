"""Runs a program inside a simulated machine and leaves nothing of it behind."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .layout import FAILED, FAILURE, Machine, expand, script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What a test's own session says about GL, NVIDIA or X must not reach into the machine.
_FOREIGN = re.compile(
    r"__EGL|__GL|EGL_|GLX_|GL_|LIBGL|MESA|GALLIUM|LP_|DRI_|GLCONTEXT|MODERNGL|PYOPENGL|force_gl"
    r"|NVIDIA|NV_|CUDA|STANDIN|LD_|DISPLAY$|XAUTHORITY|WAYLAND|COLAB_|KAGGLE_|WSL"
)


class Finished(subprocess.CompletedProcess[str]):
    """The program's result; `survivors` are the command lines of processes it left running."""

    survivors: tuple[str, ...] = ()


def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    uid: int | None = None,
    groups: Sequence[int] = (),
) -> Finished:
    """Run `argv` in `machine`, in the current folder; then kill whatever it left running.

    The environment is the caller's without what concerns GL, NVIDIA or X, then the machine's,
    then `env`. `uid` is for root only: the user and group to become inside, with `groups`
    as supplementary ones; folders on the way to
    the interpreter, the current folder and the arguments are made open to that user. An ordinary
    user keeps looking like one. /tmp is the real one.

    Raises RuntimeError where the machine cannot be set up, driver.RigError where the stand-in
    cannot be compiled, subprocess.TimeoutExpired.
    """
    inside = {k: v for k, v in os.environ.items() if not _FOREIGN.match(k)}
    inside |= {k: expand(v) for k, v in machine.env.items()} | dict(env or {})
    root = os.geteuid() == 0
    if uid is not None and not root:
        raise ValueError("only root can become another user")
    if not root:
        become = ["unshare", "-U", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}", "--"]
    elif uid is not None:
        others = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", others, "--"]
    else:
        become = []
    layout = script(
        machine,
        gpus=int(inside.get("STANDIN_GPUS") or 1),
        drm=inside.get("STANDIN_DRM", "0") not in ("", "0"),
        closed=_closed_folders(argv) if uid else [],
    )
    # Only `env -i` decides what the program sees; the shell adds variables of its own.
    final = [*become, "env", "-i", *(f"{k}={v}" for k, v in inside.items()), *argv]
    command = ["unshare", "-m" if root else "-Urm", "sh", "-c", layout, "rig", *final]
    result = _supervise(command, argv, timeout)
    if result.returncode == FAILED and FAILURE in result.stderr:
        raise RuntimeError(f"machine {machine.name}: {result.stderr.strip()}")
    return result


@functools.cache
def available() -> str | None:
    """Why machines cannot be simulated here; None if they can."""
    if not sys.platform.startswith("linux"):
        return "simulated machines need Linux"
    probe = Machine("probe", "nothing but the namespaces", removed=("/etc/hostname",), kernel="1.0")
    try:
        done = run(probe, ["true"])
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return f"simulated machines cannot be made here: {error}"
    return None if done.returncode == 0 else f"simulated machines fail here: {done.stderr.strip()}"


def _closed_folders(argv: Sequence[str]) -> list[Path]:
    """Folders that the program needs and other users may not enter, such as /root."""
    needed = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, Path.cwd())}
    needed |= {Path(a).resolve() for a in argv if a.startswith("/") and Path(a).exists()}
    folders = {folder for path in needed for folder in (path, *path.parents) if folder.is_dir()}
    return sorted(folder for folder in folders if not folder.stat().st_mode & 0o001)


def _supervise(command: Sequence[str], argv: Sequence[str], timeout: float) -> Finished:
    ours = _namespace("self")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with _held_namespace(process, ours) as theirs:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException as error:
            process.kill()
            _end_processes(theirs, ours, grace=0)
            stdout, stderr = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise subprocess.TimeoutExpired(argv, timeout, stdout, stderr) from None
        result = Finished(list(argv), process.returncode, stdout, stderr)
        result.survivors = _end_processes(theirs, ours, grace=2)
    return result


@contextmanager
def _held_namespace(process: subprocess.Popen[str], ours: str) -> Iterator[str]:
    """The mount namespace of a process, by which its descendants are told from all others.

    It is held open: the number of one that is gone is given to the next, and with it another
    run's processes would be taken for this one's.
    """
    theirs, handle = ours, -1
    try:
        while theirs == ours and process.poll() is None:
            if handle >= 0:
                os.close(handle)
                time.sleep(0.001)
            try:
                handle = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                theirs = str(Path(f"/proc/self/fd/{handle}").readlink())
            except OSError:  # It ended, and left nothing that could be told to be its own.
                handle, theirs = -1, ""
        yield theirs
    finally:
        if handle >= 0:
            os.close(handle)


def _end_processes(namespace: str, ours: str, grace: float) -> tuple[str, ...]:
    """End what runs in the namespace; the command lines of what was still there after `grace`.

    SIGTERM comes first, so that an X server takes its lock and socket in the real /tmp with it.
    """
    if namespace in (ours, ""):
        return ()
    end = time.monotonic() + grace
    while (members := _members(namespace)) and time.monotonic() < end:
        time.sleep(0.02)
    survivors = tuple(map(_command_line, members))
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + patience
        for pid in _members(namespace):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while _members(namespace) and time.monotonic() < end:
            time.sleep(0.01)
    return survivors


def _members(namespace: str) -> list[int]:
    pids = (path.name for path in Path("/proc").iterdir() if path.name.isdigit())
    return [int(pid) for pid in pids if _namespace(pid) == namespace]


def _namespace(pid: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:  # gone, a zombie, or somebody else's
        return ""


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
