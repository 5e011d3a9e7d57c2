"""A picture of which every pixel is known, drawn by OpenGL and computed without it.

A triangle with a colour at each corner goes through a golden bar, in front of chequered paper.
What is farthest is drawn last: without the depth test nothing but paper would be seen.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import moderngl


__all__ = ["PIXELS", "SIZE", "differences", "draw", "png"]

SIZE = 256
"""Its width and its height, in pixels."""
PIXELS = SIZE * SIZE

_TOLERANCE = 2  # of 255: drivers round differently

_Colour = tuple[float, float, float]

# All in normalised device coordinates, and every upright edge between two pixels.
_CORNERS = ((0.0, 0.8), (-0.8, -0.7), (0.8, -0.7))
_CORNER_COLOURS: tuple[_Colour, ...] = ((1.0, 0.2, 0.2), (0.2, 0.9, 0.3), (0.25, 0.4, 1.0))
_SLOPE = 0.5  # The triangle's depth for each unit of x: left of the middle it is before the bar.
_BAR = (-0.875, -0.25, 0.875, 0.0)
_PAPER = (-1.0, -1.0, 1.0, 1.0)
_FARTHEST = 0.9

# Squares of 16 pixels. The first texel is white, and leaves colours as they are.
_TEXELS, _REPEATS, _DARK = 8, 2, 204
_CHEQUERS = bytes(_DARK if (u + v) % 2 else 255 for v in range(_TEXELS) for u in range(_TEXELS))
_FIRST_TEXEL = (0.5 / _TEXELS, 0.5 / _TEXELS)

_INDICES = struct.pack("=15i", 0, 1, 2, 3, 4, 5, 5, 4, 6, 7, 8, 9, 9, 8, 10)

_VERTEX_SHADER = """
#version 330 core
in vec3 in_position;
in vec3 in_colour;
in vec2 in_texel;
out vec3 colour;
out vec2 texel;
void main() {
    gl_Position = vec4(in_position, 1.0);
    colour = in_colour;
    texel = in_texel;
}
"""
_FRAGMENT_SHADER = """
#version 330 core
uniform sampler2D chequers;
in vec3 colour;
in vec2 texel;
out vec4 pixel;
void main() {
    pixel = vec4(colour * texture(chequers, texel).r, 1.0);
}
"""


def draw(ctx: moderngl.Context) -> bytes:
    """Draw it in a fresh context, which is current.

    Returns:
        Three bytes a pixel, red, green and blue; row by row, the top one first.
    """
    import moderngl  # One that is broken shall fail where it is tried, not where we are.

    program = ctx.program(vertex_shader=_VERTEX_SHADER, fragment_shader=_FRAGMENT_SHADER)
    chequers = ctx.texture((_TEXELS, _TEXELS), 1, _CHEQUERS)
    chequers.filter = (moderngl.NEAREST, moderngl.NEAREST)
    vertices = ctx.buffer(_vertices())
    layout = [(vertices, "3f 3f 2f", "in_position", "in_colour", "in_texel")]
    shapes = ctx.vertex_array(program, layout, ctx.buffer(_INDICES))
    target = ctx.simple_framebuffer((SIZE, SIZE))
    target.use()
    target.clear(depth=1.0)
    ctx.enable_only(moderngl.DEPTH_TEST)
    chequers.use()
    shapes.render(moderngl.TRIANGLES)
    rows = target.read(components=3)  # GL's first row is the lowest.
    width = 3 * SIZE
    return b"".join(rows[start : start + width] for start in range(len(rows) - width, -1, -width))


def differences(pixels: bytes, every: int = 1) -> int:
    """How many pixels are not as they must be; along the triangle's edges any colour will do.

    Arguments:
        pixels: as :func:`draw` gives them.
        every: of how many pixels one is looked at.
    """
    if len(pixels) != 3 * PIXELS:
        return PIXELS
    return sum(
        any(
            abs(seen - right) > _TOLERANCE
            for seen, right in zip(pixels[3 * number : 3 * number + 3], known, strict=True)
        )
        for number, known in zip(range(0, PIXELS, every), _expected(every), strict=True)
        if known is not None
    )


def png(pixels: bytes) -> bytes:
    """The picture as a PNG file (RFC 2083).

    Arguments:
        pixels: as :func:`draw` gives them.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    width = 3 * SIZE
    rows = (b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows), 9))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def _golden(x: float, _y: float) -> _Colour:
    return (0.8 + 0.2 * x, 0.55 + 0.2 * x, 0.2)


def _paper(x: float, y: float) -> _Colour:
    return (0.75 + 0.15 * x, 0.8, 0.85 + 0.1 * y)


def _vertices() -> bytes:
    """The triangle's, the bar's and the paper's: position, colour and place in the texture."""
    values: list[float] = []
    for (x, y), colour in zip(_CORNERS, _CORNER_COLOURS, strict=True):
        values += (x, y, _SLOPE * x, *colour, *_FIRST_TEXEL)
    for x, y in _corners(_BAR):
        values += (x, y, 0.0, *_golden(x, y), *_FIRST_TEXEL)
    for x, y in _corners(_PAPER):
        values += (x, y, _FARTHEST, *_paper(x, y), (x + 1) / 2 * _REPEATS, (y + 1) / 2 * _REPEATS)
    return struct.pack(f"={len(values)}f", *values)


def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    left, low, right, high = box
    return ((left, low), (right, low), (left, high), (right, high))


@cache
def _expected(every: int) -> tuple[_Colour | None, ...]:
    """The colour of every so manieth pixel, of 255; None on an edge of the triangle."""
    centres = [(2 * n + 1) / SIZE - 1 for n in range(SIZE)]
    places = (divmod(number, SIZE) for number in range(0, PIXELS, every))
    return tuple(_pixel(centres[column], -centres[row]) for row, column in places)


def _pixel(x: float, y: float) -> _Colour | None:
    distances = [edge(x, y) for edge in _EDGES]
    nearest = min(distances)
    left, low, right, high = _BAR
    on_bar = left < x < right and low < y < high
    if on_bar and x > 0:
        return _scaled(_golden(x, y))
    if abs(nearest) * SIZE / 2 < 1:
        return None
    if nearest > 0:
        # A corner's share is the distance from the edge that lies opposite to it.
        shares = [distance / height for distance, height in zip(distances, _HEIGHTS, strict=True)]
        red, green, blue = (
            sum(
                share * colour[channel]
                for share, colour in zip(shares, _CORNER_COLOURS, strict=True)
            )
            for channel in range(3)
        )
        return _scaled((red, green, blue))
    if on_bar:
        return _scaled(_golden(x, y))
    square = int((x + 1) / 2 * _REPEATS * _TEXELS) + int((y + 1) / 2 * _REPEATS * _TEXELS)
    return _scaled(_paper(x, y), _DARK if square % 2 else 255)


def _scaled(colour: _Colour, by: int = 255) -> _Colour:
    return colour[0] * by, colour[1] * by, colour[2] * by


def _edge(a: tuple[float, float], b: tuple[float, float]) -> Callable[[float, float], float]:
    """The distance of a point from the line through two, positive to the left of it."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = (dx * dx + dy * dy) ** 0.5
    return lambda x, y: (dx * (y - a[1]) - dy * (x - a[0])) / length


# Each opposite to the corner of the same place in the list.
_EDGES = tuple(_edge(_CORNERS[(n + 1) % 3], _CORNERS[(n + 2) % 3]) for n in range(3))
_HEIGHTS = tuple(edge(*corner) for edge, corner in zip(_EDGES, _CORNERS, strict=True))
