"""Why NVIDIA's driver did not serve, and what mends it.

Each cause is told by a look at the machine, never by the words of another message. The codes
are stable; the sentences are made of what was seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from moderngl_colab import _driver
from moderngl_colab.errors import StrategyFailed, StrategyUnavailable

__all__ = [
    "dispatch_absent",
    "graphics",
    "no_gpu",
    "no_xvfb",
    "not_listed",
    "obstacle",
    "overridden",
    "privileged",
    "refused",
    "unloadable",
]

Library = Literal["EGL", "GLX"]


def dispatch_absent(error: OSError) -> StrategyUnavailable:
    """libglvnd's own libraries are not there; no container runtime brings them."""
    return StrategyUnavailable(
        f"the loader says: {error}",
        remedy="apt-get install -y libegl1 libgl1",
        cause="dispatch-absent",
    )


def no_xvfb() -> StrategyUnavailable:
    """The program is not on the PATH."""
    return StrategyUnavailable(
        "there is no Xvfb on the PATH", remedy="apt-get install -y xvfb", cause="no-xvfb"
    )


def unloadable(error: OSError) -> StrategyUnavailable:
    """libGLX_nvidia is there and whole, and cannot be opened; it needs two of X11's libraries."""
    return StrategyUnavailable(
        f"the loader says: {error}",
        remedy="apt-get install -y libx11-6 libxext6",
        cause="userland-partial",
    )


def privileged() -> StrategyUnavailable:
    """Real and effective ids differ: which libraries are loaded is not ours to say."""
    return StrategyUnavailable(
        "real and effective user or group differ, and which libraries such a process loads is "
        "left alone",
        remedy="run it as an ordinary process, not by setuid or setgid",
        cause="privileged",
    )


def overridden(variable: str, environ: Mapping[str, str] = os.environ) -> StrategyUnavailable:
    """The user's own choice of vendors leaves NVIDIA out; it is obeyed."""
    value = environ[variable] or "nothing"
    return StrategyUnavailable(
        f"{variable} is set to {value}, and that leaves NVIDIA's vendor library out",
        remedy=f"unset {variable}",
        cause="icd-override",
    )


def no_gpu(environ: Mapping[str, str] = os.environ, root: str = "/") -> StrategyUnavailable | None:
    """No NVIDIA GPU is given to this process; None where one is."""
    if _driver.device_nodes(root):
        return None
    if os.path.exists(os.path.join(root, "dev/dxg")):
        return StrategyUnavailable(
            "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and not by NVIDIA's driver",
            remedy="apt-get install -y libgl1-mesa-dri",
            cause="wsl2",
        )
    # The host's kernel module shows in containers that were given no GPU, too.
    node = "nvidia0" if os.path.exists(os.path.join(root, "dev/nvidiactl")) else "nvidiactl"
    kernel = _driver.kernel_version(root)
    module = "no kernel module is loaded" if kernel is None else f"kernel module {kernel} is loaded"
    return StrategyUnavailable(
        f"no NVIDIA GPU is given to this machine: there is no /dev/{node}, and {module}",
        remedy=_platform(environ, root).give_gpu,
        cause="driver-absent",
    )


def graphics(kernel: str | None, environ: Mapping[str, str] = os.environ, root: str = "/") -> str:
    """What gives this machine the OpenGL half of the driver, for a kernel module of a version."""
    version = "the kernel module's version" if kernel is None else kernel
    return _platform(environ, root).give_graphics.format(version=version)


def obstacle(library: Library, driver: _driver.Userland) -> StrategyUnavailable | None:
    """What is known to keep NVIDIA's EGL or GLX from serving before it is asked; None if nothing.

    Arguments:
        library: the half of the driver that is needed.
        driver: the userland that was found.
    """
    if (absent := no_gpu()) is not None:
        return absent
    kernel = _driver.kernel_version()
    if library not in driver.libraries:
        own = os.environ.get(_driver.DIRECTORY_VARIABLE)
        version = f" of version {driver.version}" if driver.libraries else ""
        also = f", {_driver.DIRECTORY_VARIABLE}={own} among them" if own else ""
        return StrategyUnavailable(
            f"an NVIDIA GPU is there (kernel module {kernel or 'of unknown version'}), but "
            f"lib{library}_nvidia.so.0{version} is in none of the directories searched{also}",
            remedy=graphics(kernel),
            cause="userland-partial" if driver.libraries else "userland-absent",
        )
    path = driver.libraries[library]
    if kernel is not None and driver.version not in (kernel, None):
        return StrategyUnavailable(
            f"NVIDIA's kernel module is {kernel}, but {path} is {driver.version}",
            remedy=f"reboot if the driver was upgraded just now, else {graphics(kernel)}",
            cause="userland-mismatch",
        )
    if missing := driver.missing_siblings(library):
        return StrategyUnavailable(
            f"{path} needs {' and '.join(missing)}, which none of the directories searched has",
            remedy=graphics(kernel),
            cause="userland-partial",
        )
    return None


