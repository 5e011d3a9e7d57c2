"""A report for notebooks: one element, without script, style sheet or anything from elsewhere.

It takes the notebook's own colours of text and background, so that it is read in light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from moderngl_colab.diagnostics.blocks import blocks, cause, findings_title, one_line, verdict

__all__ = ["render"]

# Strong enough on white and on black.
_COLOURS = {"gpu": "#2e9e5b", "software": "#c98a00", "none": "#d9534f", "untried": "#8a8a8a"}
_LINE = "rgba(128,128,128,0.35)"
_CELL = (
    f"border:1px solid {_LINE};padding:2px 8px;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere"
)
_PRE = (
    f"border:1px solid {_LINE};border-radius:3px;padding:6px 8px;margin:4px 0;color:inherit;"
    "background:rgba(128,128,128,0.12);white-space:pre-wrap;overflow-wrap:anywhere"
)


def render(data: Mapping[str, Any]) -> str:
    """A report as one HTML element.

    Arguments:
        data: what :meth:`moderngl_colab.Report.to_dict` gives.
    """
    return "".join(_elements(data))


def _elements(data: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f'<div style="border-left:4px solid {_COLOURS[data["verdict"]]};padding-left:10px;'
        'color:inherit;background:transparent">'
    )
    yield f"<div><strong>{escape(verdict(data))}</strong></div>"
    if (why := cause(data)) is not None:
        yield f"<div>{escape(why)}</div>"
        yield _fix(data["findings"][0])
    for block in blocks(data):
        opened = " open" if block.title == "strategies" else ""
        yield from _details(block.title, opened, (_table(block.rows),))
    yield from _details("findings", "", _findings(data["findings"]))
    yield "</div>"


def _details(title: str, opened: str, content: Iterable[str]) -> Iterator[str]:
    yield f'<details{opened}><summary style="cursor:pointer">{escape(title)}</summary>'
    yield from content
    yield "</details>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th style="{_CELL};white-space:nowrap">{escape(label)}</th>'
        f'<td style="{_CELL}">{escape(text)}</td></tr>'
        for label, text in rows
    )
    return (
        '<table style="border-collapse:collapse;color:inherit;background:transparent;margin:4px 0">'
        f"{cells}</table>"
    )


def _findings(findings: list[Mapping[str, Any]]) -> Iterator[str]:
    if not findings:
        yield "<div>none</div>"
        return
    yield "<ol>"
    for finding in findings:
        lines = "".join(f"<div>{escape(one_line(line))}</div>" for line in finding["evidence"])
        yield f"<li><div>{escape(findings_title(finding))}</div>{lines}{_fix(finding)}</li>"
    yield "</ol>"


def _fix(finding: Mapping[str, Any]) -> str:
    lines = "\n".join(one_line(line) for line in finding["remedy"].splitlines())
    return f'<div>fix:</div><pre style="{_PRE}">{escape(lines)}</pre>'
