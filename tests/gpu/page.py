"""Makes docs/gpu-results.md of the results that are kept beside this file.

    python tests/gpu/page.py [FILE.json ...]

Files that a run of tests/gpu has written are taken into tests/gpu/kept first; parts of one result
are put together. Those of the test rig's stand-in for NVIDIA's driver, and quick ones, prove
nothing: where one is among them, none is taken. A result is let go by removing its file from there.

The page says which results are of other code than this, so it is to be made again, without a file,
when the code is changed after a result was taken in.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # It is a program, too.
    sys.path.insert(0, str(HERE.parent))

from gpu import results  # noqa: E402

__all__ = ["KEPT", "PAGE", "cases", "claims", "keep", "kept", "proven", "render"]

KEPT = HERE / "kept"
PAGE = HERE.parent.parent / "docs" / "gpu-results.md"

_HEAD = """\
# Results on physical GPUs

What is claimed of NVIDIA's drivers has a test in `tests/gpu`, which runs where an NVIDIA GPU is:

```sh
python -m pytest tests/gpu
```

It installs nothing, skips what a machine cannot show, and keeps every outcome and every figure in
one JSON file, without host, user and UUIDs. How to run it on a machine without network, and in
parts, is said at the head of `tests/gpu/__init__.py`. This page is made of such files by
`python tests/gpu/page.py FILE`; no figure on it is written by hand. Results of the simulated
machines are refused. A claim is proven where each of its cases passed in one result, as the claim
reads today. Each result names its code by a hash of the Python files of the library and of
`tests/gpu`.
"""


def claims() -> dict[str, str]:
    """What each test of the suite claims, by its name, in the suite's order."""
    return {name: " ".join((test.__doc__ or "").split()) for name, test in _tests()}


def cases() -> dict[str, set[str]]:
    """The cases of each test by its name; of one without cases its name alone."""
    found: dict[str, set[str]] = {}
    for name, test in _tests():
        marks = getattr(test, "pytestmark", ())
        words = [mark.args[1] for mark in marks if mark.name == "parametrize"]
        found[name] = {f"{name}[{word}]" for word in words[0]} if words else {name}
    return found


def _tests() -> Iterator[tuple[str, Any]]:
    for path in sorted(HERE.glob("test_*.py")):
        for name, value in vars(import_module(f"gpu.{path.stem}")).items():
            if name.startswith("test_"):
                yield name, value


def kept(folder: Path = KEPT) -> list[results.Result]:
    """The results that are kept: the newest driver first, and of each the newest result.

    Raises:
        ValueError: one of them is no result, or proves nothing.
    """
    return sorted(map(_proof, sorted(folder.glob("*.json"))), key=_newest, reverse=True)


def keep(paths: Iterable[Path], folder: Path = KEPT) -> None:
    """Take results in, after all of them, and those that are kept, were looked at.

    Raises:
        OSError: one cannot be read, or kept.
        ValueError: one is no result, or proves nothing.
    """
    taken = [_proof(path) for path in paths]
    kept(folder)
    for result in taken:
        results.add(result, folder)


def proven(result: results.Result) -> set[str]:
    """The tests whose claims, as they read today, a result proves: every case passed."""
    today = claims()
    passed = {
        test.test
        for test in result.tests
        if test.outcome == "passed" and test.claim == today.get(_function(test))
    }
    return {name for name, each in cases().items() if each <= passed}


def render(shown: Sequence[results.Result]) -> str:
    """The page, of these results."""
    lines = (line for each in shown for line in _run(each))
    return "\n".join((_HEAD, *_failed(shown), *_unproven(shown), *lines))


def _proof(path: Path) -> results.Result:
    result = results.load(path)
    if result.stand_in or "stand-in" in result.gpu.lower():
        raise ValueError(f"{path}: it is of the stand-in for NVIDIA's driver, which proves nothing")
    if result.quick:
        raise ValueError(f"{path}: it is of a quick run, which proves nothing")
    return result


