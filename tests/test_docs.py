"""What the documentation says is so: its code runs, its messages are those that are printed."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import count, dropwhile, groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image, ImageChops, ImageStat
from test_findings import CASES

import moderngl_colab
from moderngl_colab import __main__ as command_line
from moderngl_colab import bench, commands
from moderngl_colab.context import get_gpu_context
from moderngl_colab.findings.finding import CODES
from moderngl_colab.strategies import DEFAULT_STRATEGIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(DOCS.glob("*.md"))}
TEXTS = {"README.md": (ROOT / "README.md").read_text()} | PAGES
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Which page has the flags of a command.
FLAGS = {"doctor": "doctor", "env": "programs", "run": "programs", "bench": "bench"} | {
    "install-driver": "install-driver"
}


def blocks(language: str, text: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def with_blocks(language: str) -> Iterator[tuple[str, str]]:
    for name, text in TEXTS.items():
        for code in blocks(language, text):
            yield name, code


# ---- Python --------------------------------------------------------------------------------------

# Each block by itself, and all of a page in one process.
RUN = """
import json, os, sys
os.chdir(sys.argv[1])
for code in json.loads(sys.argv[2]):
    exec(compile(f"import moderngl_colab\\n{code}", "block", "exec"), {"__name__": "block"})
"""
PROGRAM = 'if __name__ == "__main__":'


@pytest.mark.parametrize("name", [name for name in TEXTS if blocks("python", TEXTS[name])])
def test_the_code_of_a_page_runs(python: Any, tmp_path: Path, name: str) -> None:
    code = [block for block in blocks("python", TEXTS[name]) if PROGRAM not in block]
    env = {"STANDIN_GPUS": "2", "XDG_CACHE_HOME": str(tmp_path)}
    noise = ["-W", "ignore:Importing PyGLM:PendingDeprecationWarning"]  # by moderngl-window

    done = python(
        "package", RUN, str(tmp_path), json.dumps(code), env=env, options=noise, check=False
    )

    assert (done.returncode, done.survivors) == (0, ()), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("docs/gpus.md", r"\[0, 1, 2, 3\]\n"),
        ("docs/ray.md", r"8 frames by 2 GPUs\n"),
    ],
)
def test_a_program_in_a_page_runs_as_a_file(
    python: Any, tmp_path: Path, name: str, prints: str
) -> None:
    (code,) = (code for code in blocks("python", TEXTS[name]) if PROGRAM in code)
    path = tmp_path / "program.py"
    path.write_text(code)
    env = {"STANDIN_GPUS": "2"}

    done = python("package", path, env=env, options=["-W", "ignore"], check=False)

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(prints, done.stdout)


def test_every_program_in_a_page_has_its_run() -> None:
    programs = [name for name, code in with_blocks("python") if PROGRAM in code]

    assert programs == ["docs/gpus.md", "docs/ray.md"]


# ---- what is printed -----------------------------------------------------------------------------


def plain(text: str) -> str:
    """Without what differs between machines that are alike."""
    return re.sub(r"(?<=\(Mesa)/X\.org|(?<=llvmpipe) \([^()]*\)", "", text)


@pytest.fixture(scope="module")
def printed(python: Any) -> list[str]:
    """What is printed where there is no GPU, or no OpenGL; and the doctor's reports."""
    make = "import moderngl_colab; moderngl_colab.get_gpu_context()"
    colab = {"COLAB_RELEASE_TAG": "release"}
    warning = python("no-nvidia", make, env=colab, options=["-W", "default"], check=False).stderr
    error = python("no-gl", make, check=False).stderr
    reports = [path.read_text() for path in sorted((ROOT / "tests" / "reports").glob("*.txt"))]
    as_root = error.replace("ask who is root here to run: ", "")
    return [plain(text) for text in (warning, as_root, *reports)]


def test_messages_are_shown_as_they_are_printed(printed: list[str]) -> None:
    shown = list(with_blocks("text"))

    assert len(shown) >= 4
    for name, text in shown:
        # One has the plan of the house, the other figures: each has a test of its own.
        if name not in ("docs/architecture.md", "docs/bench.md"):
            assert any(plain(text).rstrip() in one for one in printed), (name, text)


def test_the_bench_is_shown_as_it_is_printed_but_for_its_figures(python: Any) -> None:
    code = "from moderngl_colab.bench import bench; print(bench(sizes=[(64, 64)], seconds=0.01))"
    colab = {"COLAB_RELEASE_TAG": "release"}

    def form(text: str) -> str:
        return re.sub(r"[\d.,]+|(?<=mesa) +", "#", re.sub(r" {3,}", "  ", plain(text)))

    (shown,) = blocks("text", PAGES["docs/bench.md"])
    printed = python("no-nvidia", code, env=colab, check=False).stdout
    assert form(printed) == form(shown)


