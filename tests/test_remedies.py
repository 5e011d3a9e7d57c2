"""Remedies fit the machine: its platform, its packages, its user."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moderngl_colab import protection, remedies, survey
from moderngl_colab._driver import Exposed, Userland
from moderngl_colab._kernel import KernelModule, Node
from moderngl_colab._trust import Breach
from moderngl_colab.machine import Machine

NEW = "550.54.15"
MODULE = KernelModule(NEW, "/proc/driver/nvidia/version")
INSTALL = "python -m moderngl_colab install-driver"
IN_NOTEBOOK = f"!{INSTALL} --accept-license"
DOCKER = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."
RENT = "rent an instance that has an NVIDIA GPU"
ANOTHER = "stop the instance and start it again; if that is no help, rent another one"
NV = "apptainer run --nv --bind /usr/share/glvnd/egl_vendor.d/10_nvidia.json ..."


@pytest.mark.parametrize(
    ("environ", "mark", "give_gpu", "give_graphics"),
    [
        (
            {"COLAB_RELEASE_TAG": "x"},
            ".dockerenv",
            "choose the menu Runtime > Change runtime type > T4 GPU",
            IN_NOTEBOOK,
        ),
        (
            {"COLAB_RELEASE_TAG": "x", "KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
            ".dockerenv",
            "choose the menu Settings > Accelerator > GPU T4 x2",
            IN_NOTEBOOK,
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            ".dockerenv",
            'add "nvidia.com/gpu: 1" to the container\'s resources.limits',
            'add "runtimeClassName: nvidia" to the pod\'s spec and "- {name: '
            "NVIDIA_DRIVER_CAPABILITIES, value: all}\" to the container's env; or here: " + INSTALL,
        ),
        (
            {"RUNPOD_POD_ID": "x", "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            ".dockerenv",
            RENT,
            INSTALL,
        ),
        ({"VAST_CONTAINERLABEL": "C.1"}, ".dockerenv", RENT, INSTALL),
        ({}, ".singularity.d/libs", NV, f"{NV}; or here: {INSTALL}"),
        ({}, ".dockerenv", DOCKER, f"{DOCKER}; or here: {INSTALL}"),
        ({}, "run/.containerenv", DOCKER, f"{DOCKER}; or here: {INSTALL}"),
        (
            {"KUBERNETES_SERVICE_HOST": "", "SLURM_JOB_ID": "7"},
            ".dockerenv",
            "srun --gres=gpu:1 ...",
            INSTALL,
        ),
        ({}, None, "run this on a machine with an NVIDIA GPU and its driver", INSTALL),
    ],
)
def test_a_gpu_and_its_graphics_are_given_as_the_platform_does_it(
    tmp_path: Path, environ: dict[str, str], mark: str | None, give_gpu: str, give_graphics: str
) -> None:
    if mark is not None:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()

    seen = survey.glance(environ, str(tmp_path))._replace(module=MODULE)

    assert remedies.give_gpu(seen) == give_gpu
    assert remedies.give_graphics(seen) == give_graphics


@pytest.mark.parametrize(
    ("release", "remedy"),
    [
        ("ID=debian\n", "apt-get update && apt-get install -y xvfb"),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "apt-get update && apt-get install -y xvfb"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt-get update && apt-get install -y xvfb"),
        ("ID=fedora\n", "dnf install -y xorg-x11-server-Xvfb"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install -y xorg-x11-server-Xvfb"),
        ("ID=arch\n", "install Xvfb"),
        ("\udcff\x00=\n=ID", "install Xvfb"),
    ],
)
def test_what_is_missing_is_installed_as_the_distribution_does_it(
    tmp_path: Path, release: str, remedy: str
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_bytes(release.encode(errors="surrogateescape"))

    seen = survey.glance({}, str(tmp_path))._replace(is_root=True, conda=False)

    assert remedies.install(seen, "xvfb") == remedy


def test_every_need_has_words_for_every_system() -> None:
    for need in ("dispatch", "x11", "mesa", "xvfb", "xkb"):
        for installer in ("apt-get", "dnf", None):
            assert "install" in remedies.install(Machine(installer=installer), need)


def test_condas_python_gets_condas_libraries_without_root() -> None:
    seen = Machine(conda=True, installer="apt-get", is_root=False)

    assert remedies.install(seen, "dispatch") == "conda install -y -c conda-forge libegl libgl"
    assert remedies.install(seen, "xvfb") == (
        "ask who is root here to run: apt-get update && apt-get install -y xvfb"
    )


def test_in_a_notebook_commands_begin_with_an_exclamation_mark() -> None:
    colab = Machine(platform="colab", installer="apt-get")

    assert remedies.install(colab, "xvfb") == "!apt-get update && apt-get install -y xvfb"
    assert remedies.other_programs(colab) == "!python -m moderngl_colab run -- PROGRAM ..."
    assert remedies.unset(colab, "A") == 'import os; del os.environ["A"]'
    assert remedies.unset(Machine(), "A", "B") == "unset A B"
    assert remedies.assign(colab, "A", "b") == 'import os; os.environ["A"] = "b"'


@pytest.mark.parametrize(
    "platform", ["kubernetes", "docker", "rented", "slurm", "apptainer", "host"]
)
def test_no_remedy_uses_sudo_and_each_is_one_line(platform: str) -> None:
    seen = Machine(platform=platform, installer="apt-get", is_root=False, module=MODULE)
    said = [
        remedies.give_gpu(seen),
        remedies.give_graphics(seen),
        remedies.anew(seen),
        remedies.install(seen, "xvfb"),
        remedies.unset(seen, "A"),
    ]

    assert all(text and "sudo" not in text and "\n" not in text for text in said)


@pytest.mark.parametrize(
    ("node", "platform", "remedy"),
    [
        (
            Node("/dev/nvidia0", errno.EACCES, 44, 0o660, "video"),
            "host",
            "ask who is root here to run: usermod -aG video YOUR_NAME; then log in again",
        ),
        (
            Node("/dev/nvidia0", errno.EACCES, 44, 0o660),
            "host",
            "ask who is root here to run: groupadd -g 44 gpu && usermod -aG gpu YOUR_NAME; then "
            "log in again",
        ),
        (
            Node("/dev/nvidia0", errno.EACCES, 44, 0o660),
            "docker",
            "docker run --gpus all --group-add 44 ...",
        ),
        (
            Node("/dev/nvidia0", errno.EACCES, 44, 0o660),
            "kubernetes",
            'add "supplementalGroups: [44]" to the pod\'s securityContext',
        ),
        (
            Node("/dev/nvidia0", errno.EACCES, 0, 0o600, "root"),
            "docker",
            "ask who is root here to run: chmod a+rw /dev/nvidia0",
        ),
        (
            Node("/dev/nvidia0", errno.EACCES, 0, 0o666, "root"),
            "docker",
            "docker run --gpus all --security-opt label=disable ...",
        ),
        (Node("/dev/nvidia0", errno.EACCES, 0, 0o666, "root"), "rented", ANOTHER),
        (
            Node("/dev/nvidia0", errno.EACCES, 0, 0o666, "root"),
            "host",
            "ask who is root here what SELinux or AppArmor forbids: ausearch -m avc -ts recent",
        ),
    ],
)
def test_who_may_not_open_a_node_is_let_in_by_what_forbids_it(
    node: Node, platform: str, remedy: str
) -> None:
    assert remedies.let_in(Machine(platform=platform), node) == remedy


def test_who_rents_a_machine_is_told_what_a_renter_can_do() -> None:
    seen = Machine(platform="rented", installer="apt-get", module=MODULE)
    said = [
        remedies.give_gpu(seen),
        remedies.give_graphics(seen),
        remedies.give_nodes(seen),
        remedies.give_tmp(seen),
        remedies.anew(seen),
        remedies.agree(seen),
    ]

    assert said == [RENT, INSTALL, RENT, "chmod 1777 /tmp", ANOTHER, INSTALL]


@pytest.mark.parametrize(
    ("platform", "remedy"),
    [("docker", DOCKER), ("rented", remedies.ASK_SMI), ("colab", remedies.ASK_SMI)],
)
def test_what_would_be_fetched_is_no_remedy_where_it_would_be_ignored(
    platform: str, remedy: str
) -> None:
    siblings = dict.fromkeys(("gpucomp", "tls", "glsi", "eglcore", "glcore"), "/x")
    whole = Userland(NEW, {"EGL": "/x", "GLX": "/x"}, siblings, None)
    seen = Machine(platform=platform, module=MODULE, userland=whole)

    assert remedies.give_graphics(seen) == remedy
    assert remedies.give_graphics(seen._replace(module=None)) == remedy
    for other in (
        whole._replace(version="535.104.05"),
        whole._replace(cut_short=("/x",)),
        whole._replace(libraries={"GLX": "/x"}),
    ):
        assert "install-driver" in remedies.give_graphics(seen._replace(userland=other))


@pytest.mark.parametrize(
    ("wsl", "remedy"),
    [
        (
            Machine(installer="apt-get"),
            "apt-get update && apt-get install -y libegl-mesa0 libgl1-mesa-dri",
        ),
        (
            Machine(d3d12=True, wsl_libraries=True),
            "export GALLIUM_DRIVER=d3d12 LD_LIBRARY_PATH=/usr/lib/wsl/lib",
        ),
        (
            Machine(d3d12=True, platform="docker"),
            "docker run --gpus all -v /usr/lib/wsl:/usr/lib/wsl -e "
            "LD_LIBRARY_PATH=/usr/lib/wsl/lib ...",
        ),
        (Machine(d3d12=True), "in Windows: wsl --update, then wsl --shutdown"),
    ],
)  # fmt: skip
def test_wsl2_is_given_what_it_lacks(wsl: Machine, remedy: str) -> None:
    assert remedies.give_d3d12(wsl) == remedy


@pytest.mark.parametrize(
    ("platform", "tmp", "tegra"),
    [
        (
            "docker",
            "docker run --gpus all --tmpfs /tmp ...",
            "docker run --runtime nvidia -e NVIDIA_DRIVER_CAPABILITIES=all ...",
        ),
        (
            "kubernetes",
            "mount an emptyDir at /tmp",
            "docker run --runtime nvidia -e NVIDIA_DRIVER_CAPABILITIES=all ...",
        ),
        (
            "host",
            "mount -t tmpfs -o mode=1777 tmpfs /tmp",
            "apt-get update && apt-get install -y nvidia-l4t-3d-core",
        ),
        (
            "apptainer",
            "mount -t tmpfs -o mode=1777 tmpfs /tmp",
            "apptainer run --nv --bind /usr/lib/aarch64-linux-gnu/nvidia ...",
        ),
    ],
)
def test_a_tmp_and_a_jetsons_driver_are_given_as_the_platform_does_it(
    platform: str, tmp: str, tegra: str
) -> None:
    assert remedies.give_tmp(Machine(platform=platform)) == tmp
    assert remedies.give_tegra(Machine(platform=platform)) == tegra


COLABS, TOOLKITS = "/usr/lib64-nvidia", "/usr/local/nvidia"


def _exposed(*at: tuple[str, str]) -> tuple[Exposed, ...]:
    return tuple(Exposed(path, Breach(by, 1000, everybody=False)) for path, by in at)


@pytest.mark.parametrize(
    ("platform", "exposed", "remedy"),
    [
        (  # Both folders are the driver's.
            "host",
            _exposed((f"{COLABS}/lib", COLABS), (f"{TOOLKITS}/lib64/lib", f"{TOOLKITS}/lib64")),
            f"chown -hR root {COLABS} {TOOLKITS} && chmod -R o-w {COLABS} {TOOLKITS}",
        ),
        (
            "colab",
            _exposed((f"{COLABS}/lib", f"{COLABS}/lib")),
            f"!chown -hR root {COLABS} && chmod -R o-w {COLABS}",
        ),
        (  # The folder above the driver's is not, nor what its name begins with.
            "host",
            _exposed((f"{TOOLKITS}/lib64/lib.so.0", "/usr/local")),
            'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && '
            f'install -m 755 {TOOLKITS}/lib64/lib*nv*.so.* "$MODERNGL_COLAB_DRIVER_DIR"',
        ),
        (
            "host",
            _exposed((f"{TOOLKITS}-old/lib.so.0", f"{TOOLKITS}-old")),
            'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && '
            f'install -m 755 {TOOLKITS}-old/lib*nv*.so.* "$MODERNGL_COLAB_DRIVER_DIR"',
        ),
        (  # One that fits the kernel module, in whichever folders, and no other version.
            "docker",
            _exposed(
                (f"/my work/lib.so.{NEW}", "/my work"),
                ("/old/lib.so.535.104.05", "/old"),
                (f"/b/lib.so.{NEW}", "/b"),
            ),
            'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && '
            'install -m 755 /b/lib*nv*.so.* "$MODERNGL_COLAB_DRIVER_DIR" && '
            "install -m 755 '/my work'/lib*nv*.so.* \"$MODERNGL_COLAB_DRIVER_DIR\"",
        ),
    ],
)
def test_only_a_folder_of_the_drivers_is_given_to_root(
    platform: str, exposed: tuple[Exposed, ...], remedy: str
) -> None:
    seen = Machine(platform=platform, module=MODULE, exposed=exposed)

    assert protection.protect(seen) == (
        f"{remedy}  # if you trust what is in it; then start this program anew"
    )


def test_in_a_notebook_the_copy_is_named_in_its_own_process(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()
    for name in ("libEGL_nvidia.so.0", f"libnvidia-tls.so.{NEW}", "other.so.1"):
        (folder / name).write_text(name)
    exposed = _exposed((f"{folder}/libEGL_nvidia.so.0", str(folder)))
    remedy = protection.protect(Machine(platform="kaggle", module=MODULE, exposed=exposed))
    show = 'print(*sorted(os.listdir(os.environ["MODERNGL_COLAB_DRIVER_DIR"])))'

    said = subprocess.run(
        [sys.executable, "-P", "-c", f"{remedy}\n{show}"],
        capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True,
    )  # fmt: skip

    assert said.stdout == f"libEGL_nvidia.so.0 libnvidia-tls.so.{NEW}\n"
    assert remedy.endswith("  # if you trust what is in it; first of all in a new session")


def test_this_machine_is_looked_at_as_its_user() -> None:
    assert survey.glance().is_root is (os.geteuid() == 0)
