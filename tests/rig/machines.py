"""The simulated machines: states in which users' machines were found, by name.

Each is what is on the disk, in /proc, in /dev and in the environment. Nothing of NVIDIA is there
unless it is named.
"""

from __future__ import annotations

from . import driver
from .layout import Item, Machine, Placed
from .namespaces import Finished, available, run

__all__ = ["KERNEL", "MACHINES", "Finished", "Item", "Machine", "available", "run"]

KERNEL = driver.VERSION
OLD = "535.104.05"

_LIB = "{lib}"
_COLAB = "/usr/lib64-nvidia"
_TOOLKIT = "/usr/local/nvidia"
_ICD = "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
_ICD_TEXT = """{
    "file_format_version" : "1.0.0",
    "ICD" : {
        "library_path" : "libEGL_nvidia.so.0"
    }
}
"""
_VENDORS = frozenset({"libEGL_nvidia", "libGLX_nvidia"})
_NO_LIBEGL = ("{lib}/libEGL.so*",)
_NO_XVFB = ("/usr/bin/Xvfb", "/usr/bin/xvfb-run")
_NO_GL = tuple(
    f"{{lib}}/{name}*"
    for name in ("libEGL", "libGL.so", "libGLX", "libGLdispatch", "libGLES", "libOpenGL")
)
_COLAB_ENV = {"COLAB_RELEASE_TAG": "release-colab-external_20260819"}


def _named(*machines: Machine) -> dict[str, Machine]:
    return {machine.name: machine for machine in machines}


