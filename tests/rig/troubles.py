"""Machines in trouble: what the doctor must name first, and what its cure turns them into."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import driver, remedies
from .layout import Item, Machine, Placed
from .machines import MACHINES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TROUBLES", "Trouble"]

_SLURM = {"KUBERNETES_SERVICE_HOST": "", "SLURM_JOB_ID": "7"}
_CONDA = "/usr/local/conda/lib"
_GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
_STUBS = """\
Package: libnvidia-gl-550
Status: install ok installed
Architecture: amd64
Version: 535.104.05-0ubuntu0.22.04.1

"""


@dataclass(frozen=True)
class Trouble:
    """A machine, and what is expected of the doctor on it.

    The cure is given by what it makes of the machine; where it is a command of the shell, that
    command is run on the same one.
    """

    machine: Machine
    verdict: str  # as in the report
    first: str | None  # the code of what the second line names; None for a healthy machine
    remedy: str = ""  # of that finding
    also: frozenset[str] = frozenset()  # the codes of the others
    env: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None  # needs root
    cured: Machine | None = None  # None: the remedy is run as it is, or nothing is to be mended
    groups: tuple[int, ...] = ()  # what the cure adds to the user's


def _drivers_newest_libstdcxx() -> int:
    """N of the newest GLIBCXX_3.4.N that Mesa's driver itself needs."""
    folder = driver.multiarch()
    (path, *_) = [*folder.glob("libgallium*.so"), *folder.glob("dri/swrast_dri.so")]
    return max(map(int, re.findall(rb"GLIBCXX_3\.4\.(\d+)", path.read_bytes())))


def _old_libstdcxx() -> Item:
    newest = _drivers_newest_libstdcxx()
    names = [(f"GLIBCXX_3.4.{n}", f"GLIBCXX_3.4.{'X' * len(str(n))}") for n in range(newest, 60)]
    return Item(f"{_CONDA}/libstdc++.so.6", "{lib}/libstdc++.so.6", "changed", tuple(names))


def _foreign_libegl() -> Item:
    folders = (("/etc/glvnd/egl_", "/opt/glvnd/egl_"), ("/usr/share/glvnd/", "/opt/share/glvnd/"))
    return Item(f"{_CONDA}/libEGL.so.1", "{lib}/libEGL.so.1", "changed", folders)


def _with(name: str, **changes: object) -> Machine:
    return replace(MACHINES[name], **changes)  # type: ignore[arg-type]


_WHOLE = MACHINES["container-graphics"]
_HEALTHY = MACHINES["package"]
_MESA_ICD = str(next(Path("/usr/share/glvnd/egl_vendor.d").glob("*mesa.json"), ""))
_UNSET_VENDORS = "unset __EGL_VENDOR_LIBRARY_FILENAMES"


def _healed(machine: Machine, first: str, *also: str, **env: str) -> Trouble:
    """One that is mended here, and that other programs meet."""
    mark = "!" if "COLAB_RELEASE_TAG" in machine.env else ""
    return Trouble(machine, "gpu", first, mark + remedies.RUN, frozenset(also), env)


_MISSING = frozenset({"icd-missing"})

