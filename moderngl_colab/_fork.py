"""What a process inherits of the one that it was forked from, and cannot use.

NVIDIA's driver hangs in a child that is forked after it was used (moderngl/moderngl#414). Mesa's
rasteriser draws by threads, and those do not come along: its displays are of no use there, and a
fresh instance of Mesa is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Callable

from moderngl_colab import _files

__all__ = ["driver_lost", "in_child", "mesa_lost", "note_driver"]

_GPU = re.compile(r"/dev/nvidia\d+")
_MESA = ("libEGL_mesa.so.0", "libGLX_mesa.so.0")
_NOT_EXECUTED = 0x40  # PF_FORKNOEXEC of the kernel's sched.h, shown by proc_pid_stat(5)


class _State:
    used = False
    """Whether this process made a context of NVIDIA's driver."""
    driver = False
    """Whether one that it was forked from did."""
    mesa = False
    """Whether Mesa was loaded in one that it was forked from."""


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
    """Whether Mesa was loaded before this process was forked."""
    return _State.mesa


def in_child(function: Callable[[], object]) -> None:
    """Have a function called in every child that is forked."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=function)


def _forked() -> None:
    _State.driver |= _State.used or _gpu_is_open()
    _State.used = False
    _State.mesa |= any(map(_is_loaded, _MESA))


def _came_forked() -> bool:
    """Whether this process was forked, before it had this module, from one that drew by Mesa."""
    _, _, fields = _files.read_text("/proc/self/stat").rpartition(")")
    flags = fields.split()[6:7]
    if not flags or not int(flags[0]) & _NOT_EXECUTED or not any(map(_is_loaded, _MESA)):
        return False
    names = (f"/proc/self/task/{task}/comm" for task in _files.names("/proc/self/task"))
    return not any(_files.read_text(name).startswith("llvmpipe-") for name in names)


def _gpu_is_open() -> bool:
    """Whether somebody else used the driver: contexts of this library are not the only ones."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if _GPU.fullmatch(os.readlink(f"/proc/self/fd/{name}")):
                    return True
    return False


def _is_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library, os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


_State.mesa = sys.platform == "linux" and _came_forked()
in_child(_forked)
