"""The tables of the documentation: machines, neighbours, exit statuses, and what is to install."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import sys
import tomllib
from importlib import metadata
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_docs import FLAGS, PAGES, ROOT, TEXTS, blocks, parser_of

from moderngl_colab import commands
from moderngl_colab.commands.env import UNAVAILABLE


def table(text: str, *header: str) -> list[tuple[str, ...]]:
    """The rows below a header, as cells."""
    lines = iter(text.splitlines())
    assert any(line == f"| {' | '.join(header)} |" for line in lines), header
    assert set(next(lines)) == set("|-")
    rows = takewhile(lambda line: line.startswith("| "), lines)
    return [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in rows]


# ---- what is on the GPU -------------------------------------------------------------------------

# The rows of the table of machines, and the simulated machines that each stands for.
ROWS = (
    ("driver installed by the distribution's package", ["package"]),
    ("Colab: driver in `/usr/lib64-nvidia`, no ICD", ["colab"]),
    ("the same, without `LD_LIBRARY_PATH`", ["colab-no-path"]),
    ("container with the graphics capability, no ICD", ["container-graphics"]),
    ("GKE, Kaggle: driver and ICD in `/usr/local/nvidia`", ["gke", "kaggle"]),
    ("GLX half of the driver only", ["glx-only"]),
    ("driver split over two directories", ["split"]),
)
WHERE = """
import moderngl, moderngl_colab

