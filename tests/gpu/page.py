"""Makes docs/gpu-results.md of the results that are kept beside this file.

    python tests/gpu/page.py [FILE.json ...]

Files that a run of tests/gpu has written are taken into tests/gpu/kept first: parts of one result
are put together, and of each driver the last result is kept, unless it proves less. Those of the
test rig's stand-in for NVIDIA's driver, and quick ones, are refused: they prove nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
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
`python tests/gpu/page.py FILE`, and holds the last one of each driver, unless it proves less than
the one before; no figure on it is written by hand. Results of the simulated machines are refused.
A claim is proven where each of its cases passed.
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
    """The results that are kept: of each driver the last one, the newest driver first.

    Raises:
        ValueError: one of them is no result, or proves nothing.
    """
    last: dict[str, results.Result] = {}
    for path in sorted(folder.glob("*.json")):
        result = _proof(path)
        before = last.get(result.driver)
        if before is None or before.date < result.date:
            last[result.driver] = result
    return sorted(last.values(), key=_newest, reverse=True)


def keep(path: Path, folder: Path = KEPT) -> Path:
    """Take a result in; others of the same driver go.

    Raises:
        OSError: it cannot be read, or kept.
        ValueError: it is no result, or proves nothing, or is older than what is kept, or proves
            less.
    """
    result = _proof(path)
    others = [other for other in folder.glob("*.json") if _proof(other).driver == result.driver]
    for before in map(_proof, others):
        if results.same(before, result):
            parts = sorted((before, result), key=lambda part: part.date)
            result = results.merged(*parts)
        elif before.date > result.date:
            raise ValueError(f"{path}: a later result of driver {result.driver} is kept")
        elif lost := proven(before) - proven(result):
            raise ValueError(f"{path}: what is kept proves more: {', '.join(sorted(lost))}")
    target = results.save(result, folder)
    for other in others:
        if other != target:
            other.unlink()
    return target


def proven(result: results.Result) -> set[str]:
    """The tests whose claims a result proves: every case passed."""
    passed = {test.test for test in result.tests if test.outcome == "passed"}
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


def _newest(result: results.Result) -> list[int]:
    return [int(part) for part in result.driver.split(".") if part.isdecimal()]


def _failed(shown: Sequence[results.Result]) -> Iterator[str]:
    failed = [
        f"- {result.driver}: {test.claim} `{test.test}`: {test.reason}"
        for result in shown
        for test in result.tests
        if test.outcome == "failed"
    ]
    if failed:
        yield from ("## Failed on a GPU\n", *failed, "")


def _unproven(shown: Sequence[results.Result]) -> Iterator[str]:
    known = {name for each in shown for name in proven(each)}
    missing = [claim for name, claim in claims().items() if name not in known]
    yield "## Not proven on a GPU\n"
    if not missing:
        yield "Every claim has been proven on a GPU.\n"
        return
    if not shown:
        yield "Nothing has been run on a physical GPU yet:\n"
    yield from (f"- {claim}" for claim in missing)
    yield ""


def _run(result: results.Result) -> Iterator[str]:
    yield f"## Driver {result.driver}: {result.gpu}\n"
    counts = {
        outcome: sum(test.outcome == outcome for test in result.tests)
        for outcome in results.OUTCOMES
    }
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    packages = ("moderngl_colab", "moderngl", "glcontext", "python")
    versions = ", ".join(f"{name} {getattr(result, name)}" for name in packages)
    yield (
        f"{result.date[:10]}: {told}. GPUs: {result.gpus}; {result.system}, kernel "
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
        for path in parser.parse_args().files:
            keep(path)
        results.write(PAGE, render(kept()))
    except (OSError, ValueError) as error:
        sys.exit(f"page.py: error: {error}")


if __name__ == "__main__":
    main()
