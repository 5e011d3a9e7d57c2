"""A report as text, with colour where somebody looks at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moderngl_colab.diagnostics.blocks import (
    Block,
    blocks,
    cause,
    findings_title,
    one_line,
    verdict,
)

__all__ = ["aligned", "evidence", "render"]


def render(data: Mapping[str, Any]) -> str:
    """A report as lines, which are as long as they are.

    Arguments:
        data: what :meth:`moderngl_colab.Report.to_dict` gives.
    """
    return "\n".join(_lines(data))


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    yield verdict(data)
    if (why := cause(data)) is not None:
        yield why
    for block in blocks(data):
        yield ""
        yield block.title
        yield from aligned(block)
    yield ""
    yield "findings"
    for number, finding in enumerate(data["findings"], 1):
        yield f"  {number}. {findings_title(finding)}"
        yield from evidence(finding)
    if not data["findings"]:
        yield "  none"
    yield ""
    yield verdict(data)


def aligned(block: Block) -> Iterator[str]:
    """The lines of a block, their labels in a column."""
    width = max(len(label) for label, _ in block.rows)
    for label, text in block.rows:
        yield f"  {label:{width}}  {text}".rstrip()


def evidence(finding: Mapping[str, Any]) -> Iterator[str]:
    """What was seen, and what mends it; a remedy may have several lines."""
    for line in finding["evidence"]:
        yield f"     {one_line(line)}"
    first, *more = finding["remedy"].splitlines() or [""]
    yield f"     fix: {one_line(first)}"
    for line in more:
        yield f"          {one_line(line)}"