def not_listed(driver: _driver.Userland, observed: str) -> StrategyUnavailable:
    """Why libEGL lists no NVIDIA device, the decisive cause first.

    Arguments:
        driver: the userland that was offered to it.
        observed: what is to be said if nothing on the machine explains it.
    """
    if (known := obstacle("EGL", driver)) is not None:
        return known
    from moderngl_colab import _nvml

    nvml = _nvml.ask(driver.nvml)
    if nvml.sliced:
        return StrategyUnavailable(_NO_GRAPHICS.format(nvml.sliced), remedy=_WHOLE_GPU, cause="mig")
    return StrategyUnavailable(
        f"{observed}, though {driver.libraries['EGL']} is there; {nvml}",
        remedy=graphics(_driver.kernel_version()) if nvml.error is None else _ASK_SMI,
    )


def refused(
    error: StrategyFailed, driver: _driver.Userland, cause: str | None = None
) -> StrategyFailed:
    """A refusal of NVIDIA's driver, with what NVML has to say on it.

    Arguments:
        error: what the driver answered.
        driver: the userland that was asked.
        cause: the code for the case that NVML does not explain it.
    """
    from moderngl_colab import _nvml

    nvml = _nvml.ask(driver.nvml)
    remedy = error.remedy or _ASK_SMI
    reason = f"{error.reason}; {nvml}"
    if nvml.sliced:
        reason = f"{error.reason}; {_NO_GRAPHICS.format(nvml.sliced)}"
        remedy, cause = _WHOLE_GPU, "mig"
    return StrategyFailed(reason, remedy=remedy, cause=cause)


_ASK_SMI = "nvidia-smi shows whether the driver itself works"
_NO_GRAPHICS = "{} is in MIG mode, and a MIG slice of a compute card has no graphics"
_WHOLE_GPU = "ask for a whole GPU; its administrator can end MIG mode with nvidia-smi -mig 0"


class _Platform(NamedTuple):
    give_gpu: str
    give_graphics: str


_RECREATE = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."
_INSTALL = (
    "install the OpenGL libraries of exactly {version} with NVIDIA's installer of that version"
)
_PLATFORMS = {
    "kaggle": _Platform("choose the menu Settings > Accelerator > GPU T4 x2", _INSTALL),
    "colab": _Platform("choose the menu Runtime > Change runtime type > T4 GPU", _INSTALL),
    "kubernetes": _Platform(
        "add to the container's resources.limits: nvidia.com/gpu: 1",
        "add to the container's env: NVIDIA_DRIVER_CAPABILITIES=all",
    ),
    "apptainer": _Platform("apptainer run --nv ...", "apptainer run --nv ..."),
    "docker": _Platform(_RECREATE, _RECREATE),
    "slurm": _Platform("srun --gres=gpu:1 ...", _INSTALL),
    "host": _Platform("run this on a machine with an NVIDIA GPU and its driver", _INSTALL),
}


def _platform(environ: Mapping[str, str], root: str) -> _Platform:
    """The platform, for the wording of remedies alone."""
    signs = {
        # Kaggle's image is built on Colab's and sets its variable too.
        "kaggle": "KAGGLE_KERNEL_RUN_TYPE" in environ,
        "colab": "COLAB_RELEASE_TAG" in environ,
        "kubernetes": "KUBERNETES_SERVICE_HOST" in environ,
        "apptainer": os.path.exists(os.path.join(root, ".singularity.d")),
        "docker": any(
            os.path.exists(os.path.join(root, mark)) for mark in (".dockerenv", "run/.containerenv")
        ),
        "slurm": "SLURM_JOB_ID" in environ,
        "host": True,
    }
    return _PLATFORMS[next(name for name, found in signs.items() if found)]
