"""Feeds PyTorch with samples that the DataLoader's workers render, each worker on its own GPU.

A sample is a picture of a knot, and as its label the rotation that it was drawn under: what a
network that estimates poses is trained on. Four rules make it work, whatever is rendered:

- A context belongs to the process that made it: it is made at a worker's first sample, serves all
  that follow, and is no part of the data set, which is sent to the workers.
- Workers are spawned, not forked: a driver that is in use does not live through a fork.
- Worker i renders on GPU i, modulo the number of GPUs that this process was given.
- A sample depends on its index alone, whichever worker renders it.
"""

from __future__ import annotations

import argparse
import functools
import os
import secrets
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is at once the end of the imports, too.

try:
    import moderngl
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

    import moderngl_colab
except ImportError as error:
    sys.exit(f'dataloader.py: error: {error}; pip install "moderngl_colab[dataloader]"')

Floats = npt.NDArray[np.float32]
Sample = tuple[torch.Tensor, torch.Tensor]

TILES, COLUMNS, SIDE = 64, 8, 128  # the contact sheet's tiles, those in a row, a tile's pixels

RINGS, SIDES = 256, 32  # of the knot's tube
RED, GREEN, BLUE = BACKGROUND = (23, 26, 33)

VERTEX_SHADER = """
#version 330

const float TURN = 6.2831853;
uniform mat3 rotation;
uniform ivec2 mesh;  // rings, and sides of each
out vec3 point;
out vec3 normal;
out vec3 color;

void main() {
    // An instance is the strip of triangles between two rings of a tube round the trefoil knot,
    // which lies on a torus and goes round it twice one way, three times the other.
    float place = float(gl_InstanceID + gl_VertexID % 2) / mesh.x;
    float side = TURN * float(gl_VertexID / 2) / mesh.y;
    float turn = 2.0 * TURN * place, dip = 3.0 * TURN * place;
    vec3 axis = vec3(cos(turn), sin(turn), 0.0);
    vec3 outward = cos(dip) * axis + vec3(0.0, 0.0, sin(dip));
    vec3 ahead = (4.0 + 2.0 * cos(dip)) * vec3(-axis.y, axis.x, 0.0)
        + 3.0 * (vec3(0.0, 0.0, cos(dip)) - sin(dip) * axis);
    vec3 beside = normalize(cross(ahead, outward));
    normal = rotation * (cos(side) * outward + sin(side) * beside);
    point = rotation * (2.0 * axis + outward) + 0.42 * normal;
    // No colour comes twice along the knot, so no two poses look alike.
    color = 0.55 + 0.45 * cos(TURN * (place + vec3(0.0, 0.33, 0.67)));
    float depth = 9.0 - point.z;  // from the eye; what is between 4 and 14 is seen
    // OpenGL's rows begin at the bottom, a picture's at the top: y is turned round.
    gl_Position = vec4(2.3 * point.x, -2.3 * point.y, 1.8 * depth - 11.2, depth);
}
"""

FRAGMENT_SHADER = """
#version 330

in vec3 point;
in vec3 normal;
in vec3 color;
out vec4 fragment;

void main() {
    vec3 facing = normalize(normal);
    vec3 eye = normalize(vec3(0.0, 0.0, 9.0) - point);
    vec3 light = normalize(vec3(-0.5, 0.8, 0.9));
    float diffuse = 0.2 + 0.8 * max(dot(facing, light), 0.0);
    float gloss = 0.5 * pow(max(dot(facing, normalize(light + eye)), 0.0), 60.0);
    fragment = vec4(color * diffuse + gloss, 1.0);
}
"""


def random_rotation(seed: int) -> Floats:
    """A rotation of which none is likelier than another; the same for the same seed."""
    turn, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    turn *= np.sign(np.diag(upper))
    turn[:, 0] *= np.sign(np.linalg.det(turn))  # A mirror image is no rotation.
    return turn.astype("f4")


