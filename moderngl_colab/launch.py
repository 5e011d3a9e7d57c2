"""The GPU for other programs: the variables with which a process that starts now gets it.

What :func:`moderngl_colab.get_gpu_context` mends within its own process, these mend for any
program that uses libglvnd: the vendors that are loaded, and where the loader looks for them.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from moderngl_colab import _cache, _glvnd, _loader
from moderngl_colab.errors import GPUContextError
from moderngl_colab.findings.every import blocking
from moderngl_colab.machine import Machine
from moderngl_colab.survey import look
from moderngl_colab.ways import Ways, refused, tell

__all__ = ["Prepared", "prepare", "prepare_environment"]

# Read in MuJoCo 4.0 (mujoco/egl), VTK 9.7 (vtkEGLRenderWindow), pyglet 2.1 (options) and
# glcontext 3.0 (its egl backend).
_OF_DEVICE = (
    "MUJOCO_EGL_DEVICE_ID",
    "VTK_DEFAULT_EGL_DEVICE_INDEX",
    "PYGLET_HEADLESS_DEVICE",
    "GLCONTEXT_DEVICE_INDEX",
)


class Prepared(NamedTuple):
    """What a program is to be started with."""

    others: dict[str, str]
    """The variables, without the one that names EGL's vendors."""
    vendor: str | None = None
    """The vendor library that EGL is to load, and no other; empty where it shall load none; None
    where that is as the user, or the system, has it."""
    egl: bool = True
    """Whether EGL leads to the GPU."""
    glx: bool = False
    """Whether NVIDIA's GLX does, on a display that is there or that is given to the program."""
    notes: tuple[str, ...] = ()
    """What the user is to be told, each one line."""

    def variables(self) -> dict[str, str]:
        """All of them. An ICD is written, if it is not there.

        Raises:
            OSError: it cannot be written.
        """
        if self.vendor is None:
            return self.others
        icd = _cache.icd(self.vendor) if self.vendor else os.devnull
        return {_glvnd.FILENAMES_VARIABLE: icd, **self.others}


def prepare_environment(device: int | None = None) -> dict[str, str]:
    """The variables with which any OpenGL program in a child process gets the GPU.

    ::

        subprocess.run(command, env={**os.environ, **moderngl_colab.prepare_environment()})

    Nothing is changed in this process; no library is opened, and no context is made. Where EGL
    serves, an ICD is written to ``$XDG_CACHE_HOME/moderngl_colab`` (``~/.cache``), once. It names
    NVIDIA's vendor library alone, so that no program is on the CPU without a word. A choice of
    vendors by the user stays as it is. On WSL2, and on a Jetson without ``/dev/nvidia0``, nothing
    is to be mended, and nothing is set.

    Arguments:
        device: which of NVIDIA's EGL devices MuJoCo, VTK, pyglet and glcontext take, from 0;
            without it they choose. Where EGL's order is not CUDA's, MuJoCo takes the number for
            CUDA's (google-deepmind/mujoco#3245).

    Returns:
        Name to value, for the environment of a child process.

    Raises:
        GPUContextError: no program can get the GPU here; the text says why, and what mends it.
        TypeError: `device` is no integer.
        ValueError: there is no such device.
        OSError: the ICD cannot be written.
    """
    return prepare(device).variables()


def prepare(device: int | None = None, environ: Mapping[str, str] | None = None) -> Prepared:
    """As :func:`prepare_environment`, with the ways to the GPU that it opens; nothing is written.

    Arguments:
        device: as there.
        environ: the environment that the variables are to complete. Default: this process's.

    Raises:
        GPUContextError: as there.
        TypeError: as there.
        ValueError: as there.
    """
    if sys.platform != "linux":
        from moderngl_colab.options import refuse_foreign_systems

        refuse_foreign_systems()
    if device is not None:
        device = _integer(device)
    machine = look(os.environ if environ is None else environ)
    known = blocking(machine)
    # Who names a device has chosen, whatever CUDA's variable says.
    if known is not None and (device is None or known.code != "gpu-hidden"):
        raise refused(known)
    _check(device, machine)
    if not machine.gpus:  # On a Jetson and on WSL2 every program has what it can have.
        return Prepared({})
    ways = tell(machine)
    if device is not None and not ways.egl:
        raise GPUContextError(
            f"device={device} names an EGL device, and here only GLX serves, which chooses its own"
            "\n  fix: leave the device out"
        )
    variables = _variables(machine, ways)
    if device is not None:
        variables |= dict.fromkeys(_OF_DEVICE, str(device))
        # VTK takes X where it can, and GLX cannot choose.
        variables["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    chosen = _glvnd.user_choice(machine.environ) is not None
    vendor = machine.userland.libraries["EGL"] if ways.egl_half else ""
    return Prepared(variables, None if chosen else vendor, ways.egl, ways.glx, ways.notes)


def _variables(machine: Machine, ways: Ways) -> dict[str, str]:
    variables = {}
    if ways.glx_half:
        variables[_glvnd.GLX_VARIABLE] = "nvidia"
    if "MUJOCO_GL" not in machine.environ:
        # It sets PYOPENGL_PLATFORM by this.
        variables["MUJOCO_GL"] = "egl" if ways.egl or not ways.glx else "glfw"
    if ways.path:
        before = machine.environ.get(_loader.PATH_VARIABLE)
        variables[_loader.PATH_VARIABLE] = ":".join([*ways.path, *([before] if before else [])])
    return variables


def _integer(device: Any) -> int:
    if isinstance(device, bool) or not hasattr(device, "__index__"):
        raise TypeError(f"device={device!r}: an int is needed")
    return operator.index(device)


def _check(device: int | None, machine: Machine) -> None:
    count = len(machine.gpus)
    if device is not None and not 0 <= device < count:
        numbers = {0: "none", 1: "1, of index 0"}
        there_are = numbers.get(count, f"{count}, of index 0 to {count - 1}")
        raise ValueError(f"device={device}: of NVIDIA GPUs there are {there_are}")
