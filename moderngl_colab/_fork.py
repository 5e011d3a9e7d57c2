"""What a process inherits of the one that it was forked from, and cannot use.

NVIDIA's driver hangs in a child that is forked after it was used (moderngl/moderngl#414). Mesa's
rasteriser draws by threads, and those do not come along: its displays are of no use there, and a
fresh instance of Mesa is needed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable

from moderngl_colab import _files

__all__ = ["driver_lost", "in_child", "mesa_lost", "note_driver"]

_GPU = "/dev/nvidia"
_MESA = (b"/libEGL_mesa.so", b"/libGLX_mesa.so")
_DRIVER = (b"/libEGL_nvidia.so", b"/libGLX_nvidia.so", b"/libcuda.so")
_NOT_EXECUTED = 0x40  # PF_FORKNOEXEC of the kernel's sched.h, shown by proc_pid_stat(5)


class _State:
    used = False
    """Whether this process made a context of NVIDIA's driver."""
    forked = False
    """Whether it was forked since it has this module."""
    driver = False
    """Whether one that it was forked from did."""
    mesa: bool | None = None
    """Whether Mesa was loaded in one that it was forked from; None until somebody asks."""


def note_driver() -> None:
    """Keep in mind that this process uses NVIDIA's driver."""
    _State.used = True


def driver_lost() -> bool:
    """Whether the driver was used, by OpenGL or by CUDA, before this process was forked."""
    if _State.driver:
        return True
    # It knows by itself; a process that did not import it has not used CUDA by it.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return bool(getattr(cuda, "_is_in_bad_fork", bool)())


def mesa_lost() -> bool:
    """Whether Mesa was loaded before this process was forked, and its threads are not here.

    The kernel is asked, for a process that was forked before it imported this library is one, too.
    """
    if _State.mesa is None:
        forked = sys.platform == "linux" and (_State.forked or _came_forked())
        _State.mesa = forked and _threadless_mesa()
    return _State.mesa


def in_child(function: Callable[[], object]) -> None:
    """Have a function called in every child that is forked.

    It must not load a library: the loader ends a child that was forked while another thread did.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=function)


def _forked() -> None:
    _State.driver |= _State.used or _gpu_is_open()
    _State.used, _State.mesa, _State.forked = False, None, True


def _came_forked() -> bool:
    """Whether this process was forked, and runs what its parent ran."""
    _, _, fields = _files.read_text("/proc/self/stat").rpartition(")")
    flags = fields.split()[6:7]
    return bool(flags) and bool(int(flags[0]) & _NOT_EXECUTED)


def _threadless_mesa() -> bool:
    """Whether Mesa is loaded, and none of its threads is here."""
    names = (f"/proc/self/task/{task}/comm" for task in _files.names("/proc/self/task"))
    return _is_mapped(_MESA) and not any(
        _files.read_text(name).startswith("llvmpipe-") for name in names
    )


def _gpu_is_open() -> bool:
    """Whether somebody else used the driver: contexts of this library are not the only ones."""
    # NVML keeps a GPU open, too, and a child is none the worse for it.
    return bool(_open_gpus("self")) and _is_mapped(_DRIVER)


def _came_with_driver() -> bool:
    """Whether this process was forked, before it had this module, from one that uses the driver."""
    ours = _open_gpus("self") if _came_forked() and _is_mapped(_DRIVER) else set()
    return bool(ours and ours & _open_gpus(str(os.getppid())))


def _open_gpus(process: str) -> set[tuple[str, str]]:
    """The GPUs that a process has open, each with its descriptor."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            link = f"/proc/{process}/fd/{name}"
            with contextlib.suppress(OSError):
                # To read a link takes far longer, and most of many descriptors are sockets.
                if stat.S_ISSOCK(os.stat(link).st_mode):
                    continue
                path = os.readlink(link)
                if path.startswith(_GPU) and path.removeprefix(_GPU).isdecimal():
                    found.add((name, path))
    return found


def _is_mapped(libraries: tuple[bytes, ...]) -> bool:
    # Not by asking the loader: it ends a child that was forked while another thread asked it.
    maps = _files.read("/proc/self/maps")
    return any(library in maps for library in libraries)


_State.driver = sys.platform == "linux" and _came_with_driver()
in_child(_forked)