# ---- commands ------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, as words, without the variables set for them."""
    text = re.sub(r"(^|\s)#.*", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    for operator, group in groupby(lexer, key=lambda word: set(word) <= set(";&|\n")):
        words = list(dropwhile(re.compile(r"[A-Z_]+=").match, group))
        if words and not operator:
            words[0] = words[0].lstrip("!%")
            yield words
            for word in words:  # as in eval "$(...)"
                yield from command_lines("\n".join(re.findall(r"\$\((.*)\)", word)))


def every_command() -> Iterator[tuple[str, list[str]]]:
    for language in ("sh", "ipython"):
        for name, code in with_blocks(language):
            yield from ((name, words) for words in command_lines(code))


@pytest.mark.parametrize("name", [name for name in TEXTS if blocks("sh", TEXTS[name])])
def test_the_commands_of_a_page_are_a_shells(name: str) -> None:
    for code in blocks("sh", TEXTS[name]):
        check = ["bash", "-n"]
        done = subprocess.run(check, input=code, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), code


def test_a_notebooks_lines_are_commands() -> None:
    for name, code in with_blocks("ipython"):
        for line in code.splitlines():
            assert line.startswith(("%pip install ", "!moderngl-colab ")), (name, line)


def test_our_own_commands_take_the_flags_that_pages_give_them() -> None:
    seen = set()
    for name, words in every_command():
        for start in (["moderngl-colab"], ["python", "-m", "moderngl_colab"]):
            at = next((n for n in range(len(words)) if words[n:][: len(start)] == start), None)
            if at is None or "pip" in words:
                continue
            ours = [word for word in words[at + len(start) :] if not word.startswith(">")]
            which = "doctor" if not ours or ours[0].startswith("-") else ours.pop(0)
            assert parser_of(which).parse_args(ours), (name, words)
            seen.add(which)
    assert seen == set(FLAGS)


def test_extras_and_examples_that_pages_name_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(TEXTS.values())

    extras = set(re.findall(r"(?:moderngl_colab|\.)\[(\w+)\]", text))
    assert extras <= set(project["optional-dependencies"]), extras
    for example in set(re.findall(r"\bexamples/[\w/]+\.\w+", text)):
        assert (ROOT / example).is_file(), example


def parser_of(command: str) -> commands.Parser:
    module = import_module(f"moderngl_colab.commands.{command.replace('-', '_')}")
    parser = commands.Parser(command, module.HELP)
    module.configure(parser)
    return parser


def test_what_a_page_says_to_make_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    given = [words[1:] for _, words in every_command() if words[0] == "make"]

    assert len(given) > 5
    for target, *variables in given:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for variable in variables:
            name = variable.partition("=")[0]
            assert re.search(rf"^{name} =", makefile, re.MULTILINE), variable


def test_until_it_is_on_pypi_quick_starts_say_so_and_name_the_wheel() -> None:
    for name in ("colab", "kaggle", "docker", "kubernetes", "slurm", "ray"):
        text = PAGES[f"docs/{name}.md"]
        after = text.partition("pip install")[2]
        assert "It is not on PyPI yet: [until it is](index.md#until-it-is-on-pypi)" in after, name
    for name, text in TEXTS.items():
        for wheel in re.findall(r"moderngl_colab-[\w.]+-py3-none-any\.whl", text):
            version = moderngl_colab.__version__
            assert wheel == f"moderngl_colab-{version}-py3-none-any.whl", name


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_is_documented(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit):
        command_line.main([command, "--help"])

    page = PAGES[f"docs/{FLAGS[command]}.md"]
    flags = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert flags
    for flag in flags:
        assert f"`{flag}" in page, flag


def test_every_command_has_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["--help"])

    assert set(re.findall(r"^  ([a-z-]+) ", capsys.readouterr().out, re.MULTILINE)) == set(FLAGS)


# ---- containers and clusters ---------------------------------------------------------------------


def test_the_pod_asks_for_a_gpu_and_its_graphics() -> None:
    (text,) = blocks("yaml", PAGES["docs/kubernetes.md"])
    pod = yaml.safe_load(text)

    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    (variable,) = container["env"]
    assert variable["name"] == "NVIDIA_DRIVER_CAPABILITIES"
    assert "graphics" in variable["value"].split(",")
    assert container["command"] == ["sh", "-ec"]
    last = list(command_lines(container["args"][0]))[-1]
    assert last == ["python", "-m", "moderngl_colab"]


