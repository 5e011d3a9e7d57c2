"""The kernel's half of the driver: its module's version, its device nodes."""

from __future__ import annotations

import dataclasses
import errno
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from moderngl_colab import _kernel
from rig import machines


def write(root: Path, name: str, content: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LINE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  "
    "(dvs-builder@U22-I3-AE18-23-3)  Wed Aug 27 16:00:38 UTC 2025\n"
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (LINE, "550.54.15"),
        (OPEN, "580.82.07"),
        ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  535.98  Mon\n", "535.98"),
        (LINE + "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n", "550.54.15"),
        ("", None),
        ("NVRM version: NVIDIA UNIX", None),
        ("nonsense \xff\xfe 12.2.0\n", None),
    ],
)
def test_the_kernel_modules_version_is_read_from_proc(
    tmp_path: Path, text: str, version: str | None
) -> None:
    write(tmp_path, "proc/driver/nvidia/version", text)

    assert _kernel.version(str(tmp_path)) == version


def test_the_kernel_modules_version_is_read_from_sys_where_proc_lacks_it(tmp_path: Path) -> None:
    write(tmp_path, "sys/module/nvidia/version", "550.54.15\n")

    assert _kernel.version(str(tmp_path)) == "550.54.15"


def test_without_a_kernel_module_there_is_no_version(tmp_path: Path) -> None:
    assert _kernel.version(str(tmp_path)) is None


def test_bytes_instead_of_text_are_survived(tmp_path: Path) -> None:
    write(tmp_path, "proc/driver/nvidia/version", b"\xff\x00\xfe" * 1000)

    assert _kernel.version(str(tmp_path)) is None


def test_the_device_nodes_come_with_whether_they_may_be_opened(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia3", "nvidiactl", "nvidia-uvm", "null", "dri/renderD128"):
        write(tmp_path, f"dev/{name}", "").chmod(0o660)

    found = _kernel.nodes(str(tmp_path))

    names = [node.path.removeprefix(f"{tmp_path}/dev/") for node in found]
    assert names == ["nvidiactl", "nvidia3", "nvidia10", "dri/renderD128"]
    assert [node.is_gpu for node in found] == [False, True, True, False]
    assert {(node.error, node.group, node.mode) for node in found} == {(0, os.getgid(), 0o660)}


def test_without_a_folder_of_devices_there_are_no_nodes(tmp_path: Path) -> None:
    assert _kernel.nodes(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("code", "uid"), [(errno.EACCES, 65534), (errno.EPERM, None)], ids=["mode", "immutable"]
)
def test_a_node_that_may_not_be_used_says_why(python: Any, code: int, uid: int | None) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, or make a file immutable")
    machine = dataclasses.replace(
        machines.MACHINES["package"], node_mode="0660" if uid else "0666", immutable=not uid
    )
    program = """
        from moderngl_colab import _kernel
        print([(n.path, n.error, n.group, oct(n.mode)) for n in _kernel.nodes() if n.is_gpu])
    """

    seen = python(machine, textwrap.dedent(program), uid=uid).stdout.strip()

    assert seen == f"[('/dev/nvidia0', {code}, 0, '{'0o660' if uid else '0o666'}')]"
