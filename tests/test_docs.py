"""What README says is so: its code runs, its messages are those that are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_findings import CASES

import moderngl_colab
from moderngl_colab.__main__ import main
from moderngl_colab.context import get_gpu_context
from moderngl_colab.findings.finding import CODES

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
    shown, error, _ = TEXT
    code = "import moderngl_colab; moderngl_colab.get_gpu_context()"
    colab = {"COLAB_RELEASE_TAG": "release"}

    printed = python("no-nvidia", code, env=colab, options=["-W", "default"], check=False).stderr
    failed = python("no-gl", code, check=False).stderr

    renderer = re.search(r"\((llvmpipe .*?\))\), because", printed)
    assert renderer is not None, printed
    assert re.sub(r"llvmpipe \(.*?\)", renderer[1], shown) in printed
    assert error in failed.replace("ask who is root here to run: ", "")


def test_the_readme_shows_the_doctors_first_lines_as_they_are_printed(python: Any) -> None:
    first, second = TEXT[2].splitlines()

    code = "import moderngl_colab; print(moderngl_colab.diagnose())"
    printed = python("compute-only", code).stdout.splitlines()

    assert re.sub(r"\(.*\)", "", printed[0]) == re.sub(r"\(.*\)", "", first)
    assert printed[1] == second


def test_every_finding_is_in_the_table_with_its_cure() -> None:
    table = (ROOT / "docs" / "findings.md").read_text().replace("\\|", "\N{BROKEN BAR}")
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    cures = {row[0].strip(" `"): row[3].strip(" `").replace("\N{BROKEN BAR}", "|") for row in rows}

    expected: dict[str, str] = {}
    for _, finding in CASES.values():
        expected.setdefault(finding.code, finding.remedy)
    assert cures == expected
    assert list(cures) == list(CODES)


def test_the_readme_names_every_flag_of_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])

    for flag in set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}:
        assert f"`{flag}" in README, flag


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
