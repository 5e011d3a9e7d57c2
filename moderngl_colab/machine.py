"""What is on this machine: every fact that findings are told by, gathered once.

:func:`look` reads files, ``/proc``, ``/dev`` and the environment, in a few milliseconds, and starts
nothing. What only the doctor asks for, in a process of its own, is in :class:`Examined` and
:class:`Trial`. A record that was made by hand serves as well as one that was gathered.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moderngl_colab import _driver, _files, _glvnd, _handle, _kernel, _loader, _nvml, _process
from moderngl_colab.errors import Outcome

__all__ = ["EGLDevice", "Examined", "Machine", "Trial", "Vendor", "glance", "look"]

_RELEVANT = re.compile(
    r"_{0,2}(EGL|GL|GLX|NV|VK)_|LIBGL|MESA|GALLIUM|LP_|DRI_|GLCONTEXT_|MODERNGL|PYOPENGL|PYGLET_"
    r"|MUJOCO_|VTK_|NVIDIA_|CUDA_|LD_|DISPLAY$|WAYLAND_DISPLAY$|CONDA_PREFIX$|force_gl_"
    # The platform's signs.
    r"|COLAB_RELEASE_TAG$|KAGGLE_KERNEL_RUN_TYPE$|KUBERNETES_SERVICE_HOST$|SLURM_JOB_ID$"
)
# The sandbox has had this line since it was written, whatever the host's kernel is.
_GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"


class Vendor(NamedTuple):
    """One of the ICDs that libglvnd reads."""

    path: str
    waits: bool
    """Whether libglvnd may wait for ever for it: it is a FIFO, a device, or endless."""
    library: str | None
    """What it names, by name or by path; None where it is no ICD at all."""
    found: str | None
    """Where the loader finds that library; None where it does not."""

    @property
    def is_nvidia(self) -> bool:
        """Whether it names NVIDIA's vendor library."""
        return self.library is not None and "libEGL_nvidia.so" in self.library


class EGLDevice(NamedTuple):
    """A device as libEGL lists it."""

    number: int
    is_nvidia: bool
    cuda: int | None = None
    """The ordinal that CUDA gives it in this process; None where it says none."""
    uuid: str | None = None
    """As NVML writes it, ``"GPU-..."``."""
    render_node: str | None = None
    """For instance ``"/dev/dri/renderD128"``."""


class Examined(NamedTuple):
    """What a process of its own found out by opening libraries and asking them."""

    opened: Mapping[str, str | None] = {}
    """The libraries that were opened, with the loader's error; None where it had none."""
    mapped: Mapping[str, str] = {}
    """Of libraries that were opened by name, the file that the loader took."""
    nvml: _nvml.Answer | None = None
    devices: tuple[EGLDevice, ...] | None = None
    unfinished: str | None = None
    """The question at which that process crashed or hung."""
    stderr: tuple[str, ...] = ()
    """What the libraries said on stderr, line by line."""
    glibcxx: Mapping[str, str] = {}
    """The newest version of libstdc++ that a file names: Mesa's drivers need it, libstdc++ has
    it."""
    stubs: Mapping[str, str] = {}
    """Installed packages of the driver whose version is not the one that their name promises."""
    packages: Mapping[str, str] = {}
    """Packages with the OpenGL half of the driver that can be installed, with their versions."""


class Trial(NamedTuple):
    """What became of one strategy, tried for real in a process of its own."""

    strategy: str
    outcome: Outcome
    reason: str
    """What was observed, in one sentence."""
    remedy: str | None = None
    cause: str | None = None
    seconds: float = 0.0
    vendor: str = ""
    """GL_VENDOR, empty where there was no context; so are the next two."""
    renderer: str = ""
    version: str = ""
    software: bool = False
    """Whether it renders on the CPU."""
    egl_device: int | None = None
    pixels: bool = False
    """Whether the picture came out as it must, pixel by pixel."""
    signal: int | None = None
    """The signal that ended the process."""
    timed_out: bool = False
    """Whether it did not end in time, and was ended."""
    stderr: tuple[str, ...] = ()
    """What driver and server said on stderr, line by line."""

    @property
    def on_gpu(self) -> bool:
        """Whether pixels prove that it renders on a GPU."""
        return self.pixels and not self.software


