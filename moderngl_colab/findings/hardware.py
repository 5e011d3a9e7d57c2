"""Causes in the kernel's half: the GPU, its device nodes, sandboxes and slices."""

from __future__ import annotations

import errno

from moderngl_colab import _cuda, _kernel, _match, remedies
from moderngl_colab._cuda import NoneGivenError
from moderngl_colab.findings.finding import Finding, Severity
from moderngl_colab.machine import Machine

__all__ = [
    "device_cgroup",
    "device_permission",
    "driver_absent",
    "gpu_hidden",
    "gpu_other",
    "gvisor",
    "hidden",
    "jetson",
    "mig",
    "not_linux",
    "nvml_absent",
    "wsl2",
]

_NVML_NOT_FOUND = 12


def not_linux(machine: Machine) -> Finding | None:
    """GPU contexts of other systems come from the system itself."""
    if machine.system == "linux":
        return None
    return Finding(
        "not-linux",
        Severity.ERROR,
        f"moderngl_colab serves Linux; on {machine.system} the system itself gives GPU contexts",
        (f"sys.platform: {machine.system}",),
        "moderngl.create_context(standalone=True)",
    )


def wsl2(machine: Machine) -> Finding | None:
    """Windows lends its GPU by another way than NVIDIA's."""
    if machine.gpus or not any(node.path.endswith("/dxg") for node in machine.nodes):
        return None
    return Finding(
        "wsl2",
        Severity.NOTE if machine.on_gpu else Severity.ERROR,
        "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and not by NVIDIA's driver",
        (
            "/dev/dxg is there, /dev/nvidiactl is not",
            f"/usr/lib/wsl/lib is {'there' if machine.wsl_libraries else 'not there'}",
        ),
        remedies.give_d3d12(machine),
    )


def jetson(machine: Machine) -> Finding | None:
    """Tegra's driver needs libraries that other GPUs' drivers do not have."""
    if not machine.jetson or not machine.refused:
        return None
    opened = machine.examined.opened if machine.examined is not None else {}
    errors = tuple(text for name, text in opened.items() if text and "nvidia" in name)
    return Finding(
        "jetson",
        Severity.ERROR,
        "this is a Jetson, and the driver's Tegra libraries are not all given to this process",
        ("/etc/nv_tegra_release is there", *errors),
        remedies.give_tegra(machine),
    )


def driver_absent(machine: Machine) -> Finding | None:
    """No NVIDIA GPU is given to this process."""
    if machine.gpus or machine.jetson or wsl2(machine) is not None:
        return None
    # The host's kernel module shows in containers that were given no GPU, too.
    node = "nvidiactl" if machine.control is None else "nvidia0"
    module = machine.module
    loaded = "no kernel module is" if module is None else f"kernel module {module.version} is"
    return Finding(
        "driver-absent",
        Severity.ERROR,
        f"no NVIDIA GPU is given to this machine: there is no /dev/{node}, and {loaded} loaded",
        () if module is None else (f"{module.path}: {module.version}",),
        remedies.give_gpu(machine) if module is None else remedies.give_nodes(machine),
    )


def device_permission(machine: Machine) -> Finding | None:
    """The device nodes belong to a group that this user is not in."""
    node = _shut(machine, errno.EACCES)
    if node is None:
        return None
    named = f"{node.group} ({node.group_name})" if node.group_name else str(node.group)
    return Finding(
        "device-permission",
        Severity.ERROR,
        f"{node.path} belongs to group {named} with mode {node.mode:04o}, and this user may not "
        "open it",
        _refusals(machine),
        remedies.let_in(machine, node),
    )


def device_cgroup(machine: Machine) -> Finding | None:
    """The control group's rules keep this process from nodes that it can see."""
    node = _shut(machine, errno.EPERM)
    if node is None:
        return None
    return Finding(
        "device-cgroup",
        Severity.ERROR,
        f"{node.path} is there, but the control group of this process may not use it",
        _refusals(machine),
        remedies.anew(machine),
    )


def gpu_hidden(machine: Machine) -> Finding | None:
    """The process was told to use no GPU; it is obeyed."""
    if not machine.gpus or _cuda.VISIBLE_VARIABLE not in machine.environ:
        return None
    nvml = machine.examined.nvml if machine.examined is not None else None
    open_ones = [node for node in machine.gpus if not node.error]
    gpus = () if nvml is None else nvml.gpus
    try:
        _match.given(gpus, len(gpus or open_ones or machine.gpus), machine.environ)
    except NoneGivenError:
        return hidden(machine)
    return None


