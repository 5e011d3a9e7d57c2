"""What was measured, as text and as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from moderngl_colab.bench.measure import SCENES
from moderngl_colab.diagnostics.blocks import Block, one_line
from moderngl_colab.diagnostics.text import aligned
from moderngl_colab.errors import MORE

__all__ = ["headline", "html", "number", "text"]

Data = Mapping[str, Any]

_HEAD = ("scene", "size", "strategy", "frames/s", "times Mesa", "throughput")
_RIGHT = ("frames/s", "times Mesa")  # are numbers
_MIB = 1 << 20
_NO_GPU = "driver-absent"  # the cause where the machine was given none
_CELL = "border:1px solid rgba(128,128,128,0.35);padding:2px 8px"


def text(data: Data) -> str:
    """It as lines.

    Arguments:
        data: what :meth:`~.result.Benchmark.to_dict` gives.
    """
    return "\n".join(_lines(data))


def _lines(data: Data) -> Iterator[str]:
    yield headline(data)
    yield from (f"  {line}" for line in _advice(data))
    yield ""
    yield from aligned(Block("strategies", tuple(_strategies(data))))
    if rows := list(_rows(data)):
        widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
        yield ""
        for row in (_HEAD, *rows):
            cells = (
                f"{cell:>{width}}" if name in _RIGHT else f"{cell:{width}}"
                for name, cell, width in zip(_HEAD, row, widths, strict=True)
            )
            yield f"  {'  '.join(cells)}".rstrip()


def headline(data: Data) -> str:
    """What the GPU is worth; or that there is none, and why."""
    counted = [row for row in data["strategies"] if any(_right(row))]
    if (gpu := _gpu(data)) is not None:
        who = f"GPU: {one_line(gpu['renderer'])} ({one_line(gpu['vendor'])}) by {gpu['strategy']}"
        if gpu["outcome"] != "measured":
            return f"{who}, {gpu['outcome']}: {one_line(gpu['reason'])}"
        ratios = [m["ratio_to_mesa"] for m in _right(gpu) if m["ratio_to_mesa"] is not None]
        if not ratios or gpu["strategy"] == "mesa":
            return who
        times = f"{number(min(ratios))} to {number(max(ratios))} times as fast as Mesa"
        return f"{who}, {times} on {_renderer_of_mesa(data)}"
    why = _obstacle(data)
    reason = "" if why is None else f": {one_line(why['reason'])}"
    if not counted:
        return f"nothing was measured{reason}"
    if why is None:
        return f"CPU: {one_line(counted[0]['renderer'])} by mesa; no other strategy was asked for"
    how = "no GPU" if why["cause"] == _NO_GPU else "the GPU was not reached"
    return f"{how}, Mesa alone was measured{reason}"


def number(value: float) -> str:
    """With three digits, or all that are before the point."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def html(data: Data) -> str:
    """It as one HTML element, in the notebook's own colours.

    Arguments:
        data: as for :func:`text`.
    """
    rows = list(_rows(data))
    strategies = _table(("strategy", ""), list(_strategies(data)))
    figures = _table(_HEAD, rows) if rows else ""
    fix = "".join(f"<div>{escape(line)}</div>" for line in _advice(data))
    return f"<div><strong>{escape(headline(data))}</strong>{fix}{strategies}{figures}</div>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(tag: str, row: tuple[str, ...]) -> str:
        cells = (
            f'<{tag} style="{_CELL};text-align:{"right" if name in _RIGHT else "left"}">'
            f"{escape(cell)}</{tag}>"
            for name, cell in zip(head, row, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    return (
        '<table style="border-collapse:collapse;color:inherit;background:transparent;margin:6px 0">'
        f"{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"
    )


def _right(row: Data) -> list[Data]:
    return [measured for measured in row["measurements"] if measured["wrong"] is None]


def _gpu(data: Data) -> Data | None:
    """The first strategy on a GPU, if there is one; of several, one that failed in nothing."""
    rows = [row for row in data["strategies"] if row["software"] is False]
    return next((row for row in rows if row["outcome"] == "measured"), next(iter(rows), None))


def _renderer_of_mesa(data: Data) -> str:
    """What the ratios are to: the CPU, or a GPU that Mesa has a driver for."""
    (mesa,) = (row for row in data["strategies"] if row["strategy"] == "mesa")
    return one_line(mesa["renderer"])


def _obstacle(data: Data) -> Data | None:
    """The strategy by which the GPU was looked for first, and in vain; one that found none."""
    rows = [row for row in data["strategies"] if not any(_right(row))]
    others = [row for row in rows if row["strategy"] != "mesa"]
    absent = [row for row in others if row["cause"] == _NO_GPU]
    return next(iter(absent or others or rows), None)


def _advice(data: Data) -> Iterator[str]:
    """What mends it where no GPU was measured; and who knows more where a strategy failed."""
    why = _obstacle(data)
    if why is not None and why["remedy"] and _gpu(data) is None:
        yield f"fix: {one_line(why['remedy'])}"
    if any(row["outcome"] == "failed" for row in data["strategies"]):
        yield MORE


def _strategies(data: Data) -> Iterator[tuple[str, str]]:
    for row in data["strategies"]:
        label = row["strategy"]
        if row["vendor"] is not None:
            kind = "CPU" if row["software"] else "GPU"
            yield label, f"{kind}: {one_line(row['renderer'])} ({one_line(row['vendor'])})"
            label = ""
            yield label, f"first context after {row['first_context_seconds']:.2f} s"
        if (memory := _memory(row)) is not None:
            yield label, memory
        if row["nvml"] is not None:
            yield label, f"NVML was not asked for memory: {one_line(row['nvml'])}"
        if row["outcome"] != "measured":
            yield label, f"{row['outcome']}: {one_line(row['reason'])}"


def _memory(row: Data) -> str | None:
    before, during = row["gpu_memory_before"], row["gpu_memory_during"]
    if before is None or during is None:
        return None
    name, whose = "process_bytes", "this process"
    if None in (before[name], during[name]):
        name, whose = "all_bytes", "all processes"
    amounts = [f"{memory[name] / _MIB:,.0f} MiB" for memory in (before, during)]
    return f"GPU memory of {whose}: {amounts[0]} before, {amounts[1]} during"


def _rows(data: Data) -> Iterator[tuple[str, ...]]:
    """The measurements, those that are to be compared one below the other."""
    measured = [(row["strategy"], m) for row in data["strategies"] for m in row["measurements"]]
    keys = dict.fromkeys((m["scene"], m["width"], m["height"]) for _, m in measured)
    for key in sorted(keys, key=lambda key: SCENES.index(key[0])):
        for strategy, m in measured:
            if (m["scene"], m["width"], m["height"]) == key:
                yield (key[0], f"{key[1]}x{key[2]}", strategy, *_figures(m))


def _figures(measured: Data) -> tuple[str, str, str]:
    if measured["wrong"] is not None:
        return "-", "-", "wrong frame"
    ratio = measured["ratio_to_mesa"]
    work = {
        "fill": (("", "pixels_per_second", "Mpixel/s"),),
        "vertices": (("", "triangles_per_second", "Mtriangle/s"),),
        "transfer": (
            ("upload ", "upload_bytes_per_second", "MB/s"),
            ("readback ", "readback_bytes_per_second", "MB/s"),
        ),
    }[measured["scene"]]
    done = ", ".join(f"{what}{number(measured[name] / 1e6)} {unit}" for what, name, unit in work)
    return number(measured["frames_per_second"]), "-" if ratio is None else number(ratio), done
