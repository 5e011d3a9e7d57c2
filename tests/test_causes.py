"""Remedies fit the platform; the codes stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderngl_colab import causes

INSTALL = (
    "install the OpenGL libraries of exactly 550.54.15 with NVIDIA's installer of that version"
)
DOCKER = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."


@pytest.mark.parametrize(
    ("environ", "mark", "give_gpu", "give_graphics"),
    [
        (
            {"COLAB_RELEASE_TAG": "x"},
            ".dockerenv",
            "choose the menu Runtime > Change runtime type > T4 GPU",
            INSTALL,
        ),
        (
            {"COLAB_RELEASE_TAG": "x", "KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
            ".dockerenv",
            "choose the menu Settings > Accelerator > GPU T4 x2",
            INSTALL,
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            ".dockerenv",
            "add to the container's resources.limits: nvidia.com/gpu: 1",
            "add to the container's env: NVIDIA_DRIVER_CAPABILITIES=all",
        ),
        ({}, ".singularity.d/libs", "apptainer run --nv ...", "apptainer run --nv ..."),
        ({}, ".dockerenv", DOCKER, DOCKER),
        ({}, "run/.containerenv", DOCKER, DOCKER),
        ({"SLURM_JOB_ID": "7"}, None, "srun --gres=gpu:1 ...", INSTALL),
        ({}, None, "run this on a machine with an NVIDIA GPU and its driver", INSTALL),
    ],
)
def test_the_remedy_is_one_for_the_platform(
    tmp_path: Path, environ: dict[str, str], mark: str | None, give_gpu: str, give_graphics: str
) -> None:
    if mark is not None:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()

    no_gpu = causes.no_gpu(environ, str(tmp_path))

    assert no_gpu is not None
    assert (no_gpu.cause, no_gpu.remedy) == ("driver-absent", give_gpu)
    assert causes.graphics("550.54.15", environ, str(tmp_path)) == give_graphics


def test_without_a_known_version_the_kernel_modules_is_named(tmp_path: Path) -> None:
    assert causes.graphics(None, {}, str(tmp_path)) == (
        "install the OpenGL libraries of exactly the kernel module's version with NVIDIA's "
        "installer of that version"
    )


def test_a_library_that_x11_lacks_is_named_with_its_package() -> None:
    error = causes.unloadable(OSError("libXext.so.6: cannot open shared object file"))

    assert (error.reason, error.remedy, error.cause) == (
        "the loader says: libXext.so.6: cannot open shared object file",
        "apt-get install -y libx11-6 libxext6",
        "userland-partial",
    )