def test_the_compose_file_asks_for_a_gpu_and_its_graphics() -> None:
    (text,) = blocks("yaml", PAGES["docs/docker.md"])
    (service,) = yaml.safe_load(text)["services"].values()

    assert "graphics" in service["environment"]["NVIDIA_DRIVER_CAPABILITIES"].split(",")
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_dockerfiles_are_instructions_with_a_shells_commands() -> None:
    files = [code for _, code in with_blocks("dockerfile")]

    assert len(files) >= 2
    for text in files:
        lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines()]
        assert lines[0][0] == "FROM"
        for instruction, rest in lines:
            if instruction == "RUN":
                assert all(words[0] in ("apt-get", "pip", "rm") for words in command_lines(rest))
            elif instruction == "CMD":
                assert json.loads(rest) == ["python", "-m", "moderngl_colab"]
            else:
                assert instruction in ("FROM", "ENV", "COPY"), instruction
        assert re.search(r"^ENV NVIDIA_DRIVER_CAPABILITIES=.*\bgraphics\b", text, re.MULTILINE)


def test_wherever_capabilities_are_named_graphics_is_among_them() -> None:
    for name, text in TEXTS.items():
        for given in re.findall(r"NVIDIA_DRIVER_CAPABILITIES(?:=|: )([\w,]+)", text):
            assert {"all", "graphics"} & set(given.split(",")), (name, given)


def test_docker_reads_the_quoted_flag_as_three_capabilities() -> None:
    flags = {words[words.index("--gpus") + 1] for _, words in every_command() if "--gpus" in words}

    assert flags == {"all", 'all,"capabilities=compute,utility,graphics"'}
    (quoted,) = flags - {"all"}
    # As Docker's client does it, by encoding/csv.
    assert next(csv.reader([quoted])) == ["all", "capabilities=compute,utility,graphics"]


def test_the_apptainer_definition_has_a_header_and_a_script() -> None:
    (text,) = blocks("apptainer", PAGES["docs/slurm.md"])
    header, script = text.split("%post\n")

    assert dict(line.split(": ") for line in header.split("\n") if line) == {
        "Bootstrap": "docker",
        "From": "python:3.12-slim",
    }
    assert [words[0] for words in command_lines(script)] == ["apt-get", "apt-get", "pip"]


def test_findings_that_a_page_names_exist() -> None:
    programs = {
        "apt-cache",
        "apt-get",
        "dpkg-deb",
        "install-driver",
        "moderngl-colab",
        "nvidia-smi",
    }
    for name, text in TEXTS.items():
        named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text)) - programs
        assert named <= set(CODES), (name, named - set(CODES))
        printed = re.findall(r"^(?:cause: |  \d+\. )([a-z-]+)(?:: | \()", text, re.MULTILINE)
        strategies = {strategy.name for strategy in DEFAULT_STRATEGIES}
        assert set(printed) - strategies <= set(CODES), (name, printed)


# ---- completeness --------------------------------------------------------------------------------


def test_every_finding_is_in_the_table_with_its_cure() -> None:
    table = PAGES["docs/findings.md"].replace("\\|", "\N{BROKEN BAR}")
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    cures = {row[0].strip(" `"): row[3].strip(" `").replace("\N{BROKEN BAR}", "|") for row in rows}

    expected: dict[str, str] = {}
    for _, finding in CASES.values():
        expected.setdefault(finding.code, finding.remedy)
    assert cures == expected
    assert list(cures) == list(CODES)


def test_every_variable_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "moderngl_colab").rglob("*.py"))

    for variable in set(re.findall(r"\bMODERNGL_COLAB_[A-Z_]+\b", sources)):
        assert f"| `{variable}` |" in PAGES["docs/using.md"], variable


def test_every_module_has_its_place_in_the_plan_of_the_house() -> None:
    for path in (ROOT / "moderngl_colab").rglob("*.py"):
        assert path.name in PAGES["docs/architecture.md"], path


def test_every_public_name_is_in_the_api() -> None:
    page = PAGES["docs/api.md"]
    shown = re.findall(r"^::: moderngl_colab\.([\w.]+)$", page, re.MULTILINE)
    modules = {"errors", "strategies"}
    beside = {f"bench.{name}" for name in bench.__all__} | {"window.run"}

    assert len(shown) == len(set(shown))
    assert set(shown) == set(moderngl_colab.__all__) - modules | beside
    assert all(f"`moderngl_colab.{name}`" in page for name in modules)