raw = moderngl.create_context(standalone=True, backend="egl")
print("GPU" if "NVIDIA" in raw.info["GL_VENDOR"] else "CPU")
ours = moderngl_colab.get_gpu_context()
print("GPU" if "NVIDIA" in ours.info["GL_VENDOR"] else "CPU")
"""
MACHINES_TABLE = ("machine", "raw moderngl", "moderngl_colab")


def test_the_table_of_machines_is_what_is_seen_there(python: Any) -> None:
    seen = []
    for title, machines in ROWS:
        answers = {python(name, WHERE).stdout for name in machines}
        assert len(answers) == 1, title
        seen.append((title, *answers.pop().split()))

    assert table(PAGES["docs/index.md"], *MACHINES_TABLE) == seen


def test_the_readmes_have_the_same_machines_in_fewer_rows() -> None:
    whole = table(PAGES["docs/index.md"], *MACHINES_TABLE)
    alike = {"with or without `LD_LIBRARY_PATH`": "the same, without `LD_LIBRARY_PATH`"}
    told = [
        (alike.get(part, part), *where)
        for title, *where in table(TEXTS["README.md"], *MACHINES_TABLE)
        for part in title.split("; ")
    ]

    assert told == whole


def test_the_chinese_tables_say_the_same_of_the_gpu_and_of_versions() -> None:
    def kept(name: str, *header: str) -> list[list[list[str]]]:
        """What is the same in every language: code, names, versions."""
        what = re.compile(r"`[^`]+`|\[[^]]+\]|[A-Z][A-Za-z0-9]+|\d[\d.]*")
        rows = [
            [re.sub(r"\]\([^)]*\)", "]", cell) for cell in row]
            for row in table(TEXTS[name], *header)
        ]
        return [[sorted(what.findall(cell)) for cell in row] for row in rows]

    machines = kept("docs/README.zh-CN.md", "机器", "原生 moderngl", "moderngl_colab")
    neighbours = kept("docs/README.zh-CN.md", "库", "版本", "用法", "单独使用", "配合本库")
    assert machines == kept("README.md", *MACHINES_TABLE)
    header = ("neighbour", "version", "how", "alone", "with us")
    assert neighbours == kept("README.md", *header)
    assert (len(machines), len(neighbours)) == (5, 7)


# ---- exit statuses and defaults ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["doctor", "bench"])
def test_exit_statuses_mean_in_a_page_what_they_mean_in_the_help(command: str) -> None:
    told = (parser_of(command).epilog or "").removeprefix("exit status: ").split("; ")

    shown = table(PAGES[f"docs/{command}.md"], "status", "meaning")
    assert [status for status, _ in shown] == [each.split()[0] for each in told]
    for (status, meaning), each in zip(shown, told, strict=True):
        assert f"{status} {meaning}".startswith(each)


def test_the_exit_statuses_of_run_are_those_that_it_ends_with() -> None:
    shown = table(PAGES["docs/programs.md"], "status", "meaning")

    assert [(status, meaning.partition(",")[0].partition(":")[0]) for status, meaning in shown] == [
        ("the program's own", "`run` started it; a signal that ended it ends `run`"),
        (str(commands.USAGE), "wrong usage"),
        (str(UNAVAILABLE), "no program can get the GPU here"),
        (str(commands.CANNOT_CREATE), "the ICD cannot be written"),
        (str(commands.IO_ERROR), "stdout cannot be written"),
        ("126, 127", "the program cannot be started"),
    ]


def test_the_exit_statuses_of_the_installer_are_those_of_its_help() -> None:
    numbers = re.compile(r"\b\d+(?= )")
    told = (parser_of("install-driver").epilog or "").partition("exit status: ")[2]

    (shown,) = re.findall(r"Exit status: (.*?)\n\n", PAGES["docs/install-driver.md"], re.DOTALL)
    assert numbers.findall(shown) == numbers.findall(told)


def test_pages_have_the_defaults_of_the_help() -> None:
    seen = set()
    for command, name in FLAGS.items():
        parser, page = parser_of(command), PAGES[f"docs/{name}.md"]
        parser.epilog = None
        for told in re.split(r" (?=--[a-z])", " ".join(parser.format_help().split())):
            if found := re.fullmatch(r"--([a-z-]+) .* \(([\w ]+)\)", told):
                flag, default = found.groups()
                (row,) = re.findall(rf"^\| `--{flag}\b.*$", page, re.MULTILINE)
                assert f"({default})" in row
                value = parser.get_default(flag)
                assert value is None or f"{value:g}" == default
                seen.add((command, flag))
    of_bench = {("bench", "size"), ("bench", "seconds"), ("bench", "timeout")}
    assert seen == of_bench | {("doctor", "timeout")}


# ---- what is to install ------------------------------------------------------------------------


def installed_by(*requirements: str) -> set[str]:
    """The names of all that pip installs for them; our own extras are those of the checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    left = [Requirement(each) for each in requirements]
    while left:
        one = left.pop()
        name = canonicalize_name(one.name)
        if name == "moderngl-colab":
            extras = [project["optional-dependencies"][extra] for extra in one.extras]
            left += map(Requirement, chain(project["dependencies"], *extras))
        elif name not in found:
            with contextlib.suppress(metadata.PackageNotFoundError):
                needed = map(Requirement, metadata.requires(name) or ())
                without = {"extra": ""}
                left += [
                    need for need in needed if not need.marker or need.marker.evaluate(without)
                ]
        found.add(name)
    return found


def imported_by(path: Path) -> set[str]:
    """The top-level modules that a program imports, beside Python's own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names


def test_what_the_gallery_installs_is_all_that_an_example_imports() -> None:
    given: dict[str, list[str]] = {}
    for code in blocks("sh", PAGES["docs/examples.md"]):
        lines = re.findall(r"^pip install (.*?)(?: +# (\w+\.py))?$", code, re.MULTILINE)
        given |= {name: shlex.split(line) for line, name in lines if name}
        if lines:
            shown = re.findall(r"^python examples/(\w+\.py)", code, re.MULTILINE)
            given |= dict.fromkeys(shown, shlex.split(lines[0][0]))
    homes = metadata.packages_distributions()

    assert {path.name for path in (ROOT / "examples" / "neighbours").glob("*.py")} < set(given)
    for path in (ROOT / "examples").rglob("*.py"):
        installed = installed_by(*given.get(path.name, ["moderngl_colab[examples]"]))
        for module in imported_by(path):
            home = {canonicalize_name(name) for name in homes.get(module, [module])}
            assert home & installed, (path, module)