def _newest(result: results.Result) -> tuple[list[int], str]:
    driver = [int(part) for part in result.driver.split(".") if part.isdecimal()]
    return driver, result.date


def _failed(shown: Sequence[results.Result]) -> Iterator[str]:
    failed = [
        f"- {_source(result)}: {test.claim} `{test.test}`: {test.reason}{_passed(test, shown)}"
        for result in shown
        for test in result.tests
        if test.outcome == "failed"
    ]
    if failed:
        yield from ("## Failed on a GPU\n", *failed, "")


def _passed(failed: results.Tested, shown: Sequence[results.Result]) -> str:
    """When what failed last passed, if it did."""
    passed = (failed.test, failed.claim, "passed")
    found = [each for each in shown if any(test[:3] == passed for test in each.tests)]
    if not found:
        return ""
    return f" (last passed: {_source(max(found, key=lambda each: each.date))})"


def _source(result: results.Result) -> str:
    return f"{result.date[:10]}, driver {result.driver}, {_code(result)}"


def _code(result: results.Result) -> str:
    other = "" if result.code == _own_code() else ", other code than this page's"
    return f"moderngl_colab {result.moderngl_colab} (`{result.code}`{other})"


@functools.cache
def _own_code() -> str:
    return results.code()  # Hundreds of files are read.


def _unproven(shown: Sequence[results.Result]) -> Iterator[str]:
    known = {name for each in shown for name in proven(each)}
    missing = [claim for name, claim in claims().items() if name not in known]
    yield "## Not proven on a GPU\n"
    if not shown:
        yield "Nothing has been run on a physical GPU yet:\n"
    if missing:
        yield from (f"- {claim}" for claim in missing)
        yield ""
    if known:
        what = "All else" if missing else "Every claim"
        failed = any(test.outcome == "failed" for each in shown for test in each.tests)
        how = "passed in a result, but see what failed" if failed else "been proven on a GPU"
        ours = {name for each in shown if each.code == _own_code() for name in proven(each)}
        by = "" if known <= ours else "; not all of it by this page's code"
        yield f"{what} has {how}{by}.\n"


def _run(result: results.Result) -> Iterator[str]:
    yield f"## Driver {result.driver}: {result.gpu}, {result.date[:10]}\n"
    counts = {
        outcome: sum(test.outcome == outcome for test in result.tests)
        for outcome in results.OUTCOMES
    }
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    packages = ("moderngl", "glcontext", "python")
    versions = ", ".join(f"{name} {getattr(result, name)}" for name in packages)
    yield (
        f"{told}, by {_code(result)}. GPUs: {result.gpus}; {result.system}, kernel "
        f"{result.kernel}, platform {result.platform}; {versions}.\n"
    )
    yield "| claim | outcome | figures |"
    yield "| --- | --- | --- |"
    order = {name: place for place, name in enumerate(claims())}
    for test in sorted(result.tests, key=lambda test: order.get(_function(test), len(order))):
        case = test.test.removeprefix(_function(test))
        outcome = test.outcome if test.reason is None else f"{test.outcome}: {test.reason}"
        figures = "; ".join(map(_figure, test.figures))
        yield _row(f"{test.claim} {case}".strip(), outcome, figures)
    yield ""


def _function(test: results.Tested) -> str:
    return test.test.partition("[")[0]


def _figure(figure: results.Figure) -> str:
    value = figure.value
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int | float):
        text = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    else:
        text = "not told" if value is None else value
    return f"{figure.name}: {text}" + (f" {figure.unit}" if figure.unit else "")


def _row(*cells: str) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"


def main() -> None:
    """Take results in, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.json", help="results to keep")
    try:
        keep(parser.parse_args().files)
        results.write(PAGE, render(kept()))
    except (OSError, ValueError) as error:
        sys.exit(f"page.py: error: {error}")


if __name__ == "__main__":
    main()
