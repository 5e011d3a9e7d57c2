"""What is known of a machine: every fact that findings are told by, as plain records.

:mod:`moderngl_colab.survey` gathers them. One that was made by hand serves as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from moderngl_colab import _driver, _kernel

if TYPE_CHECKING:
    from moderngl_colab import _nvml
    from moderngl_colab.errors import Outcome

__all__ = ["EGLDevice", "Examined", "Machine", "Trial", "Vendor"]


HUNG = "did not answer in time"


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
    pci: str | None = None
    """Its PCI address, for instance ``"0000:0f:00.0"``."""


class Examined(NamedTuple):
    """What processes of their own found out by opening libraries and asking them."""

    opened: Mapping[str, str | None] = {}
    """The libraries that were opened, with the loader's error; None where it had none."""
    mapped: Mapping[str, str] = {}
    """Of libraries that were opened by name, the file that the loader took."""
    nvml: _nvml.Answer | None = None
    devices: tuple[EGLDevice, ...] | None = None
    unanswered: Mapping[str, str] = {}
    """The questions at which such a process ended, and how: :data:`HUNG`, or by which signal."""
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
    wsl_libraries: bool = False
    """Whether Windows' libraries for its GPU are there, ``/usr/lib/wsl/lib``."""
    d3d12: bool = False
    """Whether Mesa's driver for them is."""
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
    exposed: tuple[_driver.Exposed, ...] = ()
    """The libraries of NVIDIA's that are passed over, because others could replace them."""
    kept: tuple[str, ...] = ()
    """The versions of the driver that ``install-driver`` keeps for this user."""
    uses_kept: bool = False
    """Whether :attr:`userland` is one of them."""
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
    """Whether the driver was used before this process was forked."""
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

    @property
    def has_whole_driver(self) -> bool:
        """Whether the driver that is used is whole and fits: what is fetched is ignored then."""
        version = self.module and self.module.version
        return self.userland.is_whole and version in (self.userland.version, None)

    def trial(self, strategy: str) -> Trial | None:
        """What became of a strategy; None where it was not tried."""
        return next((trial for trial in self.trials if trial.strategy == strategy), None)

    @property
    def refused(self) -> bool:
        """Whether NVIDIA's driver was tried, and did not serve."""
        tried = any(trial.strategy in ("egl", "glx") for trial in self.trials)
        return tried and not self.on_gpu

    @property
    def on_gpu(self) -> bool:
        """Whether pixels prove that a GPU can be reached here."""
        return any(trial.on_gpu for trial in self.trials)