class Renderer:
    """Draws the knot under any rotation, in a context of its own."""

    def __init__(self, size: int) -> None:
        worker = get_worker_info()
        number = 0 if worker is None else worker.id
        gpus = len(moderngl_colab.visible_gpus())
        # Where there is one at most, it is taken anyway; a device by name would forbid the CPU.
        device = f"cuda:{number % gpus}" if gpus > 1 else None
        with warnings.catch_warnings():
            if number > 0:  # Where there is no GPU, the first worker says so for all.
                warnings.simplefilter("ignore", moderngl_colab.SoftwareRenderingWarning)
            self.ctx = moderngl_colab.get_gpu_context(device=device)
        info = moderngl_colab.describe(self.ctx)
        where = "" if info.gpu is None else f" at {info.gpu.pci_bus_id}"
        who = "main process" if worker is None else f"worker {number}"
        self.origin = f"{who} on {info.renderer}{where}"

        self.program = self.ctx.program(VERTEX_SHADER, FRAGMENT_SHADER)
        self.program["mesh"] = (RINGS, SIDES)
        self.knot = self.ctx.vertex_array(self.program, [])
        self.canvas = self.ctx.simple_framebuffer((size, size), samples=4)
        self.picture = self.ctx.simple_framebuffer((size, size))
        self.ctx.enable(moderngl.DEPTH_TEST)

    def draw(self, rotation: Floats) -> torch.Tensor:
        """A picture of the knot: uint8, 3 x size x size."""
        with self.ctx:  # Another data set's may be current.
            self.program["rotation"] = tuple(rotation.T.ravel())  # OpenGL's matrices go by columns.
            self.canvas.use()
            self.canvas.clear(RED / 255, GREEN / 255, BLUE / 255)
            self.knot.render(moderngl.TRIANGLE_STRIP, 2 * SIDES + 2, instances=RINGS)
            self.ctx.copy_framebuffer(self.picture, self.canvas)
            pixels = np.frombuffer(self.picture.read(), "u1").reshape(*self.picture.size, 3)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@functools.cache
def renderer(process: int, size: int) -> Renderer:
    """The one renderer of a process; by its id, for a fork must not take its parent's."""
    return Renderer(size)


class KnotPoses(Dataset[Sample]):
    """Pictures (uint8, 3 x size x size), each with the rotation (float32, 3 x 3) that it shows."""

    def __init__(self, samples: int, size: int) -> None:
        self.samples = samples
        self.size = size

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.samples:
            raise IndexError(f"sample {index} of {self.samples}")
        pose = random_rotation(index)
        return renderer(os.getpid(), self.size).draw(pose), torch.from_numpy(pose)

    def batch(self, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, str]:
        """Pictures, poses, and who rendered them on what; made in the worker, as a collate_fn."""
        images, poses = default_collate(samples)
        return images, poses, renderer(os.getpid(), self.size).origin


def contact_sheet(images: list[torch.Tensor]) -> Image.Image:
    columns = min(len(images), COLUMNS)
    sheet = Image.new("RGB", (columns * SIDE, -(-len(images) // columns) * SIDE), BACKGROUND)
    for number, image in enumerate(images):
        tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIDE, SIDE))
        sheet.paste(tile, (number % columns * SIDE, number // columns * SIDE))
    return sheet


def whole(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isdecimal() and len(text) < 9 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return convert


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--samples", type=whole(1, 10**6), default=64, metavar="N", help="how many are rendered")
    add("--workers", type=whole(0, 256), default=2, metavar="N", help="processes; 0: this one")
    add("--size", type=whole(1, 2048), default=128, metavar="N", help="a picture's side, in pixels")
    add("--batch", type=whole(1, 10**6), default=8, metavar="N", help="samples in a batch")
    add("--output", type=png, default="dataloader.png", metavar="FILE", help="the contact sheet")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    dataset = KnotPoses(asked.samples, asked.size)
    loader = DataLoader(
        dataset,
        batch_size=asked.batch,
        num_workers=asked.workers,
        multiprocessing_context="spawn" if asked.workers else None,
        collate_fn=dataset.batch,
    )
    shown: list[torch.Tensor] = []
    origins = Counter[str]()
    started = time.perf_counter()
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Workers inherit it: Ctrl-C is
    batches = iter(loader)  # for this process alone, which ends them.
    signal.signal(signal.SIGINT, on_interrupt)
    for images, _poses, origin in batches:  # A training step would stand here.
        shown.extend(images[: TILES - len(shown)])
        origins[origin] += len(images)
    seconds = time.perf_counter() - started
    # The picture is there whole, or not at all.
    part = asked.output.with_name(f".dataloader-{secrets.token_hex(8)}.png")
    try:
        contact_sheet(shown).save(part)
        part.replace(asked.output)
    except OSError as error:
        sys.exit(f"dataloader.py: error: {asked.output}: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    for origin, count in origins.items():
        print(f"{count} samples by {origin}")
    print(f"{asked.samples / seconds:.1f} samples/s, the start of the workers included")
    print(f"picture   {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
        main()
    except KeyboardInterrupt:
        sys.exit("dataloader.py: stopped")
