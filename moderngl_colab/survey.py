"""Looks at the machine: what is on it, told without opening a library or starting a process.

Files, ``/proc``, ``/dev`` and the environment are read, each look bounded; that takes a few
milliseconds. What it takes a process of its own to ask is in
:mod:`moderngl_colab.diagnostics.examine`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

from moderngl_colab import (
    _driver,
    _files,
    _fork,
    _glvnd,
    _handle,
    _kernel,
    _loader,
    _places,
    _process,
)
from moderngl_colab.machine import Machine, Vendor

__all__ = ["glance", "look"]

_RELEVANT = frozenset(
    # libglvnd, the drivers, the loader, the display
    {"__EGL_VENDOR_LIBRARY_DIRS", "__EGL_VENDOR_LIBRARY_FILENAMES", "__GLX_VENDOR_LIBRARY_NAME"}
    | {"__GLX_FORCE_VENDOR_LIBRARY_0", "__NV_PRIME_RENDER_OFFLOAD", "EGL_LOG_LEVEL"}
    | {"EGL_PLATFORM", "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBGL_DRIVERS_PATH", "DISPLAY"}
    | {"LIBGL_ALWAYS_SOFTWARE", "LIBGL_ALWAYS_INDIRECT", "GALLIUM_DRIVER", "WAYLAND_DISPLAY"}
    | {"MESA_LOADER_DRIVER_OVERRIDE", "MESA_GL_VERSION_OVERRIDE", "MESA_D3D12_DEFAULT_ADAPTER_NAME"}
    # GPUs and what a container is given of them
    | {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"}
    | {"NVIDIA_DRIVER_CAPABILITIES"}
    # this library, and others that use GL
    | {"MODERNGL_COLAB_ALLOW_SOFTWARE", "MODERNGL_COLAB_DEVICE", "MODERNGL_COLAB_DRIVER_DIR"}
    | {"MODERNGL_COLAB_PROBE", "MODERNGL_COLAB_STRATEGIES", "MODERNGL_COLAB_TIMEOUT"}
    | {"GLCONTEXT_DEVICE_INDEX", "GLCONTEXT_GLVERSION", "GLCONTEXT_LINUX_LIBEGL"}
    | {"GLCONTEXT_LINUX_LIBGL", "GLCONTEXT_LINUX_LIBX11", "GLCONTEXT_WIN_LIBGL"}
    | {"MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM", "PYGLET_HEADLESS"}
    | {"PYGLET_HEADLESS_DEVICE", "VTK_DEFAULT_EGL_DEVICE_INDEX", "VTK_DEFAULT_OPENGL_WINDOW"}
    # the platform's signs
    | {"COLAB_RELEASE_TAG", "CONDA_PREFIX", "KAGGLE_KERNEL_RUN_TYPE", "KUBERNETES_SERVICE_HOST"}
    | {"SLURM_JOB_ID"}
)
# The sandbox has had this line since it was written, whatever the host's kernel is.
_GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"


def glance(environ: Mapping[str, str] = os.environ, root: str = "/") -> Machine:
    """See the kernel's half of the driver and the platform alone, in a fraction of a millisecond.

    Arguments:
        environ: the environment that counts.
        root: the directory that stands for ``/``.
    """
    release = _release(root)
    return Machine(
        system=sys.platform,
        distribution=release.get("PRETTY_NAME", ""),
        installer=_installer(release),
        platform=_platform(environ, root),
        jetson=os.path.exists(os.path.join(root, "etc/nv_tegra_release")),
        wsl_libraries=os.path.isdir(os.path.join(root, "usr/lib/wsl/lib")),
        d3d12=_d3d12(root),
        conda=os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
        is_root=os.geteuid() == 0,
        privileged=not _process.may_steer_loader(),
        module=_kernel.module(root),
        nodes=_kernel.nodes(root),
        environ={name: value for name, value in environ.items() if name in _RELEVANT},
    )


def look(environ: Mapping[str, str] = os.environ, root: str = "/") -> Machine:
    """See what is on this machine. No library is opened, no process started.

    Arguments:
        environ: the environment that counts.
        root: the directory that stands for ``/``.
    """
    import shutil

    version = _files.read_text(os.path.join(root, "proc/version"))
    userland = _driver.find(environ, root)
    return glance(environ, root)._replace(
        gvisor=_GVISOR in version,
        copies=_driver.copies(environ, root),
        userland=userland,
        exposed=_driver.exposed(environ, root),
        kept=_places.kept(environ),
        uses_kept=any(
            _places.is_kept(os.path.dirname(path), environ) for path in userland.libraries.values()
        ),
        loader=dict(_found_by_loader(userland, environ, root)),
        vendors=tuple(_vendor(icd, environ, root) for icd in _glvnd.icds(environ=environ)),
        xvfb=shutil.which("Xvfb", path=environ.get("PATH")),
        late=_late(),
        forked=_fork.driver_lost(),
        elsewhere=_handle.made_elsewhere(),
    )


def _found_by_loader(
    userland: _driver.Userland, environ: Mapping[str, str], root: str
) -> Iterator[tuple[str, str]]:
    own = [*userland.siblings.values(), *userland.libraries.values()]
    paths = [*(copy.path for copy in _driver.copies(environ, root)), *own]
    known = {os.path.realpath(path): path for path in paths}
    names = [f"lib{name}_nvidia.so.0" for name in _driver.VENDOR_LIBRARIES]
    for name in (*names, *map(os.path.basename, own)):
        if (found := _loader.where(name, environ, root)) is not None:
            yield name, known.get(os.path.realpath(found), found)


def _vendor(icd: _glvnd.ICD, environ: Mapping[str, str], root: str) -> Vendor:
    library = None if icd.waits else _glvnd.library_of(icd)
    if library is None:
        return Vendor(icd.path, icd.waits, None, None)
    if "/" in library:
        found = library if _loader.loadable(library) else None
        return Vendor(icd.path, icd.waits, library, found)
    return Vendor(icd.path, icd.waits, library, _loader.where(library, environ, root))


def _late() -> bool:
    """Whether libEGL is mapped with other vendors than NVIDIA's."""
    maps = _files.read("/proc/self/maps")
    return b"/libEGL.so.1" in maps and b"/libEGL_mesa.so" in maps and b"libEGL_nvidia" not in maps


