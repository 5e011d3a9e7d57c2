"""The three scenes that are measured, and what is asked of each one's last frame."""

from __future__ import annotations

import os
import time
from array import array
from functools import cache
from typing import TYPE_CHECKING, Protocol

import moderngl

from moderngl_colab.bench import check, shaders
from moderngl_colab.bench.record import TRIANGLES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKED", "SCENES", "TURNS", "Scene", "Size"]

Size = tuple[int, int]

TURNS = (0.35, 0.43, 0.51, 0.59, 0.67, 0.75)
"""How far the scenes are turned in the frames, one after the other; 1 is all the way round."""
CHECKED = 0.1
"""And in the last one, which is looked at: no frame before it is taken for it."""

_GRID = (2048, TRIANGLES // 2 // 2048)  # quads along the knot and around it
_BACKGROUND = (0.06, 0.07, 0.10)


class Scene(Protocol):
    """What is drawn, frame after frame, and then looked at."""

    def frame(self, turn: float) -> None:
        """Draw a frame; the driver may be done later."""

    def wrong(self) -> str | None:
        """What is wrong with the last frame, which was that of :data:`CHECKED`."""

    def spent(self) -> dict[str, float]:
        """How many seconds parts of it took since this was last asked, by name."""


class _Picture:
    """Frames drawn into two framebuffers by turns: a frame that nobody sees is drawn, too.

    (llvmpipe leaves out what the next frame covers, if that is drawn into the same one.)
    """

    def __init__(self, ctx: moderngl.Context, size: Size) -> None:
        self._size = size
        self._targets = [ctx.simple_framebuffer(size) for _ in range(2)]

    def frame(self, turn: float) -> None:
        self._targets.reverse()
        self._targets[0].use()
        self._targets[0].clear(*_BACKGROUND, depth=1.0)
        self.draw(turn)

    def draw(self, turn: float) -> None:
        raise NotImplementedError

    def pixels(self) -> bytes:
        """The last frame: three bytes a pixel, row by row, the lowest one first."""
        return bytes(self._targets[0].read(components=3))

    def spent(self) -> dict[str, float]:
        return {}


class Fill(_Picture):
    """A ray-marched scene: all the work is done for the pixels."""

    def __init__(self, ctx: moderngl.Context, size: Size) -> None:
        super().__init__(ctx, size)
        ctx.enable_only(moderngl.NOTHING)
        self._program = ctx.program(vertex_shader=shaders.WHOLE, fragment_shader=shaders.FILL)
        self._program["size"] = size
        self._shape = ctx.vertex_array(self._program, [])

    def draw(self, turn: float) -> None:
        self._program["turn"] = turn
        self._shape.render(vertices=3)

    def wrong(self) -> str | None:
        return check.wrong(self.pixels(), self._size, check.FILL)


class Vertices(_Picture):
    """An indexed mesh of a million triangles: all the work is done for its vertices."""

    def __init__(self, ctx: moderngl.Context, size: Size) -> None:
        super().__init__(ctx, size)
        ctx.enable_only(moderngl.DEPTH_TEST)
        self._program = ctx.program(vertex_shader=shaders.KNOT, fragment_shader=shaders.KNOT_COLOUR)
        self._program["grid"] = _GRID
        self._mesh = ctx.vertex_array(self._program, [], ctx.buffer(_indices()))

    def draw(self, turn: float) -> None:
        self._program["turn"] = turn
        self._mesh.render()

    def wrong(self) -> str | None:
        return check.wrong(self.pixels(), self._size, check.VERTICES)


class Transfer:
    """A picture of noise, uploaded to a texture, drawn as it is, and read back."""

    def __init__(self, ctx: moderngl.Context, size: Size) -> None:
        self._ctx = ctx
        self._bytes = 4 * size[0] * size[1]
        self._noise = memoryview(_noise(self._bytes + 4 * len(TURNS)))
        self._read = bytearray(self._bytes)
        ctx.enable_only(moderngl.NOTHING)
        self._texture = ctx.texture(size, 4)
        self._target = ctx.simple_framebuffer(size)
        program = ctx.program(vertex_shader=shaders.WHOLE, fragment_shader=shaders.COPY)
        self._shape = ctx.vertex_array(program, [])
        self._spent = [0.0, 0.0]

    def frame(self, turn: float) -> None:
        began = time.perf_counter()
        self._texture.write(self._picture(turn))
        self._ctx.finish()
        uploaded = time.perf_counter()
        self._target.use()
        self._texture.use()
        self._shape.render(vertices=3)
        self._ctx.finish()
        drawn = time.perf_counter()
        self._target.read_into(self._read, components=4)
        self._spent[0] += uploaded - began
        self._spent[1] += time.perf_counter() - drawn

    def spent(self) -> dict[str, float]:
        upload, readback = self._spent
        self._spent = [0.0, 0.0]
        return {"upload": upload, "readback": readback}

    def wrong(self) -> str | None:
        if self._read == self._picture(CHECKED):
            return None
        return "what was read back is not what was uploaded"

    def _picture(self, turn: float) -> memoryview:
        # The same noise, beginning at another pixel.
        start = 4 * TURNS.index(turn) if turn in TURNS else 4 * len(TURNS)
        return self._noise[start : start + self._bytes]


@cache
def _indices() -> array[int]:
    """Two triangles for each quad; the grid is closed in both directions."""
    along, around = _GRID
    first = [
        step * around + (place + side) % around
        for place in range(around)
        for step, side in ((0, 0), (1, 0), (0, 1), (0, 1), (1, 0), (1, 1))
    ]
    vertices = along * around
    return array("I", ((s + i) % vertices for s in range(0, vertices, around) for i in first))


@cache
def _noise(length: int) -> bytes:
    return os.urandom(length)


SCENES: dict[str, Callable[[moderngl.Context, Size], Scene]] = {
    "fill": Fill,
    "vertices": Vertices,
    "transfer": Transfer,
}
