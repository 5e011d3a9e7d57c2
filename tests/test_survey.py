"""What a look at the machine tells: its facts and no others, and of nonsense nothing."""

from __future__ import annotations

import json
import os
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderngl_colab import survey
from moderngl_colab.machine import Machine, Vendor
from rig import machines
from rig.layout import Placed


def seen(python: Any, machine: str | machines.Machine, code: str, **env: str) -> Any:
    return json.loads(python(machine, textwrap.dedent(code), env=env).stdout)


def test_of_an_empty_disk_nothing_is_told(tmp_path: Path) -> None:
    found = survey.look({}, str(tmp_path))

    nothing = Machine(
        installer=None, conda=found.conda, is_root=found.is_root, vendors=found.vendors
    )
    assert found._replace(xvfb=None, late=False, forked=False, elsewhere=False) == nothing


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00" * 5000, b"[" * 100_000, b"=\n" * 1000])
def test_nonsense_in_every_file_is_survived(tmp_path: Path, content: bytes) -> None:
    for name in (
        "etc/os-release",
        "etc/ld.so.cache",
        "proc/version",
        "proc/driver/nvidia/version",
        "sys/module/nvidia/version",
        "usr/lib64-nvidia/libEGL_nvidia.so.0",
        "dev/nvidiactl",
        "dev/nvidia0",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    found = survey.look({}, str(tmp_path))

    assert (found.module, found.userland.libraries, found.installer) == (None, {}, None)
    assert [node.path.removeprefix(str(tmp_path)) for node in found.gpus] == ["/dev/nvidia0"]


def test_directories_and_fifos_in_the_place_of_files_are_survived(tmp_path: Path) -> None:
    (tmp_path / "etc/os-release").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    os.mkfifo(tmp_path / "proc/driver/nvidia/version")
    os.mkfifo(tmp_path / "etc/ld.so.cache")
    (tmp_path / "dev").touch()

    found = survey.look({}, str(tmp_path))

    assert (found.module, found.nodes, found.distribution) == (None, (), "")


def test_a_secret_in_the_environment_is_not_looked_at() -> None:
    secrets = {
        "NVIDIA_API_KEY": "nvapi-secret",
        "GL_TOKEN": "secret",
        "LD_SDK_KEY": "secret",
        "VK_ACCESS_TOKEN": "secret",
        "MODERNGL_COLAB_SECRET": "secret",
    }
    kept = {"LD_LIBRARY_PATH": "/opt", "CUDA_VISIBLE_DEVICES": "0", "DISPLAY": ":1"}

    assert survey.look(secrets | kept).environ == kept


def test_which_instance_is_rented_is_no_fact(tmp_path: Path) -> None:
    seen = survey.look({"RUNPOD_POD_ID": "x", "VAST_CONTAINERLABEL": "C.1"}, str(tmp_path))

    assert (seen.platform, seen.environ) == ("rented", {})


def test_every_variable_of_ours_is_a_fact() -> None:
    sources = Path(survey.__file__).parent.rglob("*.py")
    ours = {word for path in sources for word in path.read_text().split('"') if word.isupper()}
    ours = {word for word in ours if word.startswith("MODERNGL_COLAB_")}
    ours.remove("MODERNGL_COLAB_DRIVER_URL")  # It may hold a password, and tells nothing of GL.

    assert ours
    assert set(survey.look(dict.fromkeys(ours, "1")).environ) == ours


def test_an_icd_is_told_with_the_library_that_the_loader_finds(python: Any) -> None:
    code = """
        import json
        from moderngl_colab import survey
        print(json.dumps(survey.look().vendors))
    """

    vendors = [Vendor(*vendor) for vendor in seen(python, "package", code)]

    nvidia = vendors[0]
    assert (nvidia.is_nvidia, nvidia.library) == (True, "libEGL_nvidia.so.0")
    assert nvidia.found is not None
    assert nvidia.found.endswith("/libEGL_nvidia.so.0")
    assert [vendor.waits for vendor in vendors] == [False] * len(vendors)


def test_what_the_loader_finds_is_told_as_the_search_found_it(python: Any) -> None:
    folder = f"/usr/local/share/moderngl_colab/driver/550.54.15-{os.uname().machine}"
    machine = replace(
        machines.MACHINES["glx-only"],
        libraries=(*machines.MACHINES["glx-only"].libraries, Placed(folder)),
    )
    code = """
        import json
        from moderngl_colab import survey
        seen = survey.look()
        copies = {copy.path: copy.version for copy in seen.copies}
        taken = copies[seen.loader["libGLX_nvidia.so.0"]]
        print(json.dumps([taken, seen.userland.libraries, seen.kept, seen.uses_kept]))
    """

    done = seen(python, machine, code, XDG_DATA_HOME="/usr/local//share")

    folder = folder.replace("local/", "local//")
    paths = {half: f"{folder}/lib{half}_nvidia.so.550.54.15" for half in ("EGL", "GLX")}
    assert done == ["550.54.15", paths, ["550.54.15"], True]


def test_a_process_in_which_egl_came_first_is_late(python: Any) -> None:
    code = """
        import json, moderngl
        from moderngl_colab import survey
        before = survey.look().late
        raw = moderngl.create_context(standalone=True, backend="egl")
        between = survey.look().late
        import moderngl_colab
        ours = moderngl_colab.get_gpu_context()
        print(json.dumps([before, between, ours.info["GL_VENDOR"]]))
    """

    assert seen(python, "colab", code) == [False, True, "NVIDIA Corporation"]


@pytest.mark.parametrize(
    ("machine", "forked"), [("container-graphics", True), ("no-nvidia", False)]
)
def test_a_child_that_was_forked_after_nvidias_driver_was_used_knows_it(
    python: Any, machine: str, forked: bool
) -> None:
    code = """
        import json, os, warnings
        import moderngl_colab
        from moderngl_colab import survey
        warnings.simplefilter("ignore")
        ctx = moderngl_colab.get_gpu_context()
        here = survey.look().forked
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, json.dumps(survey.look().forked).encode())
            os._exit(0)
        os.wait()
        print(json.dumps([here, json.loads(os.read(reader, 100))]))
    """

    assert seen(python, machine, code) == [False, forked]


def test_contexts_of_another_thread_are_told_to_be_elsewhere(python: Any) -> None:
    code = """
        import json, threading, moderngl_colab
        from moderngl_colab import survey
        made = []
        def make():
            made.append(moderngl_colab.get_gpu_context())
            seen.append(survey.look().elsewhere)
            made[0].mglo.__exit__()
        seen = [survey.look().elsewhere]
        thread = threading.Thread(target=make)
        thread.start(); thread.join()
        seen.append(survey.look().elsewhere)
        made[0].release()
        seen.append(survey.look().elsewhere)
        print(json.dumps(seen))
    """

    assert seen(python, "container-graphics", code) == [False, False, True, False]
