"""Films on the disk."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["film"]


@contextlib.contextmanager
def film(part: Path, path: Path, fps: float) -> Iterator[Callable[[Image], None]]:
    """A block that makes a film of the pictures it gives, in RGB; of none, nothing.

    Arguments:
        part: where it is written, by any name; absolute, for ffmpeg takes ``a:b`` for a protocol.
        path: what it is to be, for the error.
        fps: frames per second, from 0.001 on: below, ffmpeg ends with "not yet implemented"; above
            a million it takes another.

    Raises:
        ModuleNotFoundError: there is no imageio-ffmpeg.
        OSError: ffmpeg could not write it.
        ValueError: the pictures have no size for an MP4, or not all the same.
    """
    encoder: Any = None
    size = 0, 0

    def add(picture: Image) -> None:
        nonlocal encoder, size
        if encoder is None:
            size = picture.size
            encoder = _encoder(part, size, fps)
        if picture.size != size:
            sizes = "{}x{} pixels, and those before it {}x{}".format(*picture.size, *size)
            raise ValueError(f"a film's frames have one size; this one has {sizes}")
        with contextlib.suppress(BrokenPipeError):  # at the end, ffmpeg says why
            encoder.stdin.write(picture.tobytes())

    try:
        yield add
        if encoder is not None:
            _, said = encoder.communicate()
            if encoder.returncode:
                # Those below it say what followed from it.
                first = said.decode(errors="replace").partition("\n")[0].rpartition("] ")[2]
                why = f"{encoder.returncode}: {first or 'it said nothing'}"
                raise OSError(f"{path}: ffmpeg ended with {why}")
    finally:
        if encoder is not None:
            encoder.kill()
            encoder.communicate()


def _encoder(path: Path, size: tuple[int, int], fps: float) -> subprocess.Popen[bytes]:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]
    except ModuleNotFoundError as absent:
        text = f'a film needs {absent.name}: pip install "moderngl_colab[window]"'
        raise ModuleNotFoundError(text, name=absent.name) from None

    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"an MP4 has even numbers of pixels, not {width}x{height}")
    how = f"-v error -y -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i - "
    how += "-pix_fmt yuv420p -f mp4"
    return subprocess.Popen(
        [get_ffmpeg_exe(), *how.split(), path],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,  # Ctrl-C is not for it
    )
