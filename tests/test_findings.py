"""Each cause is told by facts alone: recorded machines, and the whole finding that they lead to."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import pytest

from moderngl_colab._driver import Copy, Exposed, Userland
from moderngl_colab._kernel import KernelModule, Node
from moderngl_colab._nvml import GPU, Answer
from moderngl_colab._trust import Breach
from moderngl_colab.errors import Outcome
from moderngl_colab.findings.every import blocking, findings
from moderngl_colab.findings.finding import CODES, Finding, Severity
from moderngl_colab.machine import EGLDevice, Examined, Machine, Trial, Vendor

ERROR, WARNING, NOTE = Severity
NEW, OLD = "550.54.15", "535.104.05"
PROC = "/proc/driver/nvidia/version"
LIB = "/usr/lib/x86_64-linux-gnu"
FOLDER = "/usr/lib64-nvidia"
SMI = "nvidia-smi shows whether the driver itself works"
RUN = "python -m moderngl_colab run -- PROGRAM ..."
DOCKER = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."
INSTALL = "python -m moderngl_colab install-driver"
VENDORS = ("libEGL_nvidia.so.0", "libGLX_nvidia.so.0")
SIBLINGS = ("gpucomp", "tls", "glsi", "eglcore", "glcore")


def userland(folder: str = LIB, version: str = NEW, halves: str = "EGL GLX") -> Userland:
    libraries = {half: f"{folder}/lib{half}_nvidia.so.0" for half in halves.split()}
    siblings = {name: f"{folder}/libnvidia-{name}.so.{version}" for name in SIBLINGS}
    return Userland(version, libraries, siblings, f"{folder}/libnvidia-ml.so.{version}")


def copies(*drivers: Userland) -> tuple[Copy, ...]:
    return tuple(
        Copy(driver.version, half, path)
        for driver in drivers
        for half, path in driver.libraries.items()
    )


def loader(driver: Userland) -> dict[str, str]:
    paths = [*driver.libraries.values(), *driver.siblings.values()]
    return {path.rpartition("/")[2]: path for path in paths}


def trial(strategy: str, **changes: Any) -> Trial:
    """One that came out well, on the GPU or, by Mesa, on the CPU."""
    software = strategy == "mesa"
    good = Trial(
        strategy,
        Outcome.SELECTED,
        "pixels are right",
        vendor="Mesa" if software else "NVIDIA Corporation",
        renderer="llvmpipe" if software else "Tesla T4",
        software=software,
        egl_device=0 if strategy == "egl" else None,
        pixels=True,
    )
    return good._replace(**changes)


def failed(strategy: str, reason: str, cause: str | None = None, **changes: Any) -> Trial:
    return Trial(strategy, Outcome.FAILED, reason, cause=cause, **changes)


NODES = (Node("/dev/nvidiactl"), Node("/dev/nvidia-modeset"), Node("/dev/nvidia0"))
NVIDIA_ICD = Vendor(
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", False, VENDORS[0], f"{LIB}/{VENDORS[0]}"
)
MESA_ICD = Vendor(
    "/usr/share/glvnd/egl_vendor.d/50_mesa.json", False, "libEGL_mesa.so.0", f"{LIB}/libEGL_mesa.so"
)
T4 = Answer(driver=NEW, gpus=(GPU("Tesla T4", False),))
EXAMINED = Examined(
    opened={"libEGL.so.1": None, "libGL.so.1": None},
    mapped={"libEGL.so.1": f"{LIB}/libEGL.so.1.1.0", "libstdc++.so.6": f"{LIB}/libstdc++.so.6"},
    nvml=T4,
    devices=(EGLDevice(0, True, cuda=0), EGLDevice(1, False)),
)
HEALTHY = Machine(
    installer="apt-get",
    module=KernelModule(NEW, PROC),
    nodes=NODES,
    copies=copies(userland()),
    userland=userland(),
    loader=loader(userland()),
    vendors=(NVIDIA_ICD, MESA_ICD),
    xvfb="/usr/bin/Xvfb",
    examined=EXAMINED,
    trials=(trial("egl"), trial("glx"), trial("mesa")),
)
# Nothing of NVIDIA; Mesa on the CPU.
BARE = HEALTHY._replace(
    module=None,
    nodes=(),
    copies=(),
    userland=Userland(None, {}, {}, None),
    loader={},
    vendors=(MESA_ICD,),
    examined=EXAMINED._replace(nvml=Answer(error="NVML: not found (12)", code=12), devices=()),
    trials=(failed("egl", "no", "x"), failed("glx", "no", "x"), trial("mesa")),
)


def healthy(**changes: Any) -> Machine:
    return HEALTHY._replace(**changes)


def refusing(*trials: Trial, **changes: Any) -> Machine:
    """As healthy, but only the CPU serves unless `trials` say otherwise."""
    tried = {t.strategy: t for t in (failed("egl", "no", "x"), failed("glx", "no", "x"))}
    tried |= {"mesa": trial("mesa")} | {t.strategy: t for t in trials}
    return HEALTHY._replace(**{"trials": tuple(tried.values()), **changes})


def examined(**changes: Any) -> Examined:
    return EXAMINED._replace(**changes)


def driver_of(driver: Userland, *others: Userland, **changes: Any) -> Mapping[str, Any]:
    return {"userland": driver, "copies": copies(driver, *others), "loader": {}} | changes


GONE = Userland(None, {}, {}, None)
COLAB = userland(FOLDER)
NO_LIBEGL = "libEGL.so.1: cannot open shared object file: No such file or directory"
STORE = f"/home/me/.local/share/moderngl_colab/driver/{NEW}-x86_64"
EGL_PATH, GLX_PATH = f"{LIB}/libEGL_nvidia.so.0", f"{LIB}/libGLX_nvidia.so.0"
STORED = (f"{STORE}/libEGL_nvidia.so.0: {NEW}", f"{STORE}/libGLX_nvidia.so.0: {NEW}")
DAMAGED = driver_of(
    userland(STORE),
    uses_kept=True,
    examined=examined(opened={f"{STORE}/libEGL_nvidia.so.0": "no loadable segments"}),
)
KERNEL_LINE = f"{PROC}: {NEW}"

CASES: dict[str, tuple[Machine, Finding]] = {
    "not-linux": (
        Machine(system="darwin"),
        Finding(
            "not-linux",
            ERROR,
            "moderngl_colab serves Linux; on darwin the system itself gives GPU contexts",
            ("sys.platform: darwin",),
            "moderngl.create_context(standalone=True)",
        ),
    ),
    "privileged": (
        refusing(privileged=True),
        Finding(
            "privileged",
            ERROR,
            "real and effective user or group differ, and which libraries such a process loads is "
            "left alone",
            (),
            "run it as an ordinary process, not by setuid or setgid",
        ),
    ),
    "forked": (
        healthy(forked=True),
        Finding(
            "forked",
            ERROR,
            "NVIDIA's driver was used, by OpenGL or CUDA, before this process was forked, and in "
            "such a child it hangs",
            (),
            'start workers by multiprocessing.set_start_method("spawn") or "forkserver", or by '
            'DataLoader(..., multiprocessing_context="spawn"), and make the context in the worker',
        ),
    ),
    "wsl2": (
        BARE._replace(nodes=(Node("/dev/dxg"),), wsl_libraries=True, d3d12=True),
        Finding(
            "wsl2",
            ERROR,
            "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and not by NVIDIA's driver",
            ("/dev/dxg is there, /dev/nvidiactl is not", "/usr/lib/wsl/lib is there"),
            "export GALLIUM_DRIVER=d3d12 LD_LIBRARY_PATH=/usr/lib/wsl/lib",
        ),
    ),
    "driver-absent": (
        BARE,
        Finding(
            "driver-absent",
            ERROR,
            "no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, and no kernel "
            "module is loaded",
            (),
            "run this on a machine with an NVIDIA GPU and its driver",
        ),
    ),
    "driver-absent, of the host alone": (
        refusing(nodes=NODES[:1], platform="slurm"),
        Finding(
            "driver-absent",
            ERROR,
            "no NVIDIA GPU is given to this machine: there is no /dev/nvidia0, and kernel module "
            "550.54.15 is loaded",
            (KERNEL_LINE,),
            "srun --gres=gpu:1 ...",
        ),
    ),
    "device-permission": (
        refusing(nodes=(NODES[0], Node("/dev/nvidia0", errno.EACCES, 44, 0o660, "video"))),
        Finding(
            "device-permission",
            ERROR,
            "/dev/nvidia0 belongs to group 44 (video) with mode 0660, and this user may not open "
            "it",
            ("/dev/nvidia0: EACCES",),
            "ask who is root here to run: usermod -aG video YOUR_NAME; then log in again",
        ),
    ),
    "device-cgroup": (
        refusing(nodes=(Node("/dev/nvidiactl", errno.EPERM), *NODES[1:]), platform="docker"),
        Finding(
            "device-cgroup",
            ERROR,
            "/dev/nvidiactl is there, but the control group of this process may not use it",
            ("/dev/nvidiactl: EPERM",),
            f"{DOCKER} (a new container; the rules of this one are lost)",
        ),
    ),
    "gpu-hidden": (
        refusing(environ={"CUDA_VISIBLE_DEVICES": ""}),
        Finding(
            "gpu-hidden",
            ERROR,
            'CUDA_VISIBLE_DEVICES is "", and that leaves this process no GPU',
            (),
            "unset CUDA_VISIBLE_DEVICES",
        ),
    ),
    "apt-stub": (
        refusing(
            **driver_of(userland(version="580.178.04")),
            examined=examined(stubs={"libnvidia-gl-550": "580.178.04-0ubuntu0.22.04.1"}),
        ),
        Finding(
            "apt-stub",
            ERROR,
            "the package libnvidia-gl-550 is a stub: it brings version "
            "580.178.04-0ubuntu0.22.04.1, and the kernel module is 550.54.15",
            ("libnvidia-gl-550: 580.178.04-0ubuntu0.22.04.1",),
            INSTALL,
        ),
    ),
    "userland-mismatch": (
        refusing(**driver_of(userland(version=OLD)), platform="docker"),
        Finding(
            "userland-mismatch",
            ERROR,
            f"NVIDIA's kernel module is {NEW}, but {EGL_PATH} is {OLD}",
            (KERNEL_LINE, f"{EGL_PATH}: {OLD}", f"{GLX_PATH}: {OLD}"),
            f"{DOCKER}; or here: {INSTALL}",
        ),
    ),
    "userland-mismatch, by NVML": (
        refusing(examined=examined(nvml=Answer(error="NVML: mismatch (18)", code=18))),
        Finding(
            "userland-mismatch",
            ERROR,
            f"kernel module {NEW} and NVML's library are of different versions",
            (
                "NVML: mismatch (18)",
                f"NVML: {LIB}/libnvidia-ml.so.{NEW}",
                KERNEL_LINE,
                f"{EGL_PATH}: {NEW}",
                f"{GLX_PATH}: {NEW}",
            ),
            "reboot if the driver was upgraded just now, else install libnvidia-ml.so.1 of exactly "
            "the kernel module's version, from its packages",
        ),
    ),
    "userland-absent": (
        refusing(
            **driver_of(GONE),
            vendors=(MESA_ICD,),
            environ={"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
            examined=examined(packages={"libnvidia-gl-550": f"{NEW}-0ubuntu1"}),
        ),
        Finding(
            "userland-absent",
            ERROR,
            f"an NVIDIA GPU is there (kernel module {NEW}), but libEGL_nvidia.so.0 is in none of "
            "the directories searched",
            (KERNEL_LINE, "NVIDIA_DRIVER_CAPABILITIES: compute,utility"),
            INSTALL,
        ),
    ),
    "userland-outdated": (
        refusing(**driver_of(GONE), vendors=(MESA_ICD,), kept=(OLD, "580.82.07")),
        Finding(
            "userland-outdated",
            NOTE,
            f"what install-driver fetched ({OLD} and 580.82.07) is ignored: the kernel module is "
            f"{NEW}",
            (KERNEL_LINE, f"kept: {OLD}", "kept: 580.82.07"),
            INSTALL,
        ),
    ),
    "userland-exposed": (
        refusing(
            **driver_of(GONE),
            vendors=(MESA_ICD,),
            exposed=(Exposed(f"{FOLDER}/{VENDORS[0]}", Breach(FOLDER, 0, everybody=True)),),
        ),
        Finding(
            "userland-exposed",
            ERROR,
            f"{FOLDER}/{VENDORS[0]} is passed over, for {FOLDER} can be written to by everybody: "
            "somebody else could replace it, and it is not where the loader of this process looks",
            (f"{FOLDER}/{VENDORS[0]}: {FOLDER} can be written to by everybody",),
            f"chown -hR root {FOLDER} && chmod -R o-w {FOLDER}  # if you trust what is in it; then "
            "start this program anew",
        ),
    ),
    "userland-exposed, another version serves no purpose": (
        refusing(
            **driver_of(userland(version=OLD)),
            exposed=(Exposed(f"{FOLDER}/{VENDORS[0]}", Breach(FOLDER, 7, everybody=False)),),
            is_root=False,
        ),
        Finding(
            "userland-exposed",
            ERROR,
            f"{FOLDER}/{VENDORS[0]} is passed over, for {FOLDER} belongs to user 7: somebody else "
            "could replace it, and it is not where the loader of this process looks",
            (f"{FOLDER}/{VENDORS[0]}: {FOLDER} belongs to user 7",),
            'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && '
            f'install -m 755 {FOLDER}/lib*nv*.so.* "$MODERNGL_COLAB_DRIVER_DIR"  # if you '
            "trust what is in it; then start this program anew",
        ),
    ),
    "userland-exposed, a sibling": (
        refusing(
            userland=userland()._replace(siblings=dict.fromkeys(SIBLINGS[:3], "x")),
            exposed=(
                Exposed(f"/a b/libnvidia-eglcore.so.{NEW}", Breach("/a b", 5, everybody=True)),
            ),
            is_root=False,
        ),
        Finding(
            "userland-exposed",
            ERROR,
            f"/a b/libnvidia-eglcore.so.{NEW} is passed over, for /a b can be written to by "
            "everybody: somebody else could replace it, and it is not where the loader of this "
            "process looks",
            (f"/a b/libnvidia-eglcore.so.{NEW}: /a b can be written to by everybody",),
            'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && '
            "install -m 755 '/a b'/lib*nv*.so.* \"$MODERNGL_COLAB_DRIVER_DIR\"  # if you trust "
            "what is in it; then start this program anew",
        ),
    ),
    "userland-partial, the EGL half": (
        refusing(
            trial("glx"), **driver_of(userland(halves="GLX"), loader=loader(userland())),
            vendors=(MESA_ICD,),
        ),
        Finding(
            "userland-partial",
            WARNING,
            f"an NVIDIA GPU is there (kernel module {NEW}), but libEGL_nvidia.so.0 of version "
            f"{NEW} is in none of the directories searched",
            (KERNEL_LINE, f"{GLX_PATH}: {NEW}"),
            INSTALL,
        ),
    ),
    "userland-partial, a sibling": (
        refusing(userland=userland()._replace(siblings=dict.fromkeys(SIBLINGS[:3], "x"))),
        Finding(
            "userland-partial",
            ERROR,
            f"{EGL_PATH} needs libnvidia-eglcore.so.{NEW}, which none of the directories searched "
            "has",
            (KERNEL_LINE, f"{EGL_PATH}: {NEW}", f"{GLX_PATH}: {NEW}"),
            INSTALL,
        ),
    ),
    "userland-partial, for others": (
        healthy(loader={name: f"{LIB}/{name}" for name in VENDORS}),
        Finding(
            "userland-partial",
            NOTE,
            f"the loader finds {EGL_PATH}, but not "
            + " and ".join(f"libnvidia-{name}.so.{NEW}" for name in SIBLINGS)
            + "; here they are opened by their paths",
            tuple(f"{LIB}/libnvidia-{name}.so.{NEW}" for name in SIBLINGS),
            RUN,
        ),
    ),
    "mig": (
        refusing(examined=examined(nvml=Answer(driver=NEW, gpus=(GPU("A100", True),)))),
        Finding(
            "mig",
            ERROR,
            "A100 is in MIG mode, and a MIG slice of a compute card has no graphics",
            (),
            "ask for a whole GPU; its administrator can end MIG mode with nvidia-smi -mig 0",
        ),
    ),
    "dispatch-absent": (
        refusing(trial("glx"), examined=examined(opened={"libEGL.so.1": NO_LIBEGL})),
        Finding(
            "dispatch-absent",
            WARNING,
            f"the loader says: {NO_LIBEGL}",
            (),
            "apt-get update && apt-get install -y libegl1 libgl1",
        ),
    ),
    "icd-override": (
        refusing(vendors=(MESA_ICD,), environ={"__EGL_VENDOR_LIBRARY_FILENAMES": MESA_ICD.path}),
        Finding(
            "icd-override",
            ERROR,
            f"__EGL_VENDOR_LIBRARY_FILENAMES is set to {MESA_ICD.path}, and that leaves NVIDIA's "
            "vendor library out",
            (),
            "unset __EGL_VENDOR_LIBRARY_FILENAMES",
        ),
    ),
    "no-xvfb": (
        refusing(xvfb=None),
        Finding(
            "no-xvfb",
            ERROR,
            "there is no Xvfb on the PATH",
            (),
            "apt-get update && apt-get install -y xvfb",
        ),
    ),
    "xvfb-start": (
        refusing(failed("glx", "Xvfb ended at once with status 1", "xvfb-start", stderr=("a",))),
        Finding(
            "xvfb-start",
            ERROR,
            "Xvfb ended at once with status 1",
            ("a",),
            "apt-get update && apt-get install -y --reinstall xvfb xkb-data x11-xkb-utils",
        ),
    ),
    "xvfb-crash": (
        refusing(failed("glx", "Xvfb ended at once with status -6", "xvfb-crash")),
        Finding(
            "xvfb-crash",
            ERROR,
            "Xvfb ended at once with status -6",
            (),
            "apt-get update && apt-get install -y --reinstall xvfb xkb-data x11-xkb-utils",
        ),
    ),
    "glx-refused": (
        refusing(failed("glx", "GLX over Xvfb: BadValue (2)", "glx-refused", remedy=SMI)),
        Finding(
            "glx-refused",
            ERROR,
            "GLX over Xvfb: BadValue (2)",
            (f"the driver is {NEW}; known to serve over Xvfb from 535 on, to refuse up to 418",),
            SMI,
        ),
    ),
    "driver-crash": (
        refusing(failed("egl", "ended by SIGSEGV (11)", "driver-crash"), trial("glx")),
        Finding(
            "driver-crash",
            ERROR,
            "egl: ended by SIGSEGV (11)",
            (),
            "export MODERNGL_COLAB_STRATEGIES=glx,mesa",
        ),
    ),
    "driver-hang": (
        refusing(
            failed("egl", "did not end within 60 s", "driver-hang", stderr=("last words",)),
            failed("mesa", "no", "x"),
        ),
        Finding("driver-hang", ERROR, "egl: did not end within 60 s", ("last words",), SMI),
    ),
    "driver-refused": (
        refusing(failed("egl", "EGL device 0: EGL_BAD_ALLOC (0x3003)"), trial("glx")),
        Finding(
            "driver-refused", WARNING, "egl: EGL device 0: EGL_BAD_ALLOC (0x3003)", (), SMI
        ),
    ),
    "gvisor": (
        refusing(gvisor=True),
        Finding(
            "gvisor",
            ERROR,
            "this is gVisor, which passes the driver's graphics calls on only where it was told to",
            ("/proc/version is gVisor's",),
            "have runsc started with --nvproxy --nvproxy-allowed-driver-capabilities=all, and the "
            "container with NVIDIA_DRIVER_CAPABILITIES=all",
        ),
    ),
    "jetson": (
        refusing(
            jetson=True,
            platform="apptainer",
            nodes=(),
            examined=examined(opened={"libEGL_nvidia.so.0": "libnvrm.so: cannot open"}),
        ),
        Finding(
            "jetson",
            ERROR,
            "this is a Jetson, and the driver's Tegra libraries are not all given to this process",
            ("/etc/nv_tegra_release is there", "libnvrm.so: cannot open"),
            "apptainer run --nv --bind /usr/lib/aarch64-linux-gnu/nvidia ...",
        ),
    ),
    "glibcxx": (
        refusing(
            failed("mesa", "no", "x"),
            conda=True,
            examined=examined(
                opened={f"{LIB}/dri/swrast_dri.so": "version `GLIBCXX_3.4.30' not found"},
                mapped={"libstdc++.so.6": "/opt/conda/lib/libstdc++.so.6.0.29"},
                glibcxx={f"{LIB}/dri/swrast_dri.so": "3.4.30", "libstdc++.so.6": "3.4.29"},
            ),
        ),
        Finding(
            "glibcxx",
            ERROR,
            "swrast_dri.so needs GLIBCXX_3.4.30, and /opt/conda/lib/libstdc++.so.6.0.29 ends at "
            "GLIBCXX_3.4.29",
            ("version `GLIBCXX_3.4.30' not found",),
            "conda install -y -c conda-forge libstdcxx-ng",
        ),
    ),
    "mesa-absent": (
        refusing(failed("mesa", "libEGL lists none", "mesa-absent")),
        Finding(
            "mesa-absent",
            ERROR,
            "Mesa gives no context, not even on the CPU: libEGL lists none",
            (),
            "apt-get update && apt-get install -y libegl-mesa0 libgl1-mesa-dri",
        ),
    ),
    "gpu-other": (
        healthy(
            examined=examined(devices=(EGLDevice(0, True, cuda=1), EGLDevice(1, True, cuda=0))),
            trials=(trial("egl", egl_device=1),),
        ),
        Finding(
            "gpu-other",
            NOTE,
            "EGL's first NVIDIA GPU is not the one that this process was given: that is EGL device "
            "1",
            ("EGL device 0: CUDA ordinal 1", "EGL device 1: CUDA ordinal 0"),
            RUN,
        ),
    ),
    "gpu-other, which cannot be told": (
        refusing(failed("egl", "it cannot be told", "gpu-other", remedy="name it")),
        Finding("gpu-other", ERROR, "it cannot be told", (), "name it"),
    ),
    "mig, by the variable": (
        refusing(failed("egl", "it is a slice", "mig", remedy="ask for a whole GPU")),
        Finding("mig", ERROR, "it is a slice", (), "ask for a whole GPU"),
    ),
    "software-forced": (
        healthy(environ={"LIBGL_ALWAYS_SOFTWARE": "1", "GALLIUM_DRIVER": "llvmpipe"}),
        Finding(
            "software-forced",
            NOTE,
            "LIBGL_ALWAYS_SOFTWARE is set to 1, and that keeps Mesa on the CPU",
            ("LIBGL_ALWAYS_SOFTWARE=1", "GALLIUM_DRIVER=llvmpipe"),
            "unset LIBGL_ALWAYS_SOFTWARE GALLIUM_DRIVER",
        ),
    ),
    "software-forced, for GLX": (
        healthy(environ={"__GLX_VENDOR_LIBRARY_NAME": "mesa"}),
        Finding(
            "software-forced",
            NOTE,
            "__GLX_VENDOR_LIBRARY_NAME is set to mesa, and that leaves NVIDIA's vendor library out",
            (),
            "unset __GLX_VENDOR_LIBRARY_NAME",
        ),
    ),
    "two-drivers": (
        healthy(
            **driver_of(
                COLAB, userland(version=OLD), loader={name: f"{LIB}/{name}" for name in VENDORS}
            )
        ),
        Finding(
            "two-drivers",
            NOTE,
            f"the loader finds {EGL_PATH}, but what fits kernel module {NEW} is "
            f"{FOLDER}/libEGL_nvidia.so.0; here that one is used",
            (
                f"{FOLDER}/libEGL_nvidia.so.0: {NEW}",
                f"{FOLDER}/libGLX_nvidia.so.0: {NEW}",
                f"{EGL_PATH}: {OLD}",
                f"{GLX_PATH}: {OLD}",
            ),
            RUN,
        ),
    ),
    "two-drivers, of one version": (
        healthy(
            **driver_of(
                COLAB, userland(halves="GLX"), loader={VENDORS[1]: GLX_PATH}
            )
        ),
        Finding(
            "two-drivers",
            NOTE,
            f"the loader finds {GLX_PATH}, and what is used here is "
            f"{FOLDER}/libGLX_nvidia.so.0, of the same version",
            (
                f"{FOLDER}/libEGL_nvidia.so.0: {NEW}",
                f"{FOLDER}/libGLX_nvidia.so.0: {NEW}",
                f"{GLX_PATH}: {NEW}",
            ),
            RUN,
        ),
    ),
    "path-hidden": (
        healthy(**driver_of(COLAB), platform="colab"),
        Finding(
            "path-hidden",
            NOTE,
            "the driver is in /usr/lib64-nvidia, where the loader does not look; here it is opened "
            "by its path",
            ("LD_LIBRARY_PATH: not set",),
            f"!{RUN}",
        ),
    ),
    "icd-broken": (
        healthy(vendors=(Vendor("/etc/glvnd/egl_vendor.d/10.json", False, None, None), NVIDIA_ICD)),
        Finding(
            "icd-broken",
            NOTE,
            "/etc/glvnd/egl_vendor.d/10.json is no ICD: libglvnd passes over it",
            (
                "/etc/glvnd/egl_vendor.d/10.json: unreadable",
                f"{NVIDIA_ICD.path}: libEGL_nvidia.so.0",
            ),
            RUN,
        ),
    ),
    "icd-broken, by the user's own word": (
        refusing(
            failed("egl", "libEGL lists no NVIDIA device", "x"),
            vendors=(Vendor("/home/me/10.json", False, "/gone/libEGL_nvidia.so.0", None),),
            environ={"__EGL_VENDOR_LIBRARY_FILENAMES": "/home/me/10.json"},
        ),
        Finding(
            "icd-broken",
            ERROR,
            "/home/me/10.json names /gone/libEGL_nvidia.so.0, which the loader does not find",
            ("/home/me/10.json: /gone/libEGL_nvidia.so.0",),
            "unset __EGL_VENDOR_LIBRARY_FILENAMES",
        ),
    ),
    "icd-broken, a FIFO": (
        healthy(vendors=(Vendor("/usr/share/glvnd/x.json", True, None, None), NVIDIA_ICD)),
        Finding(
            "icd-broken",
            NOTE,
            "/usr/share/glvnd/x.json is no regular file, and libglvnd may wait for ever for it",
            ("/usr/share/glvnd/x.json: unreadable", f"{NVIDIA_ICD.path}: libEGL_nvidia.so.0"),
            RUN,
        ),
    ),
    "icd-missing": (
        healthy(vendors=(MESA_ICD,), platform="kaggle"),
        Finding(
            "icd-missing",
            NOTE,
            f"no ICD tells libglvnd of {EGL_PATH}; here it is told in memory",
            (f"{MESA_ICD.path}: libEGL_mesa.so.0",),
            f"!{RUN}",
        ),
    ),
    "dispatch-foreign": (
        healthy(examined=examined(mapped={"libEGL.so.1": "/opt/conda/lib/libEGL.so.1.1.0"})),
        Finding(
            "dispatch-foreign",
            NOTE,
            "libEGL.so.1 is /opt/conda/lib/libEGL.so.1.1.0, which reads vendors from directories "
            "of its own; here NVIDIA's is offered to it",
            (),
            RUN,
        ),
    ),
    "too-late": (
        healthy(late=True),
        Finding(
            "too-late",
            NOTE,
            "libEGL read its vendors in this process before NVIDIA's was offered; contexts made "
            "here use an instance of their own",
            (),
            RUN,
        ),
    ),
    "wrong-thread": (
        healthy(elsewhere=True),
        Finding(
            "wrong-thread",
            NOTE,
            "the contexts of this process were made in another thread, and a context is current in "
            "one thread at a time",
            (),
            "use a context in the thread that made it, or leave it there, by "
            "ctx.__exit__(None, None, None), and enter it here: with ctx:",
        ),
    ),
    "display-remote": (
        healthy(environ={"DISPLAY": "localhost:10.0"}),
        Finding(
            "display-remote",
            NOTE,
            "DISPLAY names a server of another machine; here a private one is used instead",
            ("DISPLAY=localhost:10.0",),
            "unset DISPLAY",
        ),
    ),
    "nvml-absent": (
        healthy(
            examined=examined(nvml=Answer(error="NVML: Library Not Found (12)", code=12))
        ),
        Finding(
            "nvml-absent",
            NOTE,
            "libnvidia-ml.so.1 cannot be opened, so nothing tells the GPU's name, memory and MIG "
            "mode",
            ("NVML: Library Not Found (12)",),
            "install libnvidia-ml.so.1 of exactly the kernel module's version, from its packages",
        ),
    ),
    "userland-partial, broken": (
        refusing(
            failed("egl", "no", "userland-partial"),
            userland=userland()._replace(cut_short=(EGL_PATH,)),
            examined=examined(opened={EGL_PATH: f"{EGL_PATH}: file too short"}),
        ),
        Finding(
            "userland-partial",
            ERROR,
            f"the loader says: {EGL_PATH}: file too short",
            (KERNEL_LINE, f"{EGL_PATH}: {NEW}", f"{GLX_PATH}: {NEW}"),
            INSTALL,
        ),
    ),
    "userland-partial, broken after it was fetched": (
        refusing(failed("egl", "no", "userland-partial"), **DAMAGED, platform="docker"),
        Finding(
            "userland-partial", ERROR, "the loader says: no loadable segments",
            (KERNEL_LINE, *STORED), INSTALL,
        ),
    ),
    "userland-partial, broken after it was fetched for a module that is hidden": (
        refusing(failed("egl", "no", "userland-partial"), **DAMAGED, module=None),
        Finding(
            "userland-partial", ERROR, "the loader says: no loadable segments",
            STORED, f"{INSTALL} --version {NEW}",
        ),
    ),
    "userland-partial, broken where another one would be ignored": (
        refusing(
            failed("egl", "no", "userland-partial"),
            examined=examined(opened={EGL_PATH: f"{EGL_PATH}: undefined symbol: x"}),
        ),
        Finding(
            "userland-partial",
            ERROR,
            f"the loader says: {EGL_PATH}: undefined symbol: x",
            (KERNEL_LINE, f"{EGL_PATH}: {NEW}", f"{GLX_PATH}: {NEW}"),
            SMI,
        ),
    ),
    "userland-partial, without X11": (
        refusing(
            failed("glx", "no", "userland-partial"),
            **driver_of(userland(), loader=loader(userland())),
            examined=examined(
                opened={GLX_PATH: "libX11.so.6: cannot open", "libX11.so.6": "cannot open"}
            ),
        ),
        Finding(
            "userland-partial",
            ERROR,
            "the loader says: libX11.so.6: cannot open",
            (KERNEL_LINE, f"{EGL_PATH}: {NEW}", f"{GLX_PATH}: {NEW}"),
            "apt-get update && apt-get install -y libx11-6 libxext6",
        ),
    ),
    "software-forced, where GLX alone is left": (
        refusing(
            **driver_of(userland(halves="GLX"), loader=loader(userland())),
            vendors=(MESA_ICD,),
            environ={"__GLX_VENDOR_LIBRARY_NAME": "mesa"},
        ),
        Finding(
            "software-forced",
            ERROR,
            "__GLX_VENDOR_LIBRARY_NAME is set to mesa, and that leaves NVIDIA's vendor library out",
            (),
            "unset __GLX_VENDOR_LIBRARY_NAME",
        ),
    ),
    "software-forced, by our own variable": (
        healthy(environ={"MODERNGL_COLAB_STRATEGIES": "mesa"}),
        Finding(
            "software-forced",
            WARNING,
            "MODERNGL_COLAB_STRATEGIES is set to mesa, and that leaves NVIDIA's driver out",
            (),
            "unset MODERNGL_COLAB_STRATEGIES",
        ),
    ),
    "driver-crash, avoided": (
        refusing(
            failed("egl", "ended by SIGSEGV (11)", "driver-crash"),
            trial("glx"),
            environ={"MODERNGL_COLAB_STRATEGIES": "glx,mesa"},
        ),
        Finding(
            "driver-crash",
            NOTE,
            "egl: ended by SIGSEGV (11)",
            (),
            "export MODERNGL_COLAB_STRATEGIES=glx,mesa",
        ),
    ),
    "driver-crash, of no consequence": (
        healthy(trials=(trial("egl"), trial("glx"), failed("mesa", "SIGSEGV", "driver-crash"))),
        Finding(
            "driver-crash", NOTE, "mesa: SIGSEGV", (), "export MODERNGL_COLAB_STRATEGIES=egl,glx"
        ),
    ),
    "driver-hang, of NVML": (
        healthy(examined=examined(nvml=None, unanswered={"NVML": "did not answer in time"})),
        Finding(
            "driver-hang",
            NOTE,
            "NVML: the process that asked for it did not answer in time",
            (),
            SMI,
        ),
    ),
    "driver-absent, without its nodes": (
        refusing(nodes=()),
        Finding(
            "driver-absent",
            ERROR,
            "no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, and kernel module "
            "550.54.15 is loaded",
            (KERNEL_LINE,),
            "nvidia-modprobe -u -c 0",
        ),
    ),
    "xvfb-start, alone": (
        HEALTHY._replace(trials=(failed("glx", "no /tmp", "xvfb-start", remedy="cure"),)),
        Finding("xvfb-start", ERROR, "no /tmp", (), "cure"),
    ),
    "icd-override, by both variables": (
        refusing(
            vendors=(MESA_ICD,),
            environ={
                "__EGL_VENDOR_LIBRARY_FILENAMES": MESA_ICD.path,
                "__EGL_VENDOR_LIBRARY_DIRS": "/nowhere",
            },
        ),
        Finding(
            "icd-override",
            ERROR,
            f"__EGL_VENDOR_LIBRARY_FILENAMES is set to {MESA_ICD.path}, and that leaves NVIDIA's "
            "vendor library out",
            (),
            "unset __EGL_VENDOR_LIBRARY_FILENAMES __EGL_VENDOR_LIBRARY_DIRS",
        ),
    ),
}  # fmt: skip
AFTER = {"userland-outdated": ["userland-absent"]}
ALSO = {"apt-stub": {"userland-mismatch"}, "software-forced": {"userland-partial"}}


@pytest.mark.parametrize("case", CASES)
def test_facts_lead_to_the_finding_and_to_no_other(case: str) -> None:
    machine, expected = CASES[case]

    found = findings(machine)

    before = AFTER.get(expected.code, [])
    assert [finding.code for finding in found[: len(before)]] == before
    assert found[len(before)] == expected
    # A stub explains the mismatch that it leads to; the mismatch is there all the same.
    assert {f.code for f in found[len(before) + 1 :]} <= ALSO.get(expected.code, set())


def test_every_code_has_a_case() -> None:
    assert {finding.code for _, finding in CASES.values()} == set(CODES)


def test_a_healthy_machine_has_no_findings() -> None:
    assert findings(HEALTHY) == ()
    assert findings(HEALTHY._replace(xvfb=None, trials=(trial("egl"), trial("mesa")))) == ()
    assert blocking(HEALTHY) is None


def test_a_driver_that_is_kept_for_another_host_is_no_trouble_where_the_own_one_serves() -> None:
    assert findings(healthy(kept=(OLD,))) == ()


def test_gpus_that_a_job_was_not_given_are_no_trouble() -> None:
    others = (*NODES, Node("/dev/nvidia1", errno.EPERM), Node("/dev/nvidia2", errno.EACCES))

    assert findings(HEALTHY._replace(nodes=others)) == ()


def test_one_whole_gpu_among_slices_is_no_matter_of_mig() -> None:
    gpus = (GPU("A100 a", False), GPU("A100 b", True))
    machine = refusing(failed("egl", "no"), examined=examined(nvml=Answer(driver=NEW, gpus=gpus)))

    assert [finding.code for finding in findings(machine)] == ["driver-refused"]


def test_what_could_not_be_tried_is_not_the_drivers_refusal() -> None:
    skipped = Trial("egl", Outcome.SKIPPED, "no process could be started to try it")

    assert findings(HEALTHY._replace(trials=(skipped,))) == ()


def test_an_icd_of_a_driver_that_is_not_there_is_not_to_be_removed() -> None:
    dangling = NVIDIA_ICD._replace(found=None)
    machine = refusing(**driver_of(GONE), vendors=(dangling, MESA_ICD))

    assert [finding.code for finding in findings(machine)] == ["userland-absent"]


def test_an_icd_of_a_driver_that_can_be_mended_is_not_to_be_removed() -> None:
    machine = refusing(**DAMAGED, vendors=(NVIDIA_ICD._replace(found=None), MESA_ICD))

    found = {finding.code: finding.remedy for finding in findings(machine)}
    assert found == {"userland-partial": INSTALL, "icd-broken": RUN}


@pytest.mark.parametrize("strategy", ["mesa"])
@pytest.mark.parametrize("changes", [{"xvfb": None}, {"jetson": True}])
def test_what_was_not_tried_is_not_said_to_have_failed(
    strategy: str, changes: dict[str, Any]
) -> None:
    assert findings(HEALTHY._replace(trials=(trial(strategy),), **changes)) == ()


def test_the_variable_that_wins_in_libglvnd_is_the_one_that_counts() -> None:
    both = {"__GLX_VENDOR_LIBRARY_NAME": "mesa", "__GLX_FORCE_VENDOR_LIBRARY_0": "nvidia"}

    assert findings(refusing(trial("glx"), failed("egl", "no", "x"), environ=both)) == ()


def test_on_wsl2_only_what_keeps_mesa_from_the_gpu_blocks_programs() -> None:
    wsl = BARE._replace(nodes=(Node("/dev/dxg"),), wsl_libraries=True, d3d12=True, trials=())
    forced = wsl._replace(environ={"LIBGL_ALWAYS_SOFTWARE": "1"})
    found = [blocking(machine) for machine in (wsl, forced, wsl._replace(wsl_libraries=False))]

    assert [finding and finding.code for finding in found] == [None, "software-forced", "wsl2"]


def test_gvisor_is_told_before_anybody_tries() -> None:
    (found,) = findings(HEALTHY._replace(gvisor=True, trials=()))

    assert (found.code, found.severity) == ("gvisor", WARNING)


def test_the_error_comes_before_the_warning_and_the_note() -> None:
    machine = refusing(
        failed("egl", "ended by SIGSEGV (11)", "driver-crash"),
        trial("glx"),
        vendors=(MESA_ICD,),
        examined=examined(opened={"libEGL.so.1": NO_LIBEGL}),
    )

    assert [(f.code, f.severity) for f in findings(machine)] == [
        ("driver-crash", ERROR),
        ("dispatch-absent", WARNING),
        ("icd-missing", NOTE),
    ]


def test_what_was_not_asked_for_is_not_held_against_a_machine() -> None:
    assert findings(HEALTHY._replace(examined=None, trials=())) == ()


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (BARE, "driver-absent"),
        (refusing(nodes=(Node("/dev/nvidiactl", errno.EACCES),)), "driver-absent"),
        (refusing(privileged=True), "privileged"),
        (refusing(environ={"CUDA_VISIBLE_DEVICES": "-1"}), "gpu-hidden"),
    ],
)
def test_what_looking_tells_is_what_blocks_every_program(machine: Machine, code: str) -> None:
    found = blocking(machine._replace(examined=None, trials=()))

    assert found is not None
    assert (found.code, found.severity) == (code, ERROR)


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        (None, False),
        ("0", False),
        ("2,0", False),
        (" 1", False),
        ("1gpu2", False),
        ("GPU-57a2d100", False),
        ("GPU-57a2d1", True),
        ("GPU-57a2d1ff", True),
        ("MIG-GPU-57a2d100/1/0", False),
        ("", True),
        ("-1", True),
        ("-1,0", True),
        ("3", True),
        ("007", True),
        ("99999999999999999999", True),
        ("NoDevFiles", True),
        (",0", True),
    ],
)
def test_cuda_visible_devices_hides_every_gpu_as_cuda_reads_it(
    value: str | None, hidden: bool
) -> None:
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    three = (*NODES, Node("/dev/nvidia1"), Node("/dev/nvidia2"))

    gpus = tuple(GPU("Tesla T4", False, uuid=f"GPU-57a2d10{number}") for number in range(3))

    found = findings(
        refusing(environ=environ, nodes=three, examined=examined(nvml=Answer(gpus=gpus)))
    )

    assert ("gpu-hidden" in {finding.code for finding in found}) is hidden
