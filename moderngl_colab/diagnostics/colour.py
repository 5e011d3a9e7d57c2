"""A report for a terminal, by rich: the words of the text, with colour and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moderngl_colab.diagnostics.blocks import Block, blocks, cause, findings_title, verdict
from moderngl_colab.diagnostics.text import aligned, evidence

__all__ = ["show"]

_VERDICTS = {"gpu": "bold green", "software": "bold yellow", "none": "bold red", "untried": "bold"}
_SEVERITIES = {"error": "red", "warning": "yellow", "note": "cyan"}


def show(data: Mapping[str, Any], stream: TextIO) -> None:
    """Write a report to a terminal.

    Arguments:
        data: what :meth:`moderngl_colab.Report.to_dict` gives.
        stream: where to.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)

    colour = _VERDICTS[data["verdict"]]
    line(verdict(data), colour)
    if (why := cause(data)) is not None:
        line(why, _SEVERITIES[data["findings"][0]["severity"]])
    for block in blocks(data):
        line(f"\n{block.title}", "bold")
        if block.title == "strategies" and data["attempts"]:
            console.print(_table(block))
            continue
        for text in aligned(block):
            line(text)
    line("\nfindings", "bold")
    for number, finding in enumerate(data["findings"], 1):
        line(f"  {number}. {findings_title(finding)}", _SEVERITIES[finding["severity"]])
        for text in evidence(finding):
            line(text, "bold" if text.startswith("     fix: ") else "")
    if not data["findings"]:
        line("  none")
    line(f"\n{verdict(data)}", colour)


def _table(block: Block) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in block.rows:
        style = {"GPU": "green", "CPU": "yellow"}.get(text.partition(",")[0], "")
        table.add_row(Text(label), Text(text, style))
    return table