def hidden(machine: Machine) -> Finding:
    """The variable names GPUs, and none of them is there."""
    value = machine.environ[_cuda.VISIBLE_VARIABLE]
    return Finding(
        "gpu-hidden",
        Severity.ERROR,
        f'{_cuda.VISIBLE_VARIABLE} is "{value}", and that leaves this process no GPU',
        (),
        remedies.give_gpu(machine)
        if machine.platform == "slurm"
        else remedies.unset(machine, _cuda.VISIBLE_VARIABLE),
    )


def gpu_other(machine: Machine) -> Finding | None:
    """EGL's first GPU is not the first one that CUDA gives this process, or cannot be told."""
    trial = machine.trial("egl")
    listed = machine.examined.devices if machine.examined is not None else None
    nvidia = [device for device in listed or () if device.is_nvidia]
    if trial is not None and trial.cause == "gpu-other":
        remedy = trial.remedy or remedies.ASK_SMI
        return Finding("gpu-other", Severity.ERROR, trial.reason, (), remedy)
    if trial is None or not trial.on_gpu or not nvidia or trial.egl_device == nvidia[0].number:
        return None
    return Finding(
        "gpu-other",
        Severity.NOTE,
        f"EGL's first NVIDIA GPU is not the one that this process was given: that is EGL device "
        f"{trial.egl_device}",
        tuple(
            f"EGL device {device.number}: CUDA ordinal "
            f"{'none' if device.cuda is None else device.cuda}"
            for device in nvidia
        ),
        remedies.other_programs(machine),
    )


def mig(machine: Machine) -> Finding | None:
    """The GPU is cut into slices, which on compute cards cannot draw."""
    trial = machine.trial("egl")
    if trial is not None and trial.cause == "mig" and trial.remedy is not None:
        return Finding("mig", Severity.ERROR, trial.reason, (), trial.remedy)
    nvml = machine.examined.nvml if machine.examined is not None else None
    if nvml is None or nvml.sliced is None or machine.on_gpu:
        return None
    return Finding(
        "mig",
        Severity.ERROR,
        f"{nvml.sliced} is in MIG mode, and a MIG slice of a compute card has no graphics",
        (),
        "ask for a whole GPU; its administrator can end MIG mode with nvidia-smi -mig 0",
    )


def gvisor(machine: Machine) -> Finding | None:
    """The sandbox passes on only those calls of the driver that it was told to."""
    if not machine.gvisor or not machine.gpus or machine.on_gpu:
        return None
    return Finding(
        "gvisor",
        # Where nobody tried, it may have been told.
        Severity.ERROR if machine.refused else Severity.WARNING,
        "this is gVisor, which passes the driver's graphics calls on only where it was told to",
        ("/proc/version is gVisor's",),
        "have runsc started with --nvproxy --nvproxy-allowed-driver-capabilities=all, and the "
        "container with NVIDIA_DRIVER_CAPABILITIES=all",
    )


def nvml_absent(machine: Machine) -> Finding | None:
    """NVML does not come with every container; that is no proof of no GPU."""
    nvml = machine.examined.nvml if machine.examined is not None else None
    if nvml is None or nvml.code != _NVML_NOT_FOUND or not machine.gpus:
        return None
    return Finding(
        "nvml-absent",
        Severity.NOTE,
        "libnvidia-ml.so.1 cannot be opened, so nothing tells the GPU's name, memory and MIG mode",
        (str(nvml),),
        remedies.give_nvml(machine),
    )


def _shut(machine: Machine, code: int) -> _kernel.Node | None:
    """The node that keeps the process out for this reason, if no GPU is left to it.

    Jobs that were given some of the GPUs see the nodes of all, and may not open the others.
    """
    if machine.control is not None and machine.control.error == code:
        return machine.control
    if not machine.gpus or not all(node.error for node in machine.gpus):
        return None
    return next((node for node in machine.gpus if node.error == code), None)


def _refusals(machine: Machine) -> tuple[str, ...]:
    return tuple(
        f"{node.path}: {errno.errorcode.get(node.error, node.error)}"
        for node in machine.nodes
        if node.error
    )