def _d3d12(root: str) -> bool:
    """Since 24.2 all of Mesa's drivers are in libgallium; before, each was a file in dri."""
    multiarch = f"usr/lib/{os.uname().machine}-linux-gnu"
    folders = [os.path.join(root, folder) for folder in (multiarch, "usr/lib64", "usr/lib")]
    return any(
        os.path.exists(os.path.join(folder, "dri/d3d12_dri.so"))
        or _files.names(folder, "libgallium-")
        for folder in folders
    )


def _release(root: str) -> dict[str, str]:
    """What os-release(5) says."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        if text := _files.read_text(os.path.join(root, name)):
            pairs = (line.partition("=") for line in text.splitlines())
            return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
    return {}


def _installer(release: Mapping[str, str]) -> str | None:
    families = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    if {"debian", "ubuntu"} & set(families):
        return "apt-get"
    return "dnf" if {"fedora", "rhel", "centos"} & set(families) else None


def _platform(environ: Mapping[str, str], root: str) -> str:
    def there(*names: str) -> bool:
        return any(os.path.exists(os.path.join(root, name)) for name in names)

    signs = {
        # Kaggle's image is built on Colab's and sets its variable too.
        "kaggle": bool(environ.get("KAGGLE_KERNEL_RUN_TYPE")),
        "colab": bool(environ.get("COLAB_RELEASE_TAG")),
        # RunPod's and vast.ai's, which name the instance: they are no facts of a report.
        "rented": any(environ.get(name) for name in ("RUNPOD_POD_ID", "VAST_CONTAINERLABEL")),
        "kubernetes": bool(environ.get("KUBERNETES_SERVICE_HOST")),
        "apptainer": there(".singularity.d"),
        "slurm": bool(environ.get("SLURM_JOB_ID")),
        "docker": there(".dockerenv", "run/.containerenv"),
    }
    return next((name for name, found in signs.items() if found), "host")
