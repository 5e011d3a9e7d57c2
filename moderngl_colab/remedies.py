"""What mends a cause, in the words and commands of the machine's platform.

No package of the driver is ever named: ``apt install libnvidia-gl-550`` brings another version than
the kernel module's (since 2026, on Ubuntu 22.04, 580). Nothing here uses sudo.
"""

from __future__ import annotations

from moderngl_colab._kernel import Node
from moderngl_colab.machine import Machine

__all__ = [
    "ASK_SMI",
    "NOTEBOOKS",
    "PROGRAM",
    "STRATEGIES_VARIABLE",
    "agree",
    "anew",
    "assign",
    "give_d3d12",
    "give_gpu",
    "give_graphics",
    "give_nodes",
    "give_nvml",
    "give_tegra",
    "give_tmp",
    "install",
    "install_driver",
    "let_in",
    "other_programs",
    "remove",
    "shell",
    "unset",
]

# Reading and writing, for everybody and for the group.
_EVERYBODYS, _GROUPS = 0o006, 0o060

ASK_SMI = "nvidia-smi shows whether the driver itself works"
STRATEGIES_VARIABLE = "MODERNGL_COLAB_STRATEGIES"
PROGRAM = "python -m moderngl_colab"
NOTEBOOKS = ("colab", "kaggle")
"""Platforms whose users paste what mends a cause into a cell."""

# What has to be installed, by installer. conda has no Mesa drivers and no Xvfb of its own.
_PACKAGES = {
    "dispatch": {
        "apt-get": "libegl1 libgl1",
        "dnf": "libglvnd-egl libglvnd-glx",
        "conda": "libegl libgl",
    },
    "x11": {
        "apt-get": "libx11-6 libxext6",
        "dnf": "libX11 libXext",
        "conda": "xorg-libx11 xorg-libxext",
    },
    "mesa": {
        "apt-get": "libegl-mesa0 libgl1-mesa-dri",
        "dnf": "mesa-libEGL mesa-libGL mesa-dri-drivers",
    },
    "xvfb": {"apt-get": "xvfb", "dnf": "xorg-x11-server-Xvfb"},
    "xkb": {
        "apt-get": "--reinstall xvfb xkb-data x11-xkb-utils",
        "dnf": "xorg-x11-server-Xvfb xkeyboard-config xkbcomp",
    },
}
_UNKNOWN_INSTALLER = {
    "dispatch": "install libglvnd's libEGL.so.1 and libGL.so.1",
    "x11": "install libX11.so.6 and libXext.so.6",
    "mesa": "install Mesa's EGL vendor library and its drivers",
    "xvfb": "install Xvfb",
    "xkb": "install xkbcomp and the keyboard data that Xvfb needs",
}
_RECREATE = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."
_ANOTHER_INSTANCE = "stop the instance and start it again; if that is no help, rent another one"
_NV = "apptainer run --nv --bind /usr/share/glvnd/egl_vendor.d/10_nvidia.json ..."
_GIVE_GPU = {
    "kaggle": "choose the menu Settings > Accelerator > GPU T4 x2",
    "colab": "choose the menu Runtime > Change runtime type > T4 GPU",
    "rented": "rent an instance that has an NVIDIA GPU",
    "kubernetes": 'add "nvidia.com/gpu: 1" to the container\'s resources.limits',
    "apptainer": _NV,
    "docker": _RECREATE,
    "slurm": "srun --gres=gpu:1 ...",
    "host": "run this on a machine with an NVIDIA GPU and its driver",
}
_GIVE_GRAPHICS = {
    "kubernetes": 'add "runtimeClassName: nvidia" to the pod\'s spec and "- {name: '
    "NVIDIA_DRIVER_CAPABILITIES, value: all}\" to the container's env",
    "apptainer": _NV,
    "docker": _RECREATE,
}


def install(machine: Machine, what: str) -> str:
    """The command that installs what is missing: ``"dispatch"``, ``"x11"``, ``"xvfb"`` or so."""
    packages = _PACKAGES[what]
    if machine.conda and "conda" in packages:
        return shell(machine, f"conda install -y -c conda-forge {packages['conda']}")
    if machine.installer is None:
        return _UNKNOWN_INSTALLER[what]
    return _as_root(machine, _install(machine.installer, packages[machine.installer]))


def give_gpu(machine: Machine) -> str:
    """What gives this machine, or this container, a GPU."""
    return _GIVE_GPU[machine.platform]


def give_graphics(machine: Machine) -> str:
    """What gives it the OpenGL half of the driver, of exactly the kernel module's version."""
    anew = _GIVE_GRAPHICS.get(machine.platform)
    if machine.has_whole_driver:  # Another one is of no use then, nor is it taken.
        return anew or ASK_SMI
    return "; or here: ".join(filter(None, (anew, install_driver(machine))))


def give_nvml(machine: Machine) -> str:
    """What gives it NVML, which is no part of the OpenGL half."""
    own = "install libnvidia-ml.so.1 of exactly the kernel module's version, from its packages"
    return _GIVE_GRAPHICS.get(machine.platform, own)


def install_driver(machine: Machine) -> str:
    """What fetches it for this user alone."""
    command = shell(machine, f"{PROGRAM} install-driver")
    if machine.uses_kept and machine.module is None:  # Nobody tells it the version.
        command = f"{command} --version {machine.userland.version}"
    # Nobody can answer a question in a cell.
    return f"{command} --accept-license" if machine.platform in NOTEBOOKS else command


