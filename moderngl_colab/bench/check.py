"""Whether a frame shows what it must: the mean colours of its parts against those of a reference.

The reference is the same for every size, since the pictures are. It is what Mesa's llvmpipe draws
at 3840 x 2160 pixels, the means rounded; its softpipe, which draws without LLVM, agrees.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean

__all__ = ["FILL", "SMALLEST", "VERTICES", "cells", "wrong"]

SMALLEST = 64
"""Pixels of width, and of height, below which the parts of a frame say too little of it."""

_COLUMNS, _ROWS = 16, 9
_LINES = 16  # of pixels, in each part, that are looked at
_MEAN = 3.0  # of 255; at any size from the smallest on, llvmpipe and softpipe are within 1


def wrong(pixels: bytes, size: tuple[int, int], reference: bytes) -> str | None:
    """What is wrong with a frame; None where nothing is.

    The fewer pixels a part has, the more its mean may differ: by 68 of 255 at 64 x 64, by 5 at
    3840 x 2160. The mean of the whole frame may differ by 3 at any size: one that is a tenth too
    dark is wrong.

    Arguments:
        pixels: three bytes a pixel, row by row, the lowest one first.
        size: its width and height in pixels.
        reference: three bytes for each part, in the same order.
    """
    width, height = size
    if len(pixels) != 3 * width * height:
        return f"it has {len(pixels)} bytes, not {3 * width * height}"
    # Drivers round differently; and a part begins and ends between two pixels.
    tolerance = 4 + 256 / min(width / _COLUMNS, height / _ROWS)
    off = [seen - right for seen, right in zip(cells(pixels, size), reference, strict=True)]
    far = [abs(each) > tolerance for each in off]
    others = sum(any(far[at : at + 3]) for at in range(0, len(far), 3))
    if others:
        parts = _COLUMNS * _ROWS
        return f"{others} of {parts} parts of the frame have another colour than they must"
    if any(abs(fmean(off[channel::3])) > _MEAN for channel in range(3)):
        return "the mean colour of the frame is another than it must be"
    return None


def cells(pixels: bytes, size: tuple[int, int]) -> Iterator[float]:
    """The mean red, green and blue of each part of a frame, of 255.

    Arguments:
        pixels: as for :func:`wrong`.
        size: as for :func:`wrong`.
    """
    width, height = size
    columns = [3 * (width * column // _COLUMNS) for column in range(_COLUMNS + 1)]
    rows = [height * row // _ROWS for row in range(_ROWS + 1)]
    for low, high in pairwise(rows):
        count = min(high - low, _LINES)
        lines = [low + (2 * n + 1) * (high - low) // (2 * count) for n in range(count)]
        starts = [3 * width * line for line in lines]
        for left, right in pairwise(columns):
            for channel in range(3):
                total = sum(sum(pixels[s + left + channel : s + right : 3]) for s in starts)
                yield 3 * total / (count * (right - left))


FILL = base64.b64decode(
    "t7rBf4WSh4ya2dve4OLkpKmyfIORe4GOv8HF0dTYn6WvkpikoKWvxMfMyMvPrrG5lJehqqy02Nncv8HHgIaUl5ynmp+n"
    "hVtir1dgmnyI3uDi3uDijZKegoeUycrO4ODho6Kos7S5ysrNrq+2i46Wh4yWhomRrVtn7oeU0Y+Zmp6ntbe9z9DTqaux"
    "mZqizcvNraip0MzLv72+m5qff3+Ej4+Wd3V5kXl8wpN0mK1qk6KCpKSqubi7z83Nsa2vt7Ky08W81crDwrm008zHq52K"
    "u5pY0q5f0LZuwrl3v8SwjKRqtcGaxb26w7q13dLKx7mx7dXA5c6759LB3cq75cmf88122LyBn6hY2MF81cW6pKSHn7Ry"
    "3su85tHA5c667tbA9ti99di99di99Ne99Ne+89a69dext76BhJ9XoKR1gqBV09aZ9Ne99di99ti99ti99di99di99di9"
    "9ti99ti99ti99ti99di91NSbytuS5eGt9ti99ti99di99di99di97tS979S979S979S979S979S979S979S979S979S9"
    "79S979S979S979S979S97tS9"
)
"""The reference of the scene of this name."""

VERTICES = base64.b64decode(
    "DxIaDxIaDxIaDxIaDxIaDxIaDxMbJjlPRF+KR1qJIylBDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaKkti"
    "YZ3QV32zZHu9fIfcKixJDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaGxkeZEY6mnFUrH1RmnVERjspWFSVZ16lDxIaDxIa"
    "DxIaDxIaDxIaDxIaDxIaJh4krHJi15J11595tIxkxZ1hr5ZLNi1VdV2wDxIaDxIaDxIaDxIaDxIaDxIaDxIaiVZY3Id7"
    "YkVAPZKPL1NcLDMohahWWzh9WkGADxIaDxIaDxIaDxIaDxIaDxIaDxIabEJM33eJkUZqPJ+Pinerl0CfjEKjeEWbFhYj"
    "DxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaMiIvRTREUcamK1tKXotgKSI2DxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIa"
    "DxIaDxIaDxMbWb+YTaZ2JkAyDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaDxIaEBQbERYdDxIaDxIa"
    "DxIaDxIaDxIaDxIaDxIaDxIa"
)
"""The reference of the scene of this name."""