TROUBLES: dict[str, Trouble] = {
    "healthy": Trouble(_HEALTHY, "gpu", None),
    "no-nvidia": Trouble(
        MACHINES["no-nvidia"], "software", "driver-absent", remedies.GPU, cured=_WHOLE
    ),
    "colab": _healed(MACHINES["colab"], "icd-missing"),
    "colab-no-path": _healed(MACHINES["colab-no-path"], "path-hidden", "icd-missing"),
    "kaggle": _healed(MACHINES["kaggle"], "icd-missing"),
    "gke": _healed(MACHINES["gke"], "path-hidden", "icd-missing"),
    "container-graphics": _healed(_WHOLE, "icd-missing"),
    "singularity": _healed(MACHINES["singularity"], "path-hidden", "icd-missing"),
    "old-nvidia-dir": _healed(MACHINES["old-nvidia-dir"], "path-hidden", "icd-missing"),
    "split": _healed(MACHINES["split"], "userland-partial", "icd-missing"),
    "two-drivers": _healed(MACHINES["two-copies"], "two-drivers"),
    "icd-broken": _healed(
        MACHINES["icd-broken-with-driver"], "path-hidden", "icd-missing", "icd-broken"
    ),
    "icd-fifo": _healed(MACHINES["icd-fifo"], "path-hidden", "icd-missing", "icd-broken"),
    "compute-only": Trouble(
        MACHINES["compute-only"], "software", "userland-absent", remedies.GRAPHICS, cured=_WHOLE
    ),
    "exposed": Trouble(
        _with("colab-no-path", libraries=(Placed("/usr/lib64-nvidia", mode="0777"),), env={}),
        "software",
        "userland-exposed",
        "chown -hR root /usr/lib64-nvidia && chmod -R o-w /usr/lib64-nvidia  # if you trust what "
        "is in it; then start this program anew",
        frozenset({"nvml-absent"}),
        cured=_with("colab-no-path", env={}),
    ),
    "icd-dangling": Trouble(
        MACHINES["icd-dangling"],
        "software",
        "userland-absent",
        remedies.GRAPHICS,
        cured=_WHOLE,
    ),
    "mismatch": Trouble(
        MACHINES["mismatch"],
        "software",
        "userland-mismatch",
        remedies.GRAPHICS,
        cured=_WHOLE,
    ),
    "compute-only-in-a-job": Trouble(
        MACHINES["compute-only"],
        "software",
        "userland-absent",
        remedies.INSTALL,
        env=_SLURM,
    ),
    "compute-only-rented": Trouble(
        MACHINES["compute-only"],
        "software",
        "userland-absent",
        remedies.INSTALL,
        env={"KUBERNETES_SERVICE_HOST": "", "VAST_CONTAINERLABEL": "C.7"},
    ),
    "no-nvidia-in-a-job": Trouble(
        MACHINES["no-nvidia"],
        "software",
        "driver-absent",
        "srun --gres=gpu:1 ...",
        env=_SLURM,
        cured=_WHOLE,
    ),
    "apptainer": Trouble(
        _with("singularity", libraries=(Placed("/.singularity.d/libs", driver.NVML),)),
        "software",
        "userland-absent",
        "apptainer run --nv --bind /usr/share/glvnd/egl_vendor.d/10_nvidia.json ...; or here: "
        + remedies.INSTALL,
        env={"KUBERNETES_SERVICE_HOST": ""},
        cured=_with("singularity", items=_HEALTHY.items),
    ),
    "apt-stub": Trouble(
        _with("mismatch", items=(Item("/var/lib/dpkg/status", _STUBS),)),
        "software",
        "apt-stub",
        remedies.GRAPHICS,
        frozenset({"userland-mismatch"}),
        cured=_WHOLE,
    ),
    "partial": Trouble(
        MACHINES["partial"], "software", "userland-partial", remedies.GRAPHICS, cured=_WHOLE
    ),
    "glx-only": Trouble(
        MACHINES["glx-only"], "gpu", "userland-partial", remedies.GRAPHICS, cured=_WHOLE
    ),
    "no-xvfb": Trouble(
        MACHINES["no-xvfb"],
        "software",
        "userland-partial",
        remedies.GRAPHICS,
        frozenset({"no-xvfb"}),
        cured=_WHOLE,
    ),
    "no-libegl": Trouble(
        MACHINES["no-libegl"],
        "gpu",
        "dispatch-absent",
        remedies.DISPATCH,
        _MISSING,
        cured=_WHOLE,
    ),
    "no-gl": Trouble(
        MACHINES["no-gl"],
        "none",
        "dispatch-absent",
        remedies.DISPATCH,
        _MISSING | {"icd-broken"},
        cured=_WHOLE,
    ),
    "not-given": Trouble(
        MACHINES["not-given"], "software", "driver-absent", remedies.GPU, cured=_WHOLE
    ),
    "wsl2": Trouble(MACHINES["wsl2"], "gpu", "wsl2", "export MODERNGL_COLAB_STRATEGIES=mesa"),
    "wsl2-forced": Trouble(
        _with("wsl2", env={}),
        "software",
        "software-forced",
        "unset LIBGL_ALWAYS_SOFTWARE",
        frozenset({"wsl2"}),
        env={"LIBGL_ALWAYS_SOFTWARE": "1"},
        cured=MACHINES["wsl2"],
    ),
    "mig": Trouble(MACHINES["mig"], "software", "mig", remedies.WHOLE_GPU, _MISSING, cured=_WHOLE),
    "gvisor": Trouble(
        _with("package", proc_version=_GVISOR),
        "software",
        "gvisor",
        "have runsc started with --nvproxy --nvproxy-allowed-driver-capabilities=all, and the "
        "container with NVIDIA_DRIVER_CAPABILITIES=all",
        env={"STANDIN_FAULT": "init,glx-context"},
        cured=_with("package", proc_version=_GVISOR),
    ),
    "permission": Trouble(
        _with("package", node_mode="0660"),
        "software",
        "device-permission",
        'add "supplementalGroups: [0]" to the pod\'s securityContext',
        uid=65534,
        groups=(0,),
        cured=_with("package", node_mode="0660"),
    ),
    "cgroup": Trouble(
        _with("package", immutable=True),
        "software",
        "device-cgroup",
        "delete the pod, so that it is created anew with its devices",
        uid=0,
        cured=_HEALTHY,
    ),
    "override": Trouble(
        _HEALTHY,
        "gpu",  # by GLX
        "icd-override",
        _UNSET_VENDORS,
        env={"__EGL_VENDOR_LIBRARY_FILENAMES": _MESA_ICD},
    ),
    "override-both": Trouble(
        _HEALTHY,
        "software",
        "icd-override",
        _UNSET_VENDORS,
        frozenset({"software-forced"}),
        env={
            "__EGL_VENDOR_LIBRARY_FILENAMES": _MESA_ICD,
            "__GLX_VENDOR_LIBRARY_NAME": "mesa",
        },
    ),
    "override-broken": Trouble(
        _HEALTHY,
        "gpu",
        "icd-override",
        _UNSET_VENDORS,
        frozenset({"icd-broken"}),
        env={"__EGL_VENDOR_LIBRARY_FILENAMES": "/usr/share/nowhere/10_nvidia.json"},
    ),
    "always-software": Trouble(
        _HEALTHY,
        "gpu",
        "software-forced",
        "unset LIBGL_ALWAYS_SOFTWARE",
        env={"LIBGL_ALWAYS_SOFTWARE": "1"},
    ),
    "narrowed": Trouble(
        _HEALTHY,
        "gpu",
        "software-forced",
        "unset MODERNGL_COLAB_STRATEGIES",
        env={"MODERNGL_COLAB_STRATEGIES": "mesa"},
    ),
    "glx-forced": Trouble(
        MACHINES["glx-only"],
        "software",
        "software-forced",
        "unset __GLX_VENDOR_LIBRARY_NAME",
        frozenset({"userland-partial"}),
        env={"__GLX_VENDOR_LIBRARY_NAME": "mesa"},
    ),
    "nvml-crash": Trouble(
        _HEALTHY, "gpu", "driver-crash", remedies.SMI, env={"STANDIN_FAULT": "nvml-crash"}
    ),
    "hidden-ordinal": Trouble(
        _HEALTHY,
        "software",
        "gpu-hidden",
        "unset CUDA_VISIBLE_DEVICES",
        env={"CUDA_VISIBLE_DEVICES": "7"},
    ),
    "hidden": Trouble(
        _HEALTHY,
        "software",
        "gpu-hidden",
        "unset CUDA_VISIBLE_DEVICES",
        env={"CUDA_VISIBLE_DEVICES": ""},
    ),
    "other-gpu": Trouble(
        _HEALTHY,
        "gpu",
        "gpu-other",
        "python -m moderngl_colab run -- PROGRAM ...",
        env={"STANDIN_GPUS": "2", "STANDIN_ORDER": "reverse"},
    ),
    "conda": _healed(
        _with("package", items=(*_HEALTHY.items, _foreign_libegl())),
        "dispatch-foreign",
        LD_LIBRARY_PATH=_CONDA,
    ),
    "glibcxx": Trouble(
        _with("no-nvidia", items=(_old_libstdcxx(),)),
        "none",
        "driver-absent",
        remedies.GPU,
        frozenset({"glibcxx"}),
        env={"LD_LIBRARY_PATH": _CONDA},
        cured=_WHOLE,
    ),
    "crash": Trouble(
        _HEALTHY,
        "gpu",
        "driver-crash",
        "export MODERNGL_COLAB_STRATEGIES=glx,mesa",
        env={"STANDIN_FAULT": "crash"},
    ),
    "hang": Trouble(
        _HEALTHY,
        "gpu",
        "driver-hang",
        "export MODERNGL_COLAB_STRATEGIES=glx,mesa",
        env={"STANDIN_FAULT": "hang"},
    ),
    "refused": Trouble(
        _HEALTHY, "gpu", "driver-refused", remedies.SMI, env={"STANDIN_FAULT": "init"}
    ),
    "nvml-absent": Trouble(
        _with("package", libraries=(Placed("{lib}", driver.ALL - driver.NVML),)),
        "gpu",
        "nvml-absent",
        remedies.NVML,
        cured=_HEALTHY,
    ),
    "remote-display": Trouble(
        _HEALTHY, "gpu", "display-remote", "unset DISPLAY", env={"DISPLAY": "elsewhere:10.0"}
    ),
}
