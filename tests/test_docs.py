"""What README says is so: its code runs, its messages are those that are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import moderngl_colab
from moderngl_colab.context import get_gpu_context

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TEXT = re.findall(r"```text\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", CODE, ids=range(len(CODE)))
def test_the_code_of_the_readme_runs(python: Any, code: str) -> None:
    code = "import moderngl_colab\n" + code
    env = {"STANDIN_GPUS": "2"}

    assert python("package", code, env=env).returncode == 0


def test_the_first_screen_shows_the_warning_as_it_is_printed(python: Any) -> None:
    shown, error = TEXT
    code = "import moderngl_colab; moderngl_colab.get_gpu_context()"
    colab = {"COLAB_RELEASE_TAG": "release"}

    printed = python("no-nvidia", code, env=colab, options=["-W", "default"], check=False).stderr
    failed = python("no-gl", code, check=False).stderr

    renderer = re.search(r"\((llvmpipe .*?\))\), because", printed)
    assert renderer is not None, printed
    assert re.sub(r"llvmpipe \(.*?\)", renderer[1], shown) in printed
    assert error in failed


def test_every_variable_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "moderngl_colab").rglob("*.py"))

    for variable in set(re.findall(r"\bMODERNGL_COLAB_[A-Z_]+\b", sources)):
        assert f"`{variable}`" in README, variable


def test_every_module_has_its_place_in_the_plan_of_the_house() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()

    for path in (ROOT / "moderngl_colab").rglob("*.py"):
        assert path.name in plan, path


def test_the_docstring_names_every_error() -> None:
    assert get_gpu_context.__doc__ is not None
    for name in ("GPUContextError", "TypeError", "ValueError", "SoftwareRenderingWarning"):
        assert name in get_gpu_context.__doc__
    assert moderngl_colab.__doc__ is not None
