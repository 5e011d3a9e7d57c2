"""The GPU for other programs: the variables with which a process that starts now gets it.

What :func:`moderngl_colab.get_gpu_context` mends within its own process, these mend for any
program that uses libglvnd: the vendors that are loaded, where the loader looks for them, and which
of several GPUs is taken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moderngl_colab import _cache, _cuda, _glvnd, _loader, _x11, remedies
from moderngl_colab.devices import named
from moderngl_colab.errors import GPUContextError
from moderngl_colab.findings import dispatch, hardware, userland
from moderngl_colab.findings.every import blocking
from moderngl_colab.machine import Machine
from moderngl_colab.options import DEVICE_VARIABLE, named_device, refuse_foreign_systems
from moderngl_colab.survey import look
from moderngl_colab.ways import Ways, refused, tell

if TYPE_CHECKING:
    from moderngl_colab.diagnostics.choice import Choice

__all__ = ["Prepared", "prepare", "prepare_environment"]

# Read in VTK 9.7 (vtkEGLRenderWindow), pyglet 2.1 (options) and glcontext 3.0 (its egl backend).
_OF_DEVICE = ("VTK_DEFAULT_EGL_DEVICE_INDEX", "PYGLET_HEADLESS_DEVICE", "GLCONTEXT_DEVICE_INDEX")


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
    certain: bool = False
    """Whether it is to be a certain one of several GPUs, which GLX cannot choose."""
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


def prepare_environment(device: object = None) -> dict[str, str]:
    """The variables with which any OpenGL program in a child process gets the GPU.

    ::

        subprocess.run(command, env={**os.environ, **moderngl_colab.prepare_environment()})

    Nothing is changed in this process; no library is opened, and no context is made. Where EGL
    serves, an ICD is written to ``$XDG_CACHE_HOME/moderngl_colab`` (``~/.cache``), once. It names
    NVIDIA's vendor library alone, so that no program is on the CPU without a word. A choice of
    vendors by the user stays as it is. On WSL2, and on a Jetson without ``/dev/nvidia0``, nothing
    is to be mended, and nothing is set.

    Where there are several GPUs, the variables by which MuJoCo, VTK, pyglet and glcontext choose
    one name the one that ``get_gpu_context(device=...)`` takes; a process of its own is started
    to ask libEGL and NVML which that is. Those that the user has set stay, if neither a device is
    named nor ``CUDA_VISIBLE_DEVICES`` is set.

    Arguments:
        device: as for :func:`moderngl_colab.get_gpu_context`. Default: what
            ``MODERNGL_COLAB_DEVICE`` says, or else the first GPU that this process is given.

    Returns:
        Name to value, for the environment of a child process.

    Raises:
        GPUContextError: no program can get the GPU here; the text says why, and what mends it.
        TypeError: `device` is a bool.
        ValueError: this process has no such GPU, or more than one.
        OSError: the ICD cannot be written.
    """
    return prepare(device).variables()


def prepare(device: object = None, environ: Mapping[str, str] | None = None) -> Prepared:
    """As :func:`prepare_environment`, with the ways to the GPU that it opens; nothing is written.

    Arguments:
        device: as there.
        environ: the environment that the variables are to complete, of an image for instance: of
            its GPUs none is chosen, unless `device` does. Default: this process's.

    Raises:
        GPUContextError: as there.
        TypeError: as there.
        ValueError: as there.
    """
    if sys.platform != "linux":
        refuse_foreign_systems()
    asked = named_device(device, os.environ if environ is None else {})
    machine = look(os.environ if environ is None else environ)
    if (known := blocking(machine)) is not None:
        raise refused(known)
    if not machine.gpus:  # On a Jetson and on WSL2 every program has what it can have.
        if asked is not None:
            raise ValueError(f"device={asked!r}: of NVIDIA's GPUs there are none")
        return Prepared({})
    ways = tell(machine)
    chosen = _glvnd.user_choice(machine.environ) is not None
    vendor = machine.userland.libraries["EGL"] if ways.egl_half else ""
    prepared = Prepared(
        _variables(machine, ways), None if chosen else vendor, ways.egl, ways.glx, notes=ways.notes
    )
    several = sum(not node.error for node in machine.gpus) > 1
    # A UUID may be no GPU's; of numbers a look has told.
    open_question = several or any(isinstance(e, str) for e in _cuda.visible(machine.environ) or ())
    if asked is None and (not open_question or environ is not None):
        return prepared
    return _on_device(prepared, asked, machine, several)


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


def _on_device(prepared: Prepared, asked: str | None, machine: Machine, several: bool) -> Prepared:
    """With the GPU that programs are to take.

    Raises:
        GPUContextError: they cannot be told, and must not choose by themselves.
        ValueError: this process has no such GPU, or more than one.
    """
    certain = several and (asked is not None or _cuda.VISIBLE_VARIABLE in machine.environ)
    if several and not prepared.egl:
        if certain:
            known = userland.obstacle(machine) or dispatch.icd_override(machine)
            fix = remedies.install(machine, "dispatch") if known is None else known.remedy
            raise _unreachable("only GLX serves, which chooses its own", fix, asked)
        return prepared
    from moderngl_colab.diagnostics.choice import choose

    visible = machine.environ.get(_cuda.VISIBLE_VARIABLE)
    choice = choose(asked, visible, prepared.egl, prepared.vendor, machine.userland)
    if choice.impossible is not None:
        raise ValueError(choice.impossible)
    if choice.hidden:
        raise refused(hardware.hidden(machine))
    if choice.unmatched is None:
        names = _names(choice, machine, several and (certain or _without_display(machine)))
        if not certain and asked is None:
            names = {name: names[name] for name in names if name not in machine.environ}
        names = names if asked is None else {DEVICE_VARIABLE: asked} | names
        return prepared._replace(others=prepared.others | names, certain=certain)
    if certain or asked is not None:
        raise _unreachable(choice.unmatched, choice.remedy or remedies.ASK_SMI, asked)
    note = f"programs choose one of several GPUs by themselves: {choice.unmatched}"
    return prepared._replace(notes=(*prepared.notes, note))


def _unreachable(why: str, fix: str, asked: str | None) -> GPUContextError:
    who = f"{_cuda.VISIBLE_VARIABLE} gives" if asked is None else f"{named(asked)} names"
    return refused(f"{who} a certain GPU, and {why}\n  fix: {fix}")


def _names(choice: Choice, machine: Machine, by_egl: bool) -> dict[str, str]:
    """The variables that name a GPU.

    Arguments:
        choice: the GPU.
        machine: where the programs will run.
        by_egl: whether VTK is to use EGL, too: it takes X where it can.
    """
    if choice.number is None:
        return {}
    visible = machine.environ.get(_cuda.VISIBLE_VARIABLE)
    number = _for_mujoco(choice.number, choice.ordinals, visible)
    variables = {"MUJOCO_EGL_DEVICE_ID": str(number)}
    variables |= dict.fromkeys(_OF_DEVICE, str(choice.number))
    return variables | ({"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"} if by_egl else {})


def _without_display(machine: Machine) -> bool:
    name = machine.environ.get("DISPLAY")
    return not name or _x11.unusable(name) is not None


def _for_mujoco(index: int, ordinals: Sequence[int | None], visible: str | None) -> int:
    """What MuJoCo is to be told for an EGL device.

    Before 4.0 that is its place in EGL's list. Since then, it is its place among the GPUs of
    ``CUDA_VISIBLE_DEVICES``, which MuJoCo looks up by CUDA's numbers on the whole machine if the
    driver knows all of them, though these are ordinals of the process; else the ordinal.

    Arguments:
        index: the device's place in EGL's list.
        ordinals: what the devices of the list say of CUDA's ordinals.
        visible: ``CUDA_VISIBLE_DEVICES``.
    """
    known = [ordinal for ordinal in ordinals if ordinal is not None]
    own = ordinals[index]
    if own is None or len(set(known)) < len(known) or _mujoco_is_old():
        return index
    try:
        numbers = [int(entry) for entry in (visible or "").split(",") if entry.strip()]
    except ValueError:
        return own
    if min(numbers, default=0) < 0 or own not in (numbers if set(numbers) <= set(known) else ()):
        return own
    return numbers.index(own)


def _mujoco_is_old() -> bool:
    from importlib import metadata

    try:
        return int(metadata.version("mujoco").partition(".")[0]) < 4
    except (metadata.PackageNotFoundError, ValueError):
        return False
