"""What the benchmark gives."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from moderngl_colab.bench import record, table
from moderngl_colab.bench.record import Row

__all__ = ["Benchmark", "chart"]

Size = tuple[int, int]


class Benchmark:
    """What was measured. It does not change.

    ``str()`` gives it as a table, a notebook shows it as HTML, :meth:`to_dict` gives plain data.

    Arguments:
        rows: what became of each strategy.
        sizes: what was to be measured.
        seconds: for how long, each scene at each size.
        pictures: of the first strategy whose frames are right: three bytes a pixel, row by row,
            the lowest one first, each of :data:`moderngl_colab.bench.measure.PICTURE`.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        sizes: Iterable[Size],
        seconds: float,
        pictures: Iterable[bytes] = (),
    ) -> None:
        self._rows = tuple(rows)
        self._sizes = tuple(sizes)
        self._seconds = seconds
        self._pictures = tuple(pictures)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What became of each strategy, in the order of the chain."""
        return self._rows

    @property
    def exit_status(self) -> int:
        """The exit status of ``moderngl-colab bench``.

        0 where a GPU was measured, 1 for the CPU alone, 2 for nothing; 3 where a frame was wrong,
        or a strategy that had a context could not be measured to the end.
        """
        if any(row.vendor is not None and row.outcome != "measured" for row in self._rows):
            return 3
        right = [row for row in self._rows if row.is_right]
        if not right:
            return 2
        return 0 if any(not row.software for row in right) else 1

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data, which JSON has, too.

        ``schema_version`` is 1, and grows when a field goes or changes its meaning. ``sizes`` are
        widths and heights in pixels, ``seconds`` is how long each scene was to be measured,
        ``exit_status`` is as above. ``versions`` has those of Python and of the libraries.

        ``strategies`` has an object for each, with the fields of
        :class:`moderngl_colab.bench.record.Row`; ``first_context_seconds`` and all that ends in
        ``_bytes`` say their units. Of its ``measurements``, each has

        - ``scene`` (``"fill"``, ``"vertices"`` or ``"transfer"``), and ``width`` and ``height`` in
          pixels;
        - ``frames``, how many were measured, and ``seconds``, how long that took;
        - ``frames_per_second``, ``pixels_per_second``, ``triangles_per_second``,
          ``upload_bytes_per_second``, ``readback_bytes_per_second``: None where the scene has none,
          and where the frame is wrong;
        - ``ratio_to_mesa``: frames per second against those of the strategy ``mesa``, None where
          there are none;
        - ``wrong``: what is wrong with the frame that was looked at; None where nothing is.
        """
        return {
            "schema_version": record.SCHEMA_VERSION,
            "exit_status": self.exit_status,
            "sizes": [list(size) for size in self._sizes],
            "seconds": self._seconds,
            "versions": record.versions(),
            "strategies": list(record.plain(self._rows)),
        }

    def png(self) -> bytes:
        """The scenes and a bar chart, as the content of a PNG file.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: nothing was measured.
        """
        if not any(row.is_right for row in self._rows):
            raise ValueError("there is no picture, for nothing was measured")
        content: bytes = chart().png(self.to_dict(), self._pictures)
        return content

    def __str__(self) -> str:
        return table.text(self.to_dict())

    def __repr__(self) -> str:
        measured = [row.strategy for row in self._rows if row.is_right]
        return f"<Benchmark: {', '.join(measured) or 'nothing'} measured>"

    def _repr_html_(self) -> str:
        return table.html(self.to_dict())


def chart() -> ModuleType:
    """The module that draws the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from moderngl_colab.bench import chart as module
    except ImportError as error:
        raise ImportError(
            f'the picture needs matplotlib: pip install "moderngl_colab[bench]" ({error})'
        ) from error
    return module
