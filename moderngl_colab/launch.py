"""The GPU for other programs: the variables with which a process that starts now gets it.

What :func:`moderngl_colab.get_gpu_context` mends within its own process, these mend for any
program that uses libglvnd: the vendors that are loaded, and where the loader looks for them.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from moderngl_colab import _cache, _glvnd, _loader
from moderngl_colab.errors import GPUContextError
from moderngl_colab.findings import dispatch, display, userland
from moderngl_colab.findings.every import blocking
from moderngl_colab.findings.finding import Finding
from moderngl_colab.machine import Machine
from moderngl_colab.survey import look

__all__ = ["Prepared", "prepare", "prepare_environment"]

_GLX_VARIABLE = dispatch.GLX_VARIABLE
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

    variables: dict[str, str]
    egl: bool
    """Whether EGL leads to the GPU."""
    glx: bool
    """Whether GLX does, on any display."""
    xvfb: bool
    """Whether the program has no display, and Xvfb can give it one."""


def prepare_environment(device: int | None = None) -> dict[str, str]:
    """The variables with which any OpenGL program in a child process gets the GPU.

    ::

        subprocess.run(command, env={**os.environ, **moderngl_colab.prepare_environment()})

    Nothing is changed in this process; no library is opened, and no context is made. Where EGL
    serves, an ICD is written to ``$XDG_CACHE_HOME/moderngl_colab`` (``~/.cache``), once. It names
    NVIDIA's vendor library alone, so that no program is on the CPU without a word. A choice of
    vendors by the user stays as it is.

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
    return prepare(device).variables


def prepare(device: int | None = None) -> Prepared:
    """As :func:`prepare_environment`, with the ways to the GPU that it opens."""
    if device is not None:
        device = _integer(device)
    machine = look()
    if (known := blocking(machine)) is not None:
        raise _refused(known)
    of_egl, of_glx = _obstacle(machine, "EGL"), _obstacle_of_glx(machine)
    if of_egl is None and (override := _override(machine)) is not None:
        raise _refused(override)
    path = _library_path(machine)
    missed = set(_not_found(machine, path))
    needed = set(machine.userland.siblings.values())
    egl = of_egl is None and not missed & needed
    glx = of_glx is None and not missed & {*needed, machine.userland.libraries["GLX"]}
    xvfb = machine.xvfb is not None and not machine.environ.get("DISPLAY")
    if not egl:
        if not glx:
            raise _refused(of_egl if of_glx is not None else None, missed)
        if not xvfb and not machine.environ.get("DISPLAY"):
            raise _refused(display.no_xvfb(machine))
    _check(device, machine, egl)
    variables = _variables(machine, egl, glx)
    if path:
        before = machine.environ.get(_loader.PATH_VARIABLE)
        variables[_loader.PATH_VARIABLE] = ":".join([*path, before] if before else path)
    if device is not None:
        variables |= dict.fromkeys(_OF_DEVICE, str(device))
        # VTK takes X where it can, and GLX cannot choose.
        variables["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    return Prepared(variables, egl, glx, xvfb)


def _variables(machine: Machine, egl: bool, glx: bool) -> dict[str, str]:
    variables = {}
    if _glvnd.user_choice(machine.environ) is None:
        # Where GLX alone serves, no vendor at all: a program that uses EGL shall not be on the CPU.
        icd = _cache.icd(machine.userland.libraries["EGL"]) if egl else os.devnull
        variables[_glvnd.FILENAMES_VARIABLE] = icd
    if glx:
        variables[_GLX_VARIABLE] = "nvidia"
    if "MUJOCO_GL" not in machine.environ:
        # It sets PYOPENGL_PLATFORM by this.
        by_egl = egl and (machine.conda or _loader.where("libEGL.so.1", machine.environ))
        variables["MUJOCO_GL"] = "egl" if by_egl or not glx else "glfw"
    return variables


def _override(machine: Machine) -> Finding | None:
    """The user's own choice of EGL vendors, where NVIDIA's cannot be had by it."""
    if _glvnd.user_choice(machine.environ) is None:
        return None
    # A name without a slash is looked for where LD_LIBRARY_PATH will lead to.
    for vendor in machine.vendors:
        if vendor.is_nvidia and (vendor.found or "/" not in str(vendor.library)):
            return None
    return dispatch.icd_override(machine) or dispatch.icd_broken(machine)


def _obstacle_of_glx(machine: Machine) -> Finding | None:
    if machine.environ.get(_GLX_VARIABLE, "nvidia") != "nvidia":
        return dispatch.overridden(machine, _GLX_VARIABLE)
    return _obstacle(machine, "GLX")


def _obstacle(machine: Machine, library: userland.Library) -> Finding | None:
    return (
        userland.userland_absent(machine, library)
        or userland.userland_mismatch(machine, library)
        or userland.userland_partial(machine, library)
    )


def _library_path(machine: Machine) -> list[str]:
    """The directories without which a fresh process's loader does not find this userland."""
    return list(dict.fromkeys(map(os.path.dirname, _not_found(machine, []))))


def _not_found(machine: Machine, path: list[str]) -> Iterator[str]:
    """The files of this userland for which the loader finds none, or others."""
    before = machine.environ.get(_loader.PATH_VARIABLE, "")
    environ = {_loader.PATH_VARIABLE: ":".join([*path, before])}
    # The file of a vendor library may bear the driver's version; it is asked for by this name.
    files = {file: f"lib{name}_nvidia.so.0" for name, file in machine.userland.libraries.items()}
    files |= {file: os.path.basename(file) for file in machine.userland.siblings.values()}
    for file, name in files.items():
        found = _loader.where(name, environ)
        if found is None or os.path.realpath(found) != os.path.realpath(file):
            yield file


def _integer(device: Any) -> int:
    if isinstance(device, bool) or not hasattr(device, "__index__"):
        raise TypeError(f"device={device!r}: an int is needed")
    return operator.index(device)


def _check(device: int | None, machine: Machine, egl: bool) -> None:
    if device is None:
        return
    count = len(machine.gpus)
    if not 0 <= device < count:
        there_are = "1, of index 0" if count == 1 else f"{count}, of index 0 to {count - 1}"
        raise ValueError(f"device={device}: of NVIDIA GPUs there are {there_are}")
    if not egl:
        raise GPUContextError(
            f"device={device} names an EGL device, and here only GLX serves, which chooses its own"
            "\n  fix: leave the device out"
        )


def _refused(finding: Finding | None, missed: set[str] | None = None) -> GPUContextError:
    headline = "no OpenGL program can get the GPU here: "
    if finding is None:
        # Such as a directory with a colon in its name, or one with two versions of the driver.
        files = " and ".join(sorted(missed or ()))
        return GPUContextError(f"{headline}no LD_LIBRARY_PATH lets the loader find {files}")
    return GPUContextError(f"{headline}{finding.summary}\n  fix: {finding.remedy}")
