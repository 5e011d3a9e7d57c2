"""The ways to the GPU that other programs have: which halves of the driver serve them, and how.

A program that starts now finds libraries by the loader alone; nobody opens them for it by path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from moderngl_colab import _glvnd, _loader, _x11
from moderngl_colab.errors import GPUContextError
from moderngl_colab.findings import dispatch, display, userland
from moderngl_colab.findings.finding import Finding
from moderngl_colab.machine import Machine

__all__ = ["Ways", "refused", "tell"]


class Ways(NamedTuple):
    """What serves other programs on a machine: the driver's halves, and libglvnd before them."""

    path: list[str]
    """The directories that ``LD_LIBRARY_PATH`` has to name before those that it names."""
    egl_half: bool
    """Whether a program's libEGL could load NVIDIA's EGL."""
    glx_half: bool
    """Whether a program's libGLX could load NVIDIA's GLX, and shall."""
    egl: bool
    """Whether EGL leads to the GPU."""
    glx: bool
    """Whether GLX does, on a display."""
    notes: tuple[str, ...]
    """What is not as one might think, each one line."""


def tell(machine: Machine) -> Ways:
    """Tell what serves.

    Raises:
        GPUContextError: nothing does.
    """
    chosen_glx = dispatch.glx_override(machine)
    of_egl, of_glx = (
        userland.obstacle(machine, "EGL"),
        chosen_glx or userland.obstacle(machine, "GLX"),
    )
    path = list(dict.fromkeys(map(os.path.dirname, _not_found(machine, []))))
    missed = set(_not_found(machine, path))
    needed = set(machine.userland.siblings.values())
    egl_half = of_egl is None and not missed & needed
    glx_half = of_glx is None and not missed & {*needed, machine.userland.libraries["GLX"]}
    if not egl_half and not glx_half:
        known = of_egl if of_glx is not None else None
        raise refused(known or _not_to_be_found(missed))
    override = _override(machine) if egl_half else None
    has_egl, has_gl = _finds(machine, "libEGL.so.1"), _finds(machine, "libGL.so.1")
    egl, glx = egl_half and has_egl and override is None, glx_half and has_gl
    screen = machine.environ.get("DISPLAY")
    if not egl and not glx:
        raise refused((override if has_egl else None) or _no_dispatch(machine))
    if not egl and machine.xvfb is None and (not screen or _x11.unusable(screen)):
        raise refused(override or display.without_xvfb(machine))
    notes = []
    if override is not None:
        notes.append(f"programs that use EGL are left to your own choice: {override.summary}")
    if screen and not glx_half and chosen_glx is None:
        why = _not_to_be_found(missed) if of_glx is None else of_glx.summary
        notes.append(f"programs that use GLX are not on the GPU here: {why}")
    return Ways(path, egl_half, glx_half, egl, glx, tuple(notes))


def refused(why: Finding | str) -> GPUContextError:
    """The error that nothing leads to the GPU; of a finding, with its remedy."""
    headline = "no OpenGL program can get the GPU here: "
    if isinstance(why, str):
        return GPUContextError(f"{headline}{why}")
    return GPUContextError(f"{headline}{why.summary}\n  fix: {why.remedy}")


def _override(machine: Machine) -> Finding | None:
    """The user's own choice of EGL vendors, where NVIDIA's cannot be had by it."""
    if _glvnd.user_choice(machine.environ) is None:
        return None
    # A name without a slash is looked for where LD_LIBRARY_PATH will lead to.
    for vendor in machine.vendors:
        if vendor.is_nvidia and (vendor.found or "/" not in str(vendor.library)):
            return None
    return dispatch.icd_override(machine) or dispatch.icd_broken(machine)


def _finds(machine: Machine, name: str) -> bool:
    """Whether programs find a library of libglvnd's, or those of this Python do: conda's is its."""
    own = os.path.join(sys.prefix, "lib", name)
    return _loader.where(name, machine.environ) is not None or _loader.loadable(own)


def _no_dispatch(machine: Machine) -> Finding:
    names = [name for name in ("libEGL.so.1", "libGL.so.1") if not _finds(machine, name)]
    text = f"the loader finds no {' and no '.join(names)}"
    return dispatch.unopened(machine, text)._replace(summary=text)


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


def _not_to_be_found(missed: set[str]) -> str:
    # Such as a directory with a colon in its name, or one with two versions of the driver.
    return f"no LD_LIBRARY_PATH lets the loader find {' and '.join(sorted(missed))}"
