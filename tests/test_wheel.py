"""The package as it is installed: from its wheel, with its types and its license."""

from __future__ import annotations

import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from mypy import api as mypy

import moderngl_colab

TESTS = Path(__file__).parent


def test_the_tests_run_against_the_installed_wheel() -> None:
    assert Path(moderngl_colab.__file__).is_relative_to(sysconfig.get_path("purelib"))


def test_the_wheel_says_what_it_is() -> None:
    described = metadata.metadata("moderngl_colab")

    assert described["Version"] == moderngl_colab.__version__
    assert described["License-Expression"] == "MIT"
    assert described["Requires-Python"] == ">=3.11"
    needs = [line for line in metadata.requires("moderngl_colab") or () if "extra" not in line]
    assert sorted(needs) == [
        "glcontext>=3.0",
        "moderngl>=5.12",
        "nvidia-ml-py>=12.535",
        "xvfbwrapper>=0.2.26",
    ]


def test_the_wheel_holds_the_package_its_types_and_its_license_alone() -> None:
    files = metadata.files("moderngl_colab") or []
    installed = [file for file in files if file.name != "moderngl-colab"]  # the console script
    tops = {file.parts[0] for file in installed}

    assert len(installed) == len(files) - 1
    assert {top for top in tops if not top.endswith(".dist-info")} == {"moderngl_colab"}
    names = {str(file) for file in files}
    assert "moderngl_colab/py.typed" in names
    assert "moderngl_colab/diagnostics/report.schema.json" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_type_checker_sees_the_public_api_as_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # or mypy would read the source folder and its configuration
    output, errors, status = mypy.run(
        ["--strict", "--python-executable", sys.executable, str(TESTS / "typing" / "api.py")]
    )

    assert (status, errors) == (0, ""), output