def give_d3d12(machine: Machine) -> str:
    """What gives OpenGL the GPU on WSL2; where it has it, what spares the other ways."""
    if machine.on_gpu:
        return assign(machine, STRATEGIES_VARIABLE, "mesa")
    if not machine.d3d12:
        return install(machine, "mesa")
    if machine.wsl_libraries:
        return "export GALLIUM_DRIVER=d3d12 LD_LIBRARY_PATH=/usr/lib/wsl/lib"
    if machine.platform == "docker":
        mount = "-v /usr/lib/wsl:/usr/lib/wsl -e LD_LIBRARY_PATH=/usr/lib/wsl/lib"
        return f"docker run --gpus all {mount} ..."
    return "in Windows: wsl --update, then wsl --shutdown"


def give_tegra(machine: Machine) -> str:
    """What gives a Jetson's container, or the Jetson itself, all of its driver."""
    if machine.platform == "apptainer":
        return "apptainer run --nv --bind /usr/lib/aarch64-linux-gnu/nvidia ..."
    if machine.platform == "host":
        return _as_root(machine, _install("apt-get", "nvidia-l4t-3d-core"))
    return "docker run --runtime nvidia -e NVIDIA_DRIVER_CAPABILITIES=all ..."


def give_nodes(machine: Machine) -> str:
    """What makes the device nodes of a driver whose kernel module is loaded."""
    if machine.platform == "host":
        return _as_root(machine, "nvidia-modprobe -u -c 0")
    return give_gpu(machine)


def let_in(machine: Machine, node: Node) -> str:
    """What lets this user open a device node."""
    if node.mode & _EVERYBODYS == _EVERYBODYS:
        if machine.platform == "docker":
            return "docker run --gpus all --security-opt label=disable ..."
        if machine.platform == "rented":
            return _ANOTHER_INSTANCE
        return "ask who is root here what SELinux or AppArmor forbids: ausearch -m avc -ts recent"
    if node.mode & _GROUPS != _GROUPS:
        return _by_root(f"chmod a+rw {node.path}")
    if machine.platform == "docker":
        return f"docker run --gpus all --group-add {node.group} ..."
    if machine.platform == "kubernetes":
        return f'add "supplementalGroups: [{node.group}]" to the pod\'s securityContext'
    group = node.group_name or "gpu"
    made = "" if node.group_name else f"groupadd -g {node.group} gpu && "
    return _by_root(f"{made}usermod -aG {group} YOUR_NAME; then log in again")


def agree(machine: Machine, nvml: bool = False) -> str:
    """What brings both halves of the driver to one version, or NVML alone, if that is wrong."""
    cure = give_nvml(machine) if nvml else give_graphics(machine)
    # After an upgrade the old module stays loaded. No container can reboot its host.
    upgraded = machine.platform in ("host", "slurm")
    return f"reboot if the driver was upgraded just now, else {cure}" if upgraded else cure


def anew(machine: Machine) -> str:
    """What starts a container or a job anew, with its devices."""
    fresh = {
        "kubernetes": "delete the pod, so that it is created anew with its devices",
        "docker": f"{_RECREATE} (a new container; the rules of this one are lost)",
        "slurm": "srun --gres=gpu:1 ... (a new job, with the GPU among its devices)",
        "colab": "choose the menu Runtime > Disconnect and delete runtime, and connect again",
        "rented": _ANOTHER_INSTANCE,
        "kaggle": "choose the menu Run > Restart & clear cell outputs",
        "host": "add to the unit that starts it: DeviceAllow=/dev/nvidiactl rw, and the same for "
        "/dev/nvidia0",
    }
    return fresh.get(machine.platform, give_gpu(machine))


def unset(machine: Machine, *variables: str) -> str:
    """What takes variables away from the process that asks for a context."""
    if machine.platform in NOTEBOOKS:
        return "; ".join(["import os", *(f'del os.environ["{name}"]' for name in variables)])
    return " ".join(["unset", *variables])


def assign(machine: Machine, variable: str, value: str) -> str:
    """What sets a variable for the process that asks for a context."""
    if machine.platform in NOTEBOOKS:
        return f'import os; os.environ["{variable}"] = "{value}"'
    return f"export {variable}={value}"


def other_programs(machine: Machine) -> str:
    """What runs a program that is not ours with what is mended here."""
    return shell(machine, f"{PROGRAM} run -- PROGRAM ...")


def remove(machine: Machine, path: str) -> str:
    """What removes a file of the system's."""
    import shlex

    return _as_root(machine, f"rm {shlex.quote(path)}")


def give_tmp(machine: Machine) -> str:
    """What gives Xvfb a /tmp that it can write to."""
    if machine.platform == "docker":
        return "docker run --gpus all --tmpfs /tmp ..."
    if machine.platform == "kubernetes":
        return "mount an emptyDir at /tmp"
    if machine.platform == "rented":  # Its root may mount nothing.
        return _as_root(machine, "chmod 1777 /tmp")
    return _as_root(machine, "mount -t tmpfs -o mode=1777 tmpfs /tmp")


def _install(installer: str, packages: str) -> str:
    # Images for containers come without package lists.
    update = "apt-get update && " if installer == "apt-get" else ""
    return f"{update}{installer} install -y {packages}"


def _as_root(machine: Machine, command: str) -> str:
    """The command, if it is one that this user may run."""
    return shell(machine, command) if machine.is_root else _by_root(command)


def _by_root(command: str) -> str:
    return f"ask who is root here to run: {command}"


def shell(machine: Machine, command: str) -> str:
    """A command, as this platform takes one."""
    return f"!{command}" if machine.platform in NOTEBOOKS else command
