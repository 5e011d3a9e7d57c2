"""Each example runs as it is, helps, and saves a picture that shows what it should."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_window import full_disk

EXAMPLES = Path(__file__).parent.parent / "examples"
DREW = [
    "strategy  egl",
    "vendor    NVIDIA Corporation",
    "renderer  NVIDIA Stand-in GPU 0/PCIe/SSE2",
]
IMPORTED = f"""
import json, math, sys
import numpy as np
sys.path.insert(0, {str(EXAMPLES)!r})
import moderngl_colab
"""


def frames(film: Path, width: int, height: int) -> Any:
    """A film's frames (n x height x width x 3): as it says, of this size, and 30 in a second."""
    get_exe = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe
    how = ["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    done = subprocess.run([get_exe(), "-i", film, *how], check=True, capture_output=True)
    (stream,) = re.findall(r"Stream #0:0.*: Video: h264.*", done.stderr.decode())
    assert f", {width}x{height}" in stream
    assert ", 30 fps," in stream
    return np.frombuffer(done.stdout, "u1").reshape(-1, height, width, 3).astype(int)


def pixels(picture: Path) -> Any:
    with Image.open(picture) as image:
        return np.asarray(image).astype(int)


def test_the_first_triangle_is_drawn_and_says_what_drew_it(python: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    picture = tmp_path / "triangle.png"

    result = python("colab-no-path", EXAMPLES / "first_triangle.py", "--output", str(picture))

    assert result.stdout.splitlines() == [
        *DREW,
        "version   3.3.0 NVIDIA 550.54.15",
        f"picture   {picture}",
    ]
    image = Image.open(picture)
    assert (image.size, image.mode) == ((512, 512), "RGB")
    corners = [image.getpixel(place) for place in ((256, 60), (62, 455), (450, 455))]
    for main, corner in enumerate(corners):  # red above, green on the left, blue on the right
        assert isinstance(corner, tuple)
        assert corner[main] == max(corner) > 230, corners
    assert image.getpixel((5, 5)) == image.getpixel((506, 5)) == (26, 26, 26)


def clay(pictures: Any) -> Any:
    """Where the mesh is seen: clay is red, all else is gray."""
    return pictures[..., 0] - pictures[..., 2] > 30


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone may write to; those above pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_the_turntable_films_a_cow_that_turns_as_an_ordinary_user(
    python: Any, open_folder: Path
) -> None:
    film = open_folder / "cow.mp4"
    given = ["--size", "160x128", "--count", "8", "--output", str(film)]
    nobody = 65534 if os.geteuid() == 0 else None

    result = python("colab-no-path", EXAMPLES / "turntable.py", *given, uid=nobody)

    *said, version, speed, where = result.stdout.splitlines()
    assert said == DREW
    assert version == "version   3.3.0 NVIDIA 550.54.15"
    assert speed.startswith("frames    8 in ")
    assert where == f"film      {film}"
    assert [file.name for file in open_folder.iterdir()] == ["cow.mp4"]
    pictures = frames(film, 160, 128)
    assert len(pictures) == 8
    cow = clay(pictures)
    assert ((cow.mean(axis=(1, 2)) > 0.12) & (cow.mean(axis=(1, 2)) < 0.4)).all()
    assert not cow[:, [0, -1]].any()
    assert not cow[:, :, [0, -1]].any()
    for number in range(8):
        assert (cow[number] != cow[number - 1]).mean() > 0.02
    # It is seen along, and from the side: so wide are the ears, and so wide the whole cow.
    widths = cow.any(axis=1).sum(axis=1)
    assert widths.max() > 1.25 * widths.min()
    # The lamp is on the left, so the ground is darker on the right.
    left, right = pictures[:, 90:110, 2:12], pictures[:, 90:110, 108:150]
    assert right.min(axis=(1, 2, 3)).max() < left.min() - 25


def test_the_turntable_draws_any_mesh_with_its_edges_and_its_roundness(
    python: Any, tmp_path: Path
) -> None:
    import trimesh

    for name, mesh in (
        ("box.stl", trimesh.creation.box((1.0, 1.0, 2.0))),
        ("ball.ply", trimesh.creation.icosphere(3)),
    ):
        mesh.apply_translation([100.0, 50.0, -7.0])
        mesh.export(tmp_path / name)
    program = f"""{IMPORTED}
from pathlib import Path
from turntable import Turntable, load
folder = Path(sys.argv[1])
box, tall, ball = (load(folder / name, up) for name, up in
    (("box.stl", "y"), ("box.stl", "z"), ("ball.ply", "y")))
ctx = moderngl_colab.get_gpu_context()
turns = [(tall, 0), (tall, 90), (tall, 45), (box, 90), (ball, 0)]
np.save(folder / "drawn.npy", np.stack([
    np.asarray(Turntable(ctx, mesh, (128, 128)).draw(math.radians(turn))) for mesh, turn in turns]))
def facing(corners):
    return (corners[:, 3:] / np.linalg.norm(corners[:, 3:], axis=1)[:, None])
round = (facing(ball) * ball[:, :3] / np.linalg.norm(ball[:, :3], axis=1)[:, None]).sum(axis=1)
print(json.dumps([np.abs(facing(box)).max(axis=1).min().item(), round.min().item(), len(box)]))
"""
    sharp, smooth, corners = json.loads(python("colab-no-path", program, str(tmp_path)).stdout)

    assert corners == 36
    assert sharp > 0.9999  # each normal is that of its face, no mean of three
    assert smooth > 0.999  # each is the ball's own
    drawn = np.load(tmp_path / "drawn.npy").astype(int)
    front, side, corner, lying, ball = clay(drawn)
    assert (np.abs(drawn[0] - drawn[1]) <= 2).mean() > 0.99  # A square turns into itself.
    assert (front == side).mean() > 0.99
    assert corner.any(axis=0).sum() > 1.2 * front.any(axis=0).sum()
    assert front.any(axis=1).sum() > 1.5 * front.any(axis=0).sum()
    assert lying.any(axis=0).sum() > 1.3 * lying.any(axis=1).sum()
    assert np.abs(ball.any(axis=0).sum() - ball.any(axis=1).sum()) <= 2
    assert ball[64, 64]


def test_the_film_of_the_shader_has_no_seam(python: Any, tmp_path: Path) -> None:
    film = tmp_path / "silk.mp4"
    given = ["--size", "96x64", "--count", "24", "--output", str(film)]
    result = python("colab-no-path", EXAMPLES / "shader_art.py", *given)
    *said, _version, speed, where = result.stdout.splitlines()
    assert said == DREW
    assert speed.startswith("frames    24 in ")
    assert where == f"film      {film}"
    program = f"""{IMPORTED}
from shader_art import Silk
silk = Silk(moderngl_colab.get_gpu_context(), (96, 64))
turn = [silk.draw(math.tau * frame / 24) for frame in range(25)]
np.save(sys.argv[1], np.stack([np.asarray(picture) for picture in turn]))
"""
    python("colab-no-path", program, str(tmp_path / "drawn.npy"))

    drawn = np.load(tmp_path / "drawn.npy").astype(int)
    assert np.abs(drawn[0] - drawn[24]).max() <= 1
    pictures = frames(film, 96, 64)
    assert len(pictures) == 24
    apart = np.abs(pictures[:, None] - drawn[None, :24]).mean(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(24)).all()
    assert np.diag(apart).max() < 8
    steps = np.abs(pictures - np.roll(pictures, 1, axis=0)).mean(axis=(1, 2, 3))
    assert 1 < steps[0] < 1.2 * steps[1:].max()
    assert drawn.std(axis=(0, 1, 2)).min() > 25  # of many colours


def test_the_compute_shader_does_what_numpy_does_and_draws_it(python: Any, tmp_path: Path) -> None:
    picture = tmp_path / "relief.png"
    given = ["--size", "56x40", "--steps", "400", "--output", str(picture)]
    result = python("colab-no-path", EXAMPLES / "compute_shader.py", *given)
    *said, version, checked, steps, where = result.stdout.splitlines()
    assert said == DREW
    assert version == "version   4.3.0 NVIDIA 550.54.15"
    assert checked.startswith("checked   64 steps differ from NumPy's by ")
    assert steps.startswith("steps     336 more in ")
    assert where == f"picture   {picture}"
    program = f"""{IMPORTED}
import compute_shader
start = cells = compute_shader.seeded((56, 40))
reaction = compute_shader.Reaction(moderngl_colab.get_gpu_context(430), cells)
for _ in range(400):
    reaction.step()
    cells = compute_shader.stepped(cells)
np.save(sys.argv[1], np.stack([start, cells, reaction.cells()]))
compute_shader.COMPUTE_SHADER = compute_shader.COMPUTE_SHADER.replace("0.05 *", "0.06 *")
given = ["--size", "56x40", "--steps", "8", "--output", sys.argv[1] + ".png"]
sys.argv = ["compute_shader.py", *given]
try:
    compute_shader.main()
except SystemExit as error:
    print(error)
"""
    wrong = python("colab-no-path", program, str(tmp_path / "cells.npy")).stdout.splitlines()

    start, numpy, gpu = np.load(tmp_path / "cells.npy")
    assert np.abs(gpu - numpy).max() < 1e-3
    assert np.abs(gpu - start).max() > 0.2
    second = np.repeat(np.repeat(gpu[::-1, :, 1], 3, axis=0), 3, axis=1)  # the last row on top
    red = pixels(picture)[..., 0]
    assert red.shape == (120, 168)
    assert np.corrcoef(red.ravel(), second.ravel())[0, 1] > 0.8
    assert np.corrcoef(red.ravel(), second[::-1].ravel())[0, 1] < 0.5
    assert wrong[-1].startswith("compute_shader.py: error: NumPy's cells differ by ")
    assert wrong[-1].endswith(" after 8 steps from those of NVIDIA Stand-in GPU 0/PCIe/SSE2")
    assert not (tmp_path / "cells.npy.png").exists()


def test_numpy_has_the_picture_and_the_distances_right_way_up(python: Any, tmp_path: Path) -> None:
    picture = tmp_path / "arrays.png"
    given = ["--size", "240x200", "--output", str(picture)]
    result = python("colab-no-path", EXAMPLES / "render_to_numpy.py", *given)
    *said, _version, arrays, _distance, where = result.stdout.splitlines()
    assert said == DREW
    assert arrays == "arrays    uint8 (200, 240, 3), float32 (200, 240)"
    assert where == f"picture   {picture}"
    program = f"""{IMPORTED}
from render_to_numpy import render
ctx = moderngl_colab.get_gpu_context()
one = np.array([[0.5, 1.0, 0.8]], "f4")
image, distance = render(ctx, one, (240, 200))
from render_to_numpy import ripples
np.savez(sys.argv[1], image=image, distance=distance, whole=render(ctx, ripples(), (240, 200))[0])
"""
    python("colab-no-path", program, str(tmp_path / "arrays.npz"))

    with np.load(tmp_path / "arrays.npz") as file:
        image, distance, whole = (file[name] for name in ("image", "distance", "whole"))
    both = pixels(picture)
    assert both.shape == (200, 480, 3)
    assert np.array_equal(both[:, :240], whole)
    assert (whole[0] == whole[0, 0]).all()  # Nothing is above the columns.
    # One column alone, whose top's middle is where the camera has it.
    x, y, z = 0.8 * 0.5 - 0.6 * 0.8, 1.0, 0.6 * 0.5 + 0.8 * 0.8
    y, z = 0.8 * y - 0.6 * z, 0.6 * y + 0.8 * z
    away = 8.5 - z
    column = int(120 + 120 * 2.1 * 200 / 240 * x / away)
    row = int(100 - 100 * 2.1 * (y - 0.1) / away)
    assert abs(distance[row, column] - away) < 0.06
    seen = distance < 14
    assert np.argwhere(seen)[:, 0].min() in range(row - 3, row + 1)
    assert 0.001 < seen.mean() < 0.05
    assert distance[seen][-1] > away  # Its foot is farther off, for the camera looks down.
    assert (distance[~seen] == 14).all()
    assert ((image == image[0, 0]).all(axis=2) == ~seen).mean() > 0.99


def test_where_nothing_is_seen_all_is_equally_far(python: Any, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    given = ["--size", "1x1", "--output", str(picture)]

    *_, distance, _where = python(
        "colab-no-path", EXAMPLES / "render_to_numpy.py", *given
    ).stdout.splitlines()

    assert distance == "distance  14.00 to 14.00"
    assert pixels(picture)[0, 1].tolist() == [0, 0, 0]


def test_a_tensor_is_the_picture_right_way_up(python: Any, tmp_path: Path) -> None:
    if find_spec("torch") is None:
        why = "torch is not installed: pip install torch"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    picture = tmp_path / "tensor.png"
    program = f"""{IMPORTED}
import torch
import render_to_tensor
from render_to_tensor import Renderer, edges
sys.argv = ["render_to_tensor.py", "--size", "96", "--output", sys.argv[1]]
render_to_tensor.main()
renderer = Renderer(moderngl_colab.get_gpu_context(), 96, torch.device("cpu"))
arrays, tensors = [], []
for turn in range(4):
    tensors.append(renderer.draw(math.tau * turn / 4))
    arrays.append(np.frombuffer(renderer.fbo.read(), "u1").reshape(96, 96, 3)[::-1])
step = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
step[:, :, 4:] = 10
np.savez(sys.argv[-1] + ".npz", arrays=arrays, tensors=torch.stack(tensors), step=edges(step)[0])
"""
    *said, _version, tensor, where = python(
        "colab-no-path", program, str(picture)
    ).stdout.splitlines()
    assert said == DREW
    assert tensor == "tensor    torch.uint8 (4, 96, 96, 3) on cpu"
    assert where == f"picture   {picture}"

    with np.load(tmp_path / "tensor.png.npz") as file:
        arrays, tensors, step = (file[name] for name in ("arrays", "tensors", "step"))
    assert np.array_equal(arrays, tensors)
    sheet = pixels(picture)
    assert np.array_equal(sheet[:96], np.hstack(list(tensors)))
    ball = tensors[0].max(axis=2) > 60
    assert 0.4 < ball.mean() < 0.75
    assert (tensors[0] != tensors[1]).any(axis=2).mean() > 0.3
    bright = tensors.max(axis=3).astype(float)
    upper, lower = bright[:, :14], bright[:, -14:]
    assert upper[upper > 60].mean() > 1.1 * lower[lower > 60].mean()  # The lamp is above.
    assert np.array_equal(step, [[0, 0, 0, 40, 40, 0, 0, 0]] * 8)
    assert (sheet[96:] == sheet[96:, :, :1]).all()
    assert sheet[96:].max() == 255


def test_every_example_has_a_help(python: Any) -> None:
    for name in sorted(path.name for path in EXAMPLES.glob("*.py")):
        if name not in ("dataloader.py", "render_to_tensor.py") or find_spec("torch"):
            assert "usage: " in python("no-nvidia", EXAMPLES / name, "--help").stdout


def test_the_example_warns_where_there_is_no_gpu(python: Any, tmp_path: Path) -> None:
    result = python(
        "no-nvidia",
        EXAMPLES / "first_triangle.py",
        "--output",
        str(tmp_path / "triangle.png"),
        options=["-W", "default"],
        check=False,
    )

    assert result.returncode == 0
    assert result.stdout.startswith("strategy  mesa\nvendor    Mesa")
    assert "SoftwareRenderingWarning: OpenGL renders on the CPU (llvmpipe" in result.stderr


def test_what_examples_cannot_do_they_refuse_in_a_line(python: Any, tmp_path: Path) -> None:
    (tmp_path / "torn.ply").write_text("ply\nformat ascii 1.0\nelement vertex 3\nend_header\n")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    (tmp_path / "none.obj").write_text("v 0 0 0\n")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv 1 nan 0\nv 1 0 0\nf 1 2 3\n")
    (tmp_path / "dot.obj").write_text("v 1 1 1\nf 1 1 1\n")
    files = ("torn.ply", "flat.obj", "none.obj", "nan.obj", "dot.obj", "no/a.png")
    torn, flat, none, nan, dot, nowhere = (str(tmp_path / name) for name in files)
    reads = "argument --mesh: trimesh cannot read"
    even = "is not WxH, even numbers from 2 to 4096"
    wrong = [
        ("turntable", "--mesh", "cow.obj", "argument --mesh: 'cow.obj' is no file"),
        ("turntable", "--mesh", torn, f"{reads} {torn!r}: KeyError: 'x'"),
        ("turntable", "--mesh", none, f"{reads} {none!r}: ValueError: no triangles are in it"),
        *(
            ("turntable", "--mesh", file, f"{reads} {file!r}: ValueError: {why}")
            for file, why in (
                (flat, "none of its triangles has an area"),
                (dot, "none of its triangles has an area"),
                (nan, "a vertex of its triangles is not finite"),
            )
        ),
        ("turntable", "--size", "65x64", f"argument --size: '65x64' {even}"),
        ("shader_art", "--size", "0x64", f"argument --size: '0x64' {even}"),
        ("shader_art", "--count", "0", "argument --count: '0' is no number from 1 to 99999"),
        (
            "shader_art",
            "--output",
            "a.gif",
            "argument --output: 'a.gif' is no FILE.mp4 in a folder to write to",
        ),
        (
            "compute_shader",
            "--size",
            "7x8",
            "argument --size: '7x8' is not WxH, two numbers from 8 to 2048",
        ),
        ("compute_shader", "--steps", "-1", "argument --steps: '-1' is no number from 1 to 999999"),
        (
            "render_to_numpy",
            "--size",
            "big",
            "argument --size: 'big' is not WxH, two numbers from 1 to 4096",
        ),
        (
            "render_to_numpy",
            "--output",
            nowhere,
            f"argument --output: {nowhere!r} is no FILE.png in a folder to write to",
        ),
        (
            "first_triangle",
            "--output",
            nowhere,
            f"argument --output: {nowhere!r} is no FILE.png in a folder to write to",
        ),
    ]
    if find_spec("torch"):
        why = "argument --size: '4' is no number from 8 to 2048"
        wrong.append(("render_to_tensor", "--size", "4", why))
    program = f"""{IMPORTED}
import contextlib, importlib
sys.stderr = sys.stdout
for name, *words, _ in {wrong!r}:
    sys.argv = [name + ".py", *words]
    with contextlib.suppress(SystemExit):
        importlib.import_module(name).main()
"""
    said = python("no-nvidia", program).stdout.splitlines()

    assert [line for line in said if "error" in line] == [
        f"{name}.py: error: {why}" for name, _, _, why in wrong
    ]


def test_a_film_without_ffmpeg_is_refused_before_anything_is_drawn(python: Any) -> None:
    for name in ("shader_art", "turntable", "render_farm"):
        env = {"IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"}
        result = python("no-nvidia", EXAMPLES / f"{name}.py", env=env, check=False)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1] == (
            f"{name}.py: error: IMAGEIO_FFMPEG_EXE='/nowhere/ffmpeg' is no ffmpeg that can be run"
        )


def test_the_neighbours_refuse_a_file_that_cannot_be_written(python: Any, tmp_path: Path) -> None:
    wrong = [str(tmp_path / "no" / "a.png"), str(tmp_path / "a.jpg"), str(tmp_path / "b.png")]
    (tmp_path / "b.png").mkdir()
    program = """
import contextlib, os, runpy, sys
sys.stderr = sys.stdout
program, *wrong = sys.argv[1:]
main = runpy.run_path(program)["main"]
for output in wrong:
    sys.argv = [program, "--output", output]
    with contextlib.suppress(SystemExit):
        main()
"""
    # moderngl-window's refusals are those of moderngl_colab.window.
    names = {path.stem for path in (EXAMPLES / "neighbours").glob("*.py")}
    for name in sorted(names - {"moderngl_window_config"}):
        file = EXAMPLES / "neighbours" / f"{name}.py"
        env = {"MUJOCO_GL": "egl", "XDG_CACHE_HOME": str(tmp_path / ".cache")}
        said = python("no-nvidia", program, str(file), *wrong, env=env).stdout.splitlines()
        assert [line for line in said if not line.startswith(("usage: ", " "))] == [
            f"{name}.py: error: argument --output: {output!r} is no FILE.png in a folder "
            "to write to"
            for output in wrong
        ]


def test_vtk_says_that_the_disk_is_full(python: Any, tmp_path: Path) -> None:
    program = f"""
import resource, runpy, sys
sys.argv = ["vtk_scene.py", "--output", sys.argv[1]]
main = runpy.run_path({str(EXAMPLES / "neighbours" / "vtk_scene.py")!r})["main"]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
main()
"""
    picture = tmp_path / "vtk.png"
    env = {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}

    result = python("no-nvidia", program, str(picture), env=env, check=False)

    assert (result.returncode, result.stdout) == (1, "")
    error = f"vtk_scene.py: error: {picture} could not be written"
    assert result.stderr.splitlines()[-1] == error


def test_where_a_package_is_missing_a_line_says_how_to_install_it(python: Any) -> None:
    missing = [
        ("first_triangle", "PIL", "examples"),
        ("turntable", "trimesh", "examples"),
        ("shader_art", "imageio_ffmpeg", "examples"),
        ("compute_shader", "numpy", "examples"),
        ("render_to_numpy", "PIL", "examples"),
        ("render_to_tensor", "torch", "dataloader"),
        ("dataloader", "torch", "dataloader"),
        ("render_farm", "PIL", "farm"),
        ("render_farm", "ray", "farm"),
    ]
    # The import system says of a package that it is told not to find what it says of one that is
    # not there.
    program = """
import importlib.abc, runpy, sys

hidden, *sys.argv = sys.argv[1:]

class Hiding(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hiding())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    for name, package, extra in missing:
        file = EXAMPLES / f"{name}.py"
        result = python("no-nvidia", program, package, str(file), check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            f"{name}.py: error: No module named {package!r}; "
            f'pip install "moderngl_colab[{extra}]"\n'
        )


def test_a_file_that_cannot_be_written_leaves_the_older_one(python: Any, tmp_path: Path) -> None:
    wanted = {"shader_art": "film.mp4", "compute_shader": "relief.png", "render_to_numpy": "a.png"}
    for name in wanted.values():
        (tmp_path / name).write_text("older")
    # A file may have 16 KiB, as it would on a disk that is full.
    program = f"""{IMPORTED}
import importlib, os, resource
folder, name, output = sys.argv[1:]
main = importlib.import_module(name).main
main.__globals__["moderngl_colab"].get_gpu_context(430).release()
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
sys.argv = [name + ".py", "--size", "320x320", "--output", os.path.join(folder, output)]
sys.argv += {{"compute_shader": ["--steps", "100"], "shader_art": ["--count", "6"]}}.get(name, [])
main()
"""
    for name, output in wanted.items():
        result = python("colab-no-path", program, str(tmp_path), name, output, check=False)
        why = "File too large"
        if output == "film.mp4":
            why = "ffmpeg ended with -25: it said nothing"
        error = f"{name}.py: error: {tmp_path / output}: {why}\n"
        assert (result.returncode, result.stderr) == (1, error)
        assert result.survivors == ()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(
        wanted.values(), "older"
    )


def test_a_film_on_a_full_disk_is_refused_in_ffmpegs_first_words(
    python: Any, tmp_path: Path
) -> None:
    for name in ("shader_art", "turntable"):
        words = [EXAMPLES / f"{name}.py", "--size", "256x256", "--count", "3", "--output"]
        result = full_disk(python, tmp_path, "film.mp4", *words)
        assert (result.returncode, result.stdout) == (0, "older\nfilm.mp4\n")
        # Versions of ffmpeg have other numbers, and say more or less of the reason.
        first = r"film\.mp4: ffmpeg ended with \d+: Could not write header .+"
        assert re.fullmatch(rf"{name}\.py: error: {first}\n", result.stderr), result.stderr


def test_the_longest_name_is_a_files_and_a_longer_one_is_refused(
    python: Any, tmp_path: Path
) -> None:
    wanted = {"shader_art": "mp4", "compute_shader": "png", "render_to_numpy": "png"}
    longest = {name: f"{name:x<251}.{suffix}" for name, suffix in wanted.items()}
    program = f"""{IMPORTED}
import importlib, os
os.chdir(sys.argv[1])
for name, output in {longest!r}.items():
    for output in (output, "x" + output):
        sys.argv = [name + ".py", "--size", "16x16", "--output", output]
        sys.argv += {{"compute_shader": ["--steps", "9"], "shader_art": ["--count", "2"]}}.get(
            name, [])
        try:
            importlib.import_module(name).main()
        except SystemExit as error:
            print(error)
"""
    said = python("colab-no-path", program, str(tmp_path)).stdout.splitlines()

    assert [line for line in said if "error" in line] == [
        f"{name}.py: error: x{output}: File name too long" for name, output in longest.items()
    ]
    assert sorted(os.listdir(tmp_path)) == sorted(longest.values())


def test_who_reads_no_more_ends_an_example_when_its_picture_is_there(
    python: Any, tmp_path: Path
) -> None:
    given = {
        "shader_art": ["--size", "32x32", "--count", "2", "--output", "silk.mp4"],
        "turntable": ["--size", "32x32", "--count", "2", "--output", "cow.mp4"],
        "compute_shader": ["--size", "32x32", "--steps", "9", "--output", "relief.png"],
        "render_to_numpy": ["--size", "32x32", "--output", "arrays.png"],
    }
    if find_spec("torch"):
        given["render_to_tensor"] = ["--size", "32", "--output", "tensor.png"]
        given["dataloader"] = ["--workers", "0", "--samples", "2", "--output", "sheet.png"]
    program = f"""
import os, subprocess, sys
os.chdir(sys.argv[1])
reader, writer = os.pipe()
os.close(reader)
for name, words in {given!r}.items():
    command = [sys.executable, "-u", f"{EXAMPLES}/{{name}}.py", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    print(name, done.returncode, done.stderr)
"""
    result = python("colab-no-path", program, str(tmp_path), timeout=200)

    assert result.stdout.splitlines() == [f"{name} {-signal.SIGPIPE} " for name in given]
    assert sorted(os.listdir(tmp_path)) == sorted(words[-1] for words in given.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has pid namespaces everywhere")
def test_two_processes_of_the_same_number_do_not_write_to_the_same_film(tmp_path: Path) -> None:
    """As in two containers with one volume."""
    alone = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable]
    alone.append(str(EXAMPLES / "shader_art.py"))
    films = [
        subprocess.Popen(
            [*alone, *f"--size {side}x{side} --count 40 --output {side}.mp4".split()], cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for side in (64, 128)
    ]  # fmt: skip

    for film in films:
        _, said = film.communicate(timeout=120)
        assert film.returncode == 0, said
    for side in (64, 128):
        assert len(frames(tmp_path / f"{side}.mp4", side, side)) == 40
    assert len(os.listdir(tmp_path)) == 2


def test_a_film_that_is_stopped_says_so_and_leaves_nothing(python: Any, tmp_path: Path) -> None:
    program = """
import os, pathlib, signal, subprocess, sys, time
film = subprocess.Popen(
    [sys.executable, sys.argv[1], "--count", "99999", "--size", "64x64", "--output", sys.argv[2]],
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
)
output = pathlib.Path(sys.argv[2])
while not [*output.parent.glob(f".{output.stem}-*.mp4")] and film.poll() is None:
    time.sleep(0.02)
os.killpg(film.pid, int(sys.argv[3]))
print(film.communicate()[1].splitlines(), film.returncode, os.listdir(output.parent))
"""
    for name, ending in (("shader_art", signal.SIGTERM), ("turntable", signal.SIGINT)):
        film = tmp_path / f"{name}.mp4"
        given = [str(EXAMPLES / f"{name}.py"), str(film), str(int(ending))]
        result = python("colab-no-path", program, *given)
        assert result.stdout == f"['{name}.py: stopped'] 1 []\n"


def test_an_interrupt_among_the_imports_ends_the_turntable(python: Any) -> None:
    # trimesh swallows all that is raised while it imports this.
    program = """
import importlib.abc, os, runpy, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "networkx":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = sys.argv[1:]
if os.fork():
    print(os.waitstatus_to_exitcode(os.wait()[1]))
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
    result = python("no-nvidia", program, str(EXAMPLES / "turntable.py"), "--help")

    assert result.stdout == f"{-signal.SIGINT}\n"
