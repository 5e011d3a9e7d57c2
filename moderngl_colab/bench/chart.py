"""The scenes and the figures as a picture, by matplotlib; its pyplot is left alone."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from moderngl_colab.bench.measure import PICTURE, SCENES
from moderngl_colab.bench.record import TRIANGLES
from moderngl_colab.bench.table import headline, number

__all__ = ["png"]

_WIDTH, _DPI = 12.8, 100  # inches, and pixels for each
_PICTURES, _BAR, _REST = 3.25, 0.26, 1.3  # inches of height
_LINE = 110  # characters
_COLOURS = {"egl": "#4c9f38", "glx": "#9bc53d", "mesa": "#e0892b"}
_TITLES = ("fill: a ray-marched scene", f"vertices: a mesh of {TRIANGLES:,} triangles")

Data = Mapping[str, Any]


def png(data: Data, pictures: Sequence[bytes]) -> bytes:
    """The content of a PNG file, 1280 pixels wide.

    Arguments:
        data: what :meth:`~.result.Benchmark.to_dict` gives.
        pictures: of the scenes, as :class:`~.result.Benchmark` takes them.
    """
    groups = _groups(data)
    below = _BAR * sum(1 + len(bars) for _, bars in groups)
    shown = dict(zip(_TITLES, pictures, strict=False))
    rows: list[list[Any]] = [list(shown), ["bars"] * len(shown)] if shown else [["bars"]]
    heights = [_PICTURES, below] if shown else [below]
    # A user's own style is for the user's own figures.
    with mpl.rc_context(mpl.rcParamsDefault):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure((_WIDTH, sum(heights) + _REST), _DPI, layout=layout)
        figure.suptitle(textwrap.fill(headline(data), _LINE), size=13, weight="bold")
        axes = figure.subplot_mosaic(rows, height_ratios=heights)
        for title, picture in shown.items():
            _show(axes[title], title, picture)
        _draw(axes["bars"], groups)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _groups(data: Data) -> list[tuple[str, list[tuple[str, Data]]]]:
    """Scenes at sizes, with what each strategy measured of them."""
    groups: dict[str, list[tuple[str, Data]]] = {}
    for row in data["strategies"]:
        for measured in row["measurements"]:
            if measured["wrong"] is None:
                name = f"{measured['scene']}\n{measured['width']} x {measured['height']}"
                groups.setdefault(name, []).append((row["strategy"], measured))
    return sorted(groups.items(), key=lambda group: SCENES.index(group[1][0][1]["scene"]))


def _show(axes: Axes, title: str, picture: bytes) -> None:
    width, height = PICTURE
    rows = np.frombuffer(picture, np.uint8).reshape(height, width, 3)
    axes.imshow(rows, origin="lower", interpolation="antialiased")
    axes.set_title(title, size=11)
    axes.set_axis_off()


def _draw(axes: Axes, groups: list[tuple[str, list[tuple[str, Data]]]]) -> None:
    place, ticks = 0.0, []
    for _, bars in groups:
        ticks.append(place + (len(bars) - 1) / 2)
        for strategy, measured in bars:
            rate, ratio = measured["frames_per_second"], measured["ratio_to_mesa"]
            axes.barh(place, rate, 0.86, color=_COLOURS[strategy])
            said = f"{strategy}  {number(rate)} frames/s"
            if ratio is not None and strategy != "mesa":
                said += f", {number(ratio)} times Mesa"
            axes.annotate(said, (rate, place), (5, 0), textcoords="offset points", va="center")
            place += 1
        place += 1
    rates = [m["frames_per_second"] for _, bars in groups for _, m in bars]
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    least, most = min(rates) / 3, max(rates)
    axes.set_xlim(least, most * (most / least) ** 0.4)  # room for the words
    axes.set_yticks(ticks, [name for name, _ in groups])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel("frames per second (logarithmic)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
