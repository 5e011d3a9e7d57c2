"""docs/promises.md is so: its tests exist, its figures are theirs, its table the benchmark's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import test_hostile
import test_leaks
import test_many
import test_xvfb

from benchmarks import promises
from moderngl_colab import options

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", PAGE)
# Those whose tests are promises, each of them named on the page.
FILES = (
    "test_bounded.py", "test_gates.py", "test_glx.py", "test_hostile.py", "test_interrupts.py",
    "test_leaks.py", "test_many.py", "test_probe.py", "test_release.py", "test_threads.py",
    "test_trust.py", "test_writes.py", "test_xvfb.py",
)  # fmt: skip


def rows(heading: str) -> list[list[str]]:
    """The cells of the lines of a section's table, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_promise_names_a_test_that_is_there(file: str, name: str) -> None:
    text = (TESTS / file).read_text()

    assert not name or f"\ndef {name}(" in text


def test_each_file_of_promises_is_named_and_each_promise_names_one() -> None:
    assert sorted({file for file, _ in NAMED}) == sorted(FILES)
    assert len(rows("The promises")) > 0
    for promise in rows("The promises"):
        assert len(promise) == 5, promise
        assert re.search(r"`test_\w+\.py", promise[2]), promise


def test_the_figures_that_are_promised_are_those_that_are_tested() -> None:
    promised = " ".join(row[3] for row in rows("The promises"))

    assert f"{test_xvfb.REPETITIONS} of each end" in promised
    assert f"{max(each.times for each in test_leaks.CYCLES.values()):,} cycles" in promised
    assert f"{test_leaks.CALLS:,} failing calls" in promised
    assert f"{test_many.PROCESSES} processes" in promised
    assert f"{test_hostile.CASES:,} cases" in promised
    assert f"{options._DEFAULT_TIMEOUT:.0f} s by default" in promised  # noqa: SLF001


def test_the_comparison_is_the_benchmarks_output() -> None:
    table = rows("Side by side")
    full = promises.FULL._asdict()

    assert f"\n{promises.line(promises.COLUMNS)}\n" in PAGE
    assert [row[0] for row in table] == [row.what.format(**full) for row in promises.ROWS]
    for cells, row in zip(table, promises.ROWS, strict=True):
        measured = [cells[1 + number] != "n/a" for number in range(len(promises.BOTH))]
        assert measured == [side in row.sides for side in promises.BOTH], cells
        assert set(re.findall(r"better|equal|worse", cells[-1])), cells
