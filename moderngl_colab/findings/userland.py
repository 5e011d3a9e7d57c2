"""Causes in the driver's libraries: absent, in part, of another version, where nobody looks."""

from __future__ import annotations

import os
from typing import Literal

from moderngl_colab import _driver, protection, remedies
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "Library",
    "egl_broken",
    "fits",
    "glx_broken",
    "obstacle",
    "path_hidden",
    "two_drivers",
    "unloadable",
    "userland_absent",
    "userland_mismatch",
    "userland_partial",
    "userland_split",
]

Library = Literal["EGL", "GLX"]

_NVML_MISMATCH = 18


def userland_absent(machine: Machine, library: Library = "EGL") -> Finding | None:
    """The kernel's half of the driver is there, and the half that draws is not."""
    if not machine.gpus or library in machine.userland.libraries:
        return None
    if (passed_over := _exposed(machine, f"lib{library}_nvidia.so.")) is not None:
        return passed_over
    there, module = machine.userland.libraries, machine.module
    own = machine.environ.get(_driver.DIRECTORY_VARIABLE)
    kernel = module.version if module else "of unknown version"
    version = f" of version {machine.userland.version}" if there else ""
    also = f", {_driver.DIRECTORY_VARIABLE}={own} among them" if own else ""
    return Finding(
        "userland-partial" if there else "userland-absent",
        Severity.ERROR,
        f"an NVIDIA GPU is there (kernel module {kernel}), but "
        f"lib{library}_nvidia.so.0{version} is in none of the directories searched{also}",
        (*_module(machine), *_copies(machine), *_capabilities(machine)),
        remedies.give_graphics(machine),
    )


def userland_mismatch(machine: Machine, library: Library = "EGL") -> Finding | None:
    """The two halves of the driver are of different versions, and speak different protocols."""
    path, module = machine.userland.libraries.get(library), machine.module
    if not machine.gpus or path is None or module is None:
        return None
    if machine.userland.version in (module.version, None):
        return _nvml_mismatch(machine)
    if (passed_over := _exposed(machine, f"lib{library}_nvidia.so.")) is not None:
        return passed_over
    return Finding(
        "userland-mismatch",
        Severity.ERROR,
        f"NVIDIA's kernel module is {module.version}, but {path} is {machine.userland.version}",
        (*_module(machine), *_copies(machine)),
        remedies.agree(machine),
    )


def _nvml_mismatch(machine: Machine) -> Finding | None:
    nvml = machine.examined.nvml if machine.examined is not None else None
    if nvml is None or nvml.code != _NVML_MISMATCH or machine.on_gpu:
        return None
    version = machine.module.version if machine.module is not None else "of unknown version"
    return Finding(
        "userland-mismatch",
        Severity.ERROR,
        f"kernel module {version} and NVML's library are of different versions",
        (str(nvml), f"NVML: {machine.userland.nvml}", *_module(machine), *_copies(machine)),
        remedies.agree(machine, nvml=machine.userland.version is not None),
    )


def userland_partial(machine: Machine, library: Library = "EGL") -> Finding | None:
    """A vendor library is there without those that it needs; libglvnd passes over it silently."""
    path = machine.userland.libraries.get(library)
    if not machine.gpus or path is None:
        return None
    if not (missing := machine.userland.missing_siblings(library)):
        return None
    if (passed_over := _exposed(machine, *missing)) is not None:
        return passed_over
    return Finding(
        "userland-partial",
        Severity.ERROR,
        f"{path} needs {' and '.join(missing)}, which none of the directories searched has",
        (*_module(machine), *_copies(machine)),
        remedies.give_graphics(machine),
    )


def _exposed(machine: Machine, *names: str) -> Finding | None:
    """A library whose name begins so is there, and is passed over."""
    for path, breach in machine.exposed:
        if os.path.basename(path).startswith(names):
            return Finding(
                "userland-exposed",
                Severity.ERROR,
                f"{path} is passed over, for {breach}: somebody else could replace it, and it is "
                "not where the loader of this process looks",
                tuple(f"{path}: {breach}" for path, breach in machine.exposed),
                protection.protect(machine),
            )
    return None


