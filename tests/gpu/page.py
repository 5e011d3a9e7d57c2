"""Makes docs/gpu-results.md of the results that are kept beside this file.

    python tests/gpu/page.py [FILE.json ...]

Files that a run of tests/gpu has written are taken into tests/gpu/kept first; of each driver the
last result is kept. Those of the test rig's stand-in for NVIDIA's driver, and quick ones, are
refused: they prove nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # It is a program, too.
    sys.path.insert(0, str(HERE.parent))

from gpu import results  # noqa: E402

__all__ = ["KEPT", "PAGE", "claims", "keep", "kept", "render"]

KEPT = HERE / "kept"
PAGE = HERE.parent.parent / "docs" / "gpu-results.md"

_HEAD = """\
# Results on physical GPUs

What is claimed of NVIDIA's drivers has a test in `tests/gpu`, which runs where an NVIDIA GPU is:

```sh
python -m pytest tests/gpu
```

It installs nothing, skips what a machine cannot show, and writes one JSON file with every figure,
without host, user and UUIDs. How to run it on a machine without network is said at the head of
`tests/gpu/__init__.py`. This page is made of such files by `python tests/gpu/page.py FILE`, and
holds the last one of each driver; no figure on it is written by hand. Results of the simulated
machines are refused.
"""


def claims() -> dict[str, str]:
    """What each test of the suite claims, by its name, in the suite's order."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        for name, value in vars(import_module(f"gpu.{path.stem}")).items():
            if name.startswith("test_"):
                found[name] = " ".join(value.__doc__.split())
    return found


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
        ValueError: it is no result, or proves nothing, or is older than what is kept.
    """
    result = _proof(path)
    others = [other for other in folder.glob("*.json") if _proof(other).driver == result.driver]
    if any(_proof(other).date > result.date for other in others):
        raise ValueError(f"{path}: a later result of driver {result.driver} is kept")
    target = results.save(results.to_dict(result), folder)
    for other in others:
        if other != target:
            other.unlink()
    return target


def render(shown: Sequence[results.Result]) -> str:
    """The page, of these results."""
    return "\n".join((_HEAD, *_unproven(shown), *(line for each in shown for line in _run(each))))


def _proof(path: Path) -> results.Result:
    result = results.load(path)
    if result.stand_in or "stand-in" in result.gpu.lower():
        raise ValueError(f"{path}: it is of the stand-in for NVIDIA's driver, which proves nothing")
    if result.quick:
        raise ValueError(f"{path}: it is of a quick run, which proves nothing")
    return result


def _newest(result: results.Result) -> list[int]:
    return [int(part) for part in result.driver.split(".") if part.isdecimal()]


def _unproven(shown: Sequence[results.Result]) -> Iterator[str]:
    run = {_function(test) for each in shown for test in each.tests if test.outcome != "skipped"}
    missing = [claim for name, claim in claims().items() if name not in run]
    yield "## Never run on a GPU\n"
    if not missing:
        yield "Every claim has been run on a GPU.\n"
        return
    if not run:
        yield "No claim has been run on a physical GPU yet:\n"
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
    for test in result.tests:
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