class Machine(NamedTuple):
    """A machine, as one process sees it."""

    system: str = "linux"
    """``sys.platform``."""
    distribution: str = ""
    """Its name and version."""
    installer: str | None = None
    """What installs the system's packages: ``"apt-get"``, ``"dnf"`` or None."""
    platform: str = "host"
    """What the wording of remedies goes by: ``"colab"``, ``"docker"`` and the like."""
    gvisor: bool = False
    jetson: bool = False
    conda: bool = False
    """Whether this Python is conda's."""
    is_root: bool = True
    privileged: bool = False
    """Whether real and effective ids differ."""
    module: _kernel.KernelModule | None = None
    nodes: tuple[_kernel.Node, ...] = ()
    copies: tuple[_driver.Copy, ...] = ()
    """Every copy of NVIDIA's vendor libraries."""
    userland: _driver.Userland = _driver.NONE
    """The copy that is used."""
    loader: Mapping[str, str] = {}
    """NVIDIA's libraries that the loader of a fresh process finds by name, with their paths; for
    a file of :attr:`userland`, the path that it has there."""
    vendors: tuple[Vendor, ...] = ()
    environ: Mapping[str, str] = {}
    """The variables that matter to GL, and no others."""
    xvfb: str | None = None
    """Where the program is."""
    late: bool = False
    """Whether this process had libEGL read its vendors before, without NVIDIA among them."""
    forked: bool = False
    """Whether a context was made before this process was forked."""
    elsewhere: bool = False
    """Whether contexts made here belong to another thread, and none to this one."""
    examined: Examined | None = None
    """None where nobody asked."""
    trials: tuple[Trial, ...] = ()

    @property
    def control(self) -> _kernel.Node | None:
        """The node without which the driver can open no GPU, ``/dev/nvidiactl``."""
        return next((node for node in self.nodes if node.path.endswith("/nvidiactl")), None)

    @property
    def gpus(self) -> tuple[_kernel.Node, ...]:
        """The device nodes of GPUs; none without :attr:`control`."""
        return tuple(node for node in self.nodes if node.is_gpu and self.control is not None)

    def trial(self, strategy: str) -> Trial | None:
        """What became of a strategy; None where it was not tried."""
        return next((trial for trial in self.trials if trial.strategy == strategy), None)

    @property
    def on_gpu(self) -> bool:
        """Whether pixels prove that a GPU can be reached here."""
        return any(trial.on_gpu for trial in self.trials)


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
        conda=os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
        is_root=os.geteuid() == 0,
        privileged=not _process.may_steer_loader(),
        module=_kernel.module(root),
        nodes=_kernel.nodes(root),
        environ={name: value for name, value in environ.items() if _RELEVANT.match(name)},
    )


def look(environ: Mapping[str, str] = os.environ, root: str = "/") -> Machine:
    """See what is on this machine. No library is opened, no process started.

    Arguments:
        environ: the environment that counts.
        root: the directory that stands for ``/``.
    """
    version = _files.read_text(os.path.join(root, "proc/version"))
    return glance(environ, root)._replace(
        gvisor=_GVISOR in version,
        copies=_driver.copies(environ, root),
        userland=_driver.find(environ, root),
        loader=dict(_found_by_loader(environ, root)),
        vendors=tuple(_vendor(icd, environ, root) for icd in _glvnd.icds(environ=environ)),
        xvfb=shutil.which("Xvfb", path=environ.get("PATH")),
        late=_late(),
        forked=_handle.made_before_fork(),
        elsewhere=_handle.made_elsewhere(),
    )


def _found_by_loader(environ: Mapping[str, str], root: str) -> Iterator[tuple[str, str]]:
    userland = _driver.find(environ, root)
    wanted = {f"lib{name}_nvidia.so.0": "" for name in _driver.VENDOR_LIBRARIES}
    wanted |= {f"lib{name}_nvidia.so.0": path for name, path in userland.libraries.items()}
    wanted |= {os.path.basename(path): path for path in userland.siblings.values()}
    for name, path in wanted.items():
        if (found := _loader.where(name, environ, root)) is not None:
            same = os.path.realpath(found) == os.path.realpath(path)
            yield name, path if same else found


def _vendor(icd: _glvnd.ICD, environ: Mapping[str, str], root: str) -> Vendor:
    library = None if icd.waits else _glvnd.library_of(icd)
    if library is None:
        return Vendor(icd.path, icd.waits, None, None)
    if "/" in library:
        return Vendor(icd.path, icd.waits, library, _files.first_there([library]))
    return Vendor(icd.path, icd.waits, library, _loader.where(library, environ, root))


def _late() -> bool:
    """Whether libEGL is mapped with other vendors than NVIDIA's."""
    maps = _files.read("/proc/self/maps")
    return b"/libEGL.so.1" in maps and b"/libEGL_mesa.so" in maps and b"libEGL_nvidia" not in maps


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
        "kaggle": "KAGGLE_KERNEL_RUN_TYPE" in environ,
        "colab": "COLAB_RELEASE_TAG" in environ,
        "kubernetes": "KUBERNETES_SERVICE_HOST" in environ,
        "apptainer": there(".singularity.d"),
        "docker": there(".dockerenv", "run/.containerenv"),
        "slurm": "SLURM_JOB_ID" in environ,
    }
    return next((name for name, found in signs.items() if found), "host")