def test_every_example_is_in_the_gallery() -> None:
    for path in (ROOT / "examples").rglob("*"):
        if path.suffix in (".py", ".ipynb"):
            assert f"](../{path.relative_to(ROOT)})" in PAGES["docs/examples.md"], path


def test_the_navigation_names_every_page_once() -> None:
    text = (DOCS / "site" / "mkdocs.yml").read_text()
    named = re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE)

    assert len(named) == len(set(named))
    assert {f"docs/{name}" for name in named} - {"docs/changelog.md"} == set(PAGES)


def test_the_docstring_names_every_error() -> None:
    assert get_gpu_context.__doc__ is not None
    for name in ("GPUContextError", "TypeError", "ValueError", "SoftwareRenderingWarning"):
        assert name in get_gpu_context.__doc__
    assert moderngl_colab.__doc__ is not None


def test_the_readme_is_short_and_says_what_is_unproven() -> None:
    readme = TEXTS["README.md"]

    assert len(readme.splitlines()) <= 120
    assert "docs/gpu-results.md" in readme


def test_the_chinese_readme_has_the_same_code_and_links() -> None:
    english, chinese = TEXTS["README.md"], TEXTS["docs/README.zh-CN.md"]

    def code(text: str) -> list[tuple[str, str]]:
        """Without comments, which are translated."""
        return [(kind, re.sub(r"\s*#.*", "", body)) for kind, body in BLOCK.findall(text)]

    assert code(chinese) == code(english)

    def links(text: str, folder: str) -> set[str]:
        return {
            target if "://" in target else os.path.normpath(os.path.join(folder, target))
            for target in targets(text)
        }

    each = {"README.md", "docs/README.zh-CN.md"}  # Each has a link to the other one.
    assert links(english, "") | each == links(chinese, "docs") | each


# ---- links and pictures --------------------------------------------------------------------------


def targets(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))
    named = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r"(?:src|href)=\"([^\"]+)\"", prose)
    return [target for target in named if not target.startswith(("https://", "http://"))]


def test_links_to_our_own_repository_are_to_what_is_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    repository = project["urls"]["Repository"]
    owner = repository.removeprefix("https://github.com/")
    notebook = ROOT / "examples" / "colab_quickstart.ipynb"
    texts = TEXTS | {
        "notebook": notebook.read_text(),
        "CHANGELOG": (ROOT / "CHANGELOG.md").read_text(),
    }
    found = {
        address
        for text in texts.values()
        for address in re.findall(r"https://[^\s()<>\"\\]*", text)
        if "moderngl_colab" in address or "moderngl-colab" in address
    }

    badge = (
        f"https://colab.research.google.com/github/{owner}/blob/main/{notebook.relative_to(ROOT)}"
    )
    assert found == {repository, f"{repository}#readme", badge}
    pages = ("README.md", "docs/README.zh-CN.md", "docs/colab.md", "docs/examples.md", "notebook")
    assert all(badge in texts[page] for page in pages)


def anchors(text: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names = (slug if not n else f"{slug}-{n}" for n in count())
        found.add(next(name for name in names if name not in found))
    return found


@pytest.mark.parametrize("name", [name for name in TEXTS if targets(TEXTS[name])])
def test_links_lead_somewhere_as_github_resolves_them(name: str) -> None:
    for target in targets(TEXTS[name]):
        path, _, anchor = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), target
        assert ROOT in [there.resolve(), *there.resolve().parents], target
        assert not anchor or anchor in anchors(there.read_text()), target


def test_the_pictures_are_drawn_by_the_examples(python: Any, tmp_path: Path) -> None:
    python("package", DOCS / "site" / "pictures.py", str(tmp_path))

    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.name for path in (DOCS / "images").glob("*.png"))
    for name in drawn:
        shown, again = (
            Image.open(folder / name).convert("RGB") for folder in (DOCS / "images", tmp_path)
        )
        assert shown.size == again.size
        # Drivers round differently, and a pattern grows from that.
        assert max(ImageStat.Stat(ImageChops.difference(shown, again)).mean) < 6, name
        assert max(ImageStat.Stat(shown).stddev) > 20, name
        assert f"](images/{name})" in PAGES["docs/examples.md"], name


def test_the_picture_of_the_chain_has_the_strategies_in_their_order() -> None:
    picture = ElementTree.parse(DOCS / "images" / "chain.svg")  # noqa: S314  # our own
    words = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]

    names = [strategy.name for strategy in DEFAULT_STRATEGIES]
    assert [word for word in words if word in names] == names
    assert words[0] == "moderngl_colab.get_gpu_context()"