MACHINES = _named(
    Machine("no-nvidia", "nothing of NVIDIA"),
    Machine(
        "colab",
        "driver in a folder of its own, on LD_LIBRARY_PATH; no ICD",
        libraries=(Placed(_COLAB),),
        kernel=KERNEL,
        env={**_COLAB_ENV, "LD_LIBRARY_PATH": _COLAB},
    ),
    Machine(
        "colab-no-path",
        "as colab, in a process that did not inherit LD_LIBRARY_PATH",
        libraries=(Placed(_COLAB),),
        kernel=KERNEL,
        env=_COLAB_ENV,
    ),
    Machine(
        "container-graphics",
        "container with the graphics capability: driver where the loader looks, no ICD",
        libraries=(Placed(_LIB),),
        kernel=KERNEL,
    ),
    Machine(
        "package",
        "driver and ICD as a distribution's package installs them",
        libraries=(Placed(_LIB),),
        items=(Item(_ICD, _ICD_TEXT),),
        kernel=KERNEL,
    ),
    Machine(
        "compute-only",
        "container without the graphics capability: NVML, no GL userland",
        libraries=(Placed(_LIB, driver.NVML),),
        kernel=KERNEL,
    ),
    Machine(
        "gke",
        "driver and ICD in /usr/local/nvidia, where neither the loader nor libglvnd looks",
        libraries=(Placed(f"{_TOOLKIT}/lib64"),),
        items=(Item(f"{_TOOLKIT}/share/glvnd/egl_vendor.d/10_nvidia.json", _ICD_TEXT),),
        kernel=KERNEL,
    ),
    Machine(
        "kaggle",
        "as gke, with LD_LIBRARY_PATH",
        libraries=(Placed(f"{_TOOLKIT}/lib64"),),
        items=(Item(f"{_TOOLKIT}/share/glvnd/egl_vendor.d/10_nvidia.json", _ICD_TEXT),),
        kernel=KERNEL,
        env={
            **_COLAB_ENV,
            "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
            "LD_LIBRARY_PATH": f"{_TOOLKIT}/lib64",
        },
    ),
    Machine(
        "glx-only",
        "the GLX half of the driver",
        libraries=(Placed(_LIB, driver.GLX | driver.NVML),),
        kernel=KERNEL,
    ),
    Machine(
        "no-libegl",
        "as container-graphics, libglvnd's libEGL is not installed",
        libraries=(Placed(_LIB),),
        removed=_NO_LIBEGL,
        kernel=KERNEL,
    ),
    Machine(
        "no-gl",
        "as container-graphics, neither libglvnd nor Mesa is installed",
        libraries=(Placed(_LIB),),
        removed=_NO_GL,
        kernel=KERNEL,
    ),
    Machine("no-gl-no-nvidia", "no GL at all and nothing of NVIDIA", removed=_NO_GL),
    Machine("no-libegl-no-nvidia", "Mesa by GLX only, nothing of NVIDIA", removed=_NO_LIBEGL),
    Machine(
        "no-xvfb",
        "as glx-only, without Xvfb",
        libraries=(Placed(_LIB, driver.GLX | driver.NVML),),
        removed=_NO_XVFB,
        kernel=KERNEL,
    ),
    Machine(
        "no-xvfb-no-nvidia",
        "no libEGL, no Xvfb, nothing of NVIDIA",
        removed=_NO_LIBEGL + _NO_XVFB,
    ),
    Machine(
        "icd-dangling",
        "an ICD that names a library which is nowhere",
        libraries=(Placed(_LIB, driver.NVML),),
        items=(Item(_ICD, _ICD_TEXT),),
        kernel=KERNEL,
    ),
    *(
        Machine(
            name,
            f"driver as in colab-no-path; the ICD is {what}",
            libraries=(Placed(_COLAB),),
            items=(icd,),
            kernel=KERNEL,
        )
        for name, what, icd in (
            ("icd-broken-with-driver", "cut short", Item(_ICD, _ICD_TEXT[:60])),
            ("icd-directory", "a directory", Item(_ICD, kind="directory")),
            ("icd-fifo", "a FIFO", Item(_ICD, kind="fifo")),
            ("icd-huge", "a megabyte of white space", Item(_ICD, _ICD_TEXT, "padded")),
        )
    ),
    Machine(
        "split",
        "libglvnd's vendors where the loader looks, their siblings where it does not",
        libraries=(
            Placed(_LIB, _VENDORS | driver.NVML),
            Placed("{lib}/nvidia/current", driver.ALL - _VENDORS - driver.NVML),
        ),
        kernel=KERNEL,
    ),
    Machine(
        "two-copies",
        "another version installed over the one that fits the kernel module",
        libraries=(Placed(_LIB, version=OLD), Placed(f"{_TOOLKIT}/lib64")),
        items=(Item(_ICD, _ICD_TEXT),),
        kernel=KERNEL,
    ),
    Machine(
        "mismatch",
        "only a userland of another version than the kernel module",
        libraries=(Placed(_LIB, version=OLD),),
        kernel=KERNEL,
    ),
    Machine(
        "partial",
        "the driver without the libraries that do the rendering",
        libraries=(Placed(_COLAB, driver.ALL - {"libnvidia-eglcore", "libnvidia-glcore"}),),
        kernel=KERNEL,
    ),
    Machine(
        "not-given",
        "container on a machine with a GPU that was not given to it; the driver is in the image",
        libraries=(Placed(_LIB),),
        kernel=KERNEL,
        env={"STANDIN_GPUS": "0"},
    ),
    Machine("userland-no-gpu", "driver installed, no GPU", libraries=(Placed(_LIB),)),
    Machine(
        "wsl2",
        "Mesa's d3d12, which says what it runs on",
        items=(Item("/usr/lib/wsl/lib", kind="directory"),),
        nodes=("dxg",),
        proc_version="Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)",
        env={
            "MESA_DEBUG": "silent",  # or Mesa announces the next two on stderr
            "force_gl_vendor": "Microsoft Corporation",
            "force_gl_renderer": "D3D12 (NVIDIA GeForce RTX 4090)",
        },
    ),
    Machine(
        "mig",
        "as container-graphics, the GPU is a MIG slice",
        libraries=(Placed(_LIB),),
        kernel=KERNEL,
        env={"STANDIN_MIG": "1"},
    ),
    Machine(
        "old-nvidia-dir",
        "driver in Ubuntu's former folder",
        libraries=(Placed("/usr/lib/nvidia-550"),),
        kernel=KERNEL,
    ),
    Machine(
        "singularity",
        "driver bound in by Singularity or Apptainer --nv",
        libraries=(Placed("/.singularity.d/libs"),),
        kernel=KERNEL,
    ),
)
