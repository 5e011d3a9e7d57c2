"""What the caller of install_driver() asks for, checked before anything is touched."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from moderngl_colab import _files, _kernel, _nvml
from moderngl_colab.installer import place as places
from moderngl_colab.installer import record
from moderngl_colab.installer.place import Place
from moderngl_colab.installer.source import DriverInstallError, Wanted

__all__ = ["check", "path", "place", "refuse_unusable", "wanted"]

_MACHINES = ("x86_64", "aarch64")
_LONGEST = 86400  # seconds
_ESCAPED = re.compile(r"[ \t\n\\]")  # in /proc/self/mountinfo: proc_pid_mountinfo(5)


def check(version: Any, timeout: Any, *, accept_license: Any = False, progress: Any = None) -> None:
    """Refuse what is of a wrong type, and a time that is none.

    Raises:
        TypeError: the first of them that is not what it has to be; it names it.
        ValueError: the time limit is none of more than 0 and at most 86400 seconds.
    """
    if not isinstance(version, str | None):
        raise TypeError(f"version={version!r}: a text is needed, such as '550.54.15'")
    if not (isinstance(accept_license, bool) or callable(accept_license)):
        raise TypeError(f"accept_license={accept_license!r}: True, False or a function is needed")
    if not (progress is None or callable(progress)):
        raise TypeError(f"progress={progress!r}: a function is needed")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout={timeout!r}: a number of seconds is needed")
    if not 0 < timeout <= _LONGEST:  # NaN is not, either.
        raise ValueError(
            f"timeout={timeout!r}: a number of seconds above 0 is needed, {_LONGEST} at most"
        )


def path(name: str, value: str | os.PathLike[str] | None) -> str | None:
    """A path as text; None where none is given.

    Raises:
        TypeError: it is no path; the text names the argument.
    """
    if value is None:
        return None
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: a path is needed, not {type(value).__name__}") from None


def wanted(version: str | None) -> Wanted:
    """Which driver it has to be: for this machine, and in the kernel module's version by default.

    Raises:
        DriverInstallError: nobody tells it, or it is no version.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise DriverInstallError(f"there is no such driver for {machine}, but for x86_64, aarch64")
    if version is None:
        version = _kernel.version() or _of_nvml()
    if not _kernel.is_version(version):
        raise DriverInstallError(
            f"{version!r} is no version of NVIDIA's driver; they are written like 550.54.15"
        )
    return Wanted(version, machine)


def _of_nvml() -> str:
    say = "say version= (--version), such as 550.54.15"
    nodes = [node.path for node in _kernel.nodes()]
    if any(path.endswith("/dxg") for path in nodes):  # NVML would tell the version for Windows.
        raise DriverInstallError(
            "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and no driver of NVIDIA's "
            f"for Linux is of use; to install one all the same, {say}"
        )
    answer = _nvml.ask()
    if answer.driver is not None:
        return answer.driver
    if any("/dri/" not in path for path in nodes):
        raise DriverInstallError(
            "which version is wanted cannot be told: no NVIDIA kernel module is loaded, and "
            f"{answer}: {say}"
        )
    raise DriverInstallError(
        "this machine has been given no NVIDIA GPU, as far as can be seen: there is no "
        f"/dev/nvidiactl, no NVIDIA kernel module is loaded, and {answer}; to install a driver all "
        f"the same, {say}"
    )


def place(driver: Wanted, dest: str | None) -> Place:
    """Where it is to lie.

    Arguments:
        driver: which it is.
        dest: the folder that the caller names; None for the store.

    Raises:
        DriverInstallError: that is no folder, or has what was not installed there; or this user
            has no home folder.
    """
    if dest is None:
        return places.of_store(str(driver), os.environ)
    if not dest or "\0" in dest:
        raise DriverInstallError(f"{dest!r} is no folder to install to")
    try:
        chosen = places.of_folder(dest)
    except FileNotFoundError as error:
        raise DriverInstallError(f"{dest!r} is in a folder that was removed") from error
    with places.told(chosen), contextlib.suppress(FileNotFoundError):
        if not record.is_all(chosen.folder):
            raise DriverInstallError(f"{chosen.folder} has files that no installation put there")
    return chosen


def refuse_unusable(at: Place) -> None:
    """Refuse a place that cannot be exchanged.

    Raises:
        DriverInstallError: it is a mount point, or the current folder.
    """
    if _is_mounted(at.folder):
        raise DriverInstallError(
            f"{at.folder} is a mount point, which cannot be exchanged: choose a folder below it"
        )
    with contextlib.suppress(OSError):  # One of them is not there.
        if os.path.samefile(at.folder, "."):
            raise DriverInstallError(
                f"{at.folder} is the current folder, which would be exchanged for another one: "
                "choose a folder below it, or go to another one before"
            )


def _is_mounted(folder: str) -> bool:
    lines = _files.read_text("/proc/self/mountinfo").splitlines()
    # To stat(2) a folder that is mounted from the same file system is like any other.
    written = _ESCAPED.sub(lambda found: f"\\{ord(found[0]):03o}", folder)
    return os.path.ismount(folder) or any(written in line.split(" ")[4:5] for line in lines)