def unloadable(machine: Machine, error: OSError | str, x11: bool = True) -> Finding:
    """A library of the driver is there, and the loader cannot open it.

    Arguments:
        machine: what was seen.
        error: the loader's own.
        x11: whether X11's libraries, which libGLX_nvidia needs, can be opened.
    """
    if not x11:
        cure = remedies.install(machine, "x11")
    elif machine.uses_kept:
        cure = remedies.install_driver(machine)  # It replaces what was damaged.
    else:
        cure = remedies.give_graphics(machine)
    return Finding(
        "userland-partial",
        Severity.ERROR,
        f"the loader says: {error}",
        (*_module(machine), *_copies(machine)),
        cure,
    )


def egl_broken(machine: Machine) -> Finding | None:
    """libEGL_nvidia, or what it needs, cannot be opened."""
    return _broken(machine, "EGL")


def glx_broken(machine: Machine) -> Finding | None:
    """libGLX_nvidia, or what it needs, cannot be opened."""
    return _broken(machine, "GLX")


def _broken(machine: Machine, library: Library) -> Finding | None:
    opened = machine.examined.opened if machine.examined is not None else {}
    error = opened.get(machine.userland.libraries.get(library, ""))
    if error is None or not machine.gpus:
        return None
    x11 = library == "EGL" or not any(opened.get(name) for name in ("libX11.so.6", "libXext.so.6"))
    return unloadable(machine, error, x11)


def userland_split(machine: Machine) -> Finding | None:
    """The loader finds the vendor library, and not the others that it needs."""
    path = machine.userland.libraries.get("EGL")
    siblings = machine.userland.siblings.values()
    hidden = [sibling for sibling in siblings if os.path.basename(sibling) not in machine.loader]
    if not hidden or path is None or machine.loader.get("libEGL_nvidia.so.0") != path:
        return None
    if not fits(machine) or egl_broken(machine) is not None:
        return None
    return Finding(
        "userland-partial",
        Severity.NOTE,
        f"the loader finds {path}, but not "
        f"{' and '.join(map(os.path.basename, hidden))}; here they are opened by their paths",
        tuple(hidden),
        remedies.other_programs(machine),
    )


def path_hidden(machine: Machine) -> Finding | None:
    """The driver is where the loader of a fresh process does not look."""
    path = machine.userland.libraries.get("EGL") or machine.userland.libraries.get("GLX")
    names = [f"lib{library}_nvidia.so.0" for library in machine.userland.libraries]
    if path is None or any(name in machine.loader for name in names) or not fits(machine):
        return None
    if (egl_broken(machine) or glx_broken(machine)) is not None:  # Nor is it opened by its path.
        return None
    return Finding(
        "path-hidden",
        Severity.NOTE,
        f"the driver is in {os.path.dirname(path)}, where the loader does not look; here it is "
        "opened by its path",
        (f"LD_LIBRARY_PATH: {machine.environ.get('LD_LIBRARY_PATH', 'not set')}",),
        remedies.other_programs(machine),
    )


def two_drivers(machine: Machine) -> Finding | None:
    """The loader finds another copy of the driver than the one that is used."""
    if machine.module is None or machine.userland.version != machine.module.version:
        return None
    versions = {copy.path: copy.version for copy in machine.copies}
    for library, path in machine.userland.libraries.items():
        other = machine.loader.get(f"lib{library}_nvidia.so.0", path)
        if other != path and fits(machine):
            same = versions.get(other) == machine.userland.version
            used = (
                f"and what is used here is {path}, of the same version"
                if same
                else f"but what fits kernel module {machine.module.version} is {path}; here that "
                "one is used"
            )
            return Finding(
                "two-drivers",
                Severity.NOTE,
                f"the loader finds {other}, {used}",
                _copies(machine),
                remedies.other_programs(machine),
            )
    return None


def obstacle(machine: Machine, library: Library = "EGL") -> Finding | None:
    """What is wrong with a half of the driver, as far as looking tells."""
    return (
        userland_absent(machine, library)
        or userland_mismatch(machine, library)
        or userland_partial(machine, library)
    )


def fits(machine: Machine) -> bool:
    """Whether a userland is there that can serve; what keeps others from it is mended here."""
    return bool(machine.gpus) and obstacle(machine) is None


def _module(machine: Machine) -> tuple[str, ...]:
    return () if machine.module is None else (f"{machine.module.path}: {machine.module.version}",)


def _copies(machine: Machine) -> tuple[str, ...]:
    return tuple(f"{copy.path}: {copy.version or 'of no version'}" for copy in machine.copies)


def _capabilities(machine: Machine) -> tuple[str, ...]:
    name = "NVIDIA_DRIVER_CAPABILITIES"
    return (f"{name}: {machine.environ[name]}",) if name in machine.environ else ()
