"""The render farm on Ray's own cluster: every GPU renders, every frame is there once."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rig import machines

EXAMPLES = Path(__file__).parent.parent / "examples"
FARM = EXAMPLES / "render_farm.py"
FOUR = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse"}
GPUS = [f"NVIDIA Stand-in GPU {n} GPU-57a2d10{n}-0c01-4ab0-9e11-00005eed000{n}" for n in range(4)]

Run = Callable[..., machines.Finished]


@pytest.fixture
def ray(python: Run) -> Iterator[Run]:
    """Run what uses Ray, which leaves its logs in a folder of the test's own."""
    if importlib.util.find_spec("ray") is None:
        why = "ray is not installed: pip install '.[farm]'"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    # Sockets lie in there, whose paths have 107 bytes at most; pytest's folders are too deep.
    folder = tempfile.mkdtemp(prefix="farm-", dir="/tmp")

    def run(machine: str, code: str | Path, *arguments: str, **options: Any) -> machines.Finished:
        env = {
            "RAY_TMPDIR": folder,
            # A cluster's password is kept in the home folder, unless it is given.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "100000000",
            "PYTHONPATH": str(EXAMPLES),
        }
        env |= options.pop("env", {})
        result = python(machine, code, *arguments, env=env, timeout=300, check=False, **options)
        assert result.survivors == ()
        return result

    yield run
    shutil.rmtree(folder)


def test_each_gpu_has_a_worker_and_what_killed_ones_had_is_rendered_by_others(ray: Run) -> None:
    # A frame is only asked for when another one was taken: this waits until all four have begun.
    # The worker of the frame that just came has others to render.
    code = """
import hashlib, json, os, signal, time, warnings
import ray
from render_farm import Job, Renderer, farm

options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
job = Job("ring", (64, 48), 60)
frames, begun, killed = [], set(), []

ray.init(num_cpus=0, num_gpus=0, **options)
try:
    list(farm(job))
except ray.exceptions.RayError as error:
    said = str(error)
ray.shutdown()

ray.init(num_cpus=0, **options)
for frame in farm(job):
    frames.append(frame)
    worker = frame.worker.gpu, frame.worker.pid
    if len(begun) < 4:
        begun.add(worker)
        time.sleep(1)
    elif len(killed) < 3 and worker not in killed:
        os.kill(frame.worker.pid, signal.SIGKILL)
        killed.append(worker)
ray.shutdown()

def told(frame):
    return frame.number, hashlib.sha256(frame.pixels).hexdigest()

warnings.simplefilter("ignore")
direct = Renderer(job)
print(json.dumps({
    "right": sorted(map(told, frames)) == [told(direct.render(n)) for n in range(job.frames)],
    "pictures": len({frame.pixels for frame in frames}),
    "begun": sorted(begun),
    "killed": len(killed),
    "without": said,
}))
"""
    result = ray("container-graphics", code, env=FOUR)

    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])  # after what Ray says
    # Each once, as it is when it is rendered without a farm, and no two alike.
    assert found["right"] is True
    assert found["pictures"] == 60
    assert [gpu for gpu, _ in found["begun"]] == GPUS
    assert len({pid for _, pid in found["begun"]}) == 4
    assert found["killed"] == 3
    assert found["without"] == "no machine of the cluster has a GPU or a CPU for Ray's workers"


@pytest.mark.parametrize(
    ("machine", "name"), [("container-graphics", "turn.gif"), ("no-nvidia", "turn.MP4")]
)
def test_the_film_and_the_sheet_show_the_whole_turn(
    ray: Run, tmp_path: Path, machine: str, name: str
) -> None:
    job = ("--scene", "ring", "--size", "64x48", "--count", "30")

    result = ray(machine, FARM, *job, "--output", str(tmp_path / name), env=FOUR)

    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "turn.png"])
    *workers, total, film, sheet = result.stdout.splitlines()
    assert sum(int(line.split(" frames on ")[0]) for line in workers) == 30
    gpus = {line.partition(" frames on ")[2].rpartition(" by ")[0] for line in workers}
    if machine == "no-nvidia":
        assert {gpu.partition(" ")[0] for gpu in gpus} == {"llvmpipe"}
        assert result.stderr.startswith("warning: OpenGL renders on the CPU (llvmpipe")
    else:
        assert gpus <= set(GPUS)
        assert result.stderr == ""
    assert total.startswith("30 frames in ")
    assert [film, sheet] == [f"film   {tmp_path / name}", f"sheet  {tmp_path / 'turn.png'}"]

    direct = rendered(ray, machine)
    get_exe = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe
    ffmpeg = [get_exe(), "-loglevel", "error", "-i", str(tmp_path / name)]
    raw = [*ffmpeg, *("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")]
    pixels = subprocess.run(raw, check=True, capture_output=True).stdout
    shown = np.frombuffer(pixels, "u1").astype("i4").reshape(direct.shape)
    # A GIF has few colours and a film is blurred, but each picture is most like its own.
    for number, picture in enumerate(shown):
        away = np.abs(direct - picture).mean(axis=(1, 2, 3))
        assert away.argmin() == number
        assert away[number] < 4
    cells = Image.open(tmp_path / "turn.png")
    assert (cells.size, cells.mode) == ((6 * 160, 4 * 120), "RGB")
    for cell in range(24):
        x, y = cell % 6 * 160, cell // 6 * 120
        small = np.asarray(cells.crop((x, y, x + 160, y + 120)).resize((64, 48)), "i4")
        away = np.abs(direct - small).mean(axis=(1, 2, 3))
        assert away.argmin() == -(-cell * 30 // 24)  # the first frame of the cell


def rendered(ray: Run, machine: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The same frames without a farm."""
    code = """
import sys, warnings
from render_farm import Job, Renderer
warnings.simplefilter("ignore")
renderer = Renderer(Job("ring", (64, 48), 30))
print("".join(renderer.render(n).pixels.hex() for n in range(30)))
"""
    result = ray(machine, code, env={"STANDIN_GPUS": "1"})
    pixels = np.frombuffer(bytes.fromhex(result.stdout), "u1")
    return pixels.reshape(30, 48, 64, 3).astype("i4")


def test_workers_that_die_again_and_again_are_an_error(ray: Run, tmp_path: Path) -> None:
    output = str(tmp_path / "turn.gif")

    result = ray("container-graphics", FARM, "--output", output, env={"STANDIN_FAULT": "crash"})

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "render_farm.py: error: workers die: The actor"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_begin_says_why(ray: Run, tmp_path: Path) -> None:
    output = str(tmp_path / "turn.gif")
    env = {"MODERNGL_COLAB_ALLOW_SOFTWARE": "0"}

    result = ray("no-nvidia", FARM, "--output", output, env=env)

    assert result.returncode == 1
    assert (
        "render_farm.py: error: workers die: moderngl_colab.errors.GPUContextError: no OpenGL 3.3 "
        "context on a GPU could be made:\n  1. egl: unavailable: no NVIDIA GPU is given"
    ) in result.stderr


def test_a_farm_that_is_stopped_ends_and_leaves_nothing(ray: Run, tmp_path: Path) -> None:
    # Ctrl-C reaches everything that runs in the terminal: while Ray is imported or starts, and
    # when some of the film is written. What else ends a program, it alone.
    code = """
import os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[2])
def imported():
    return b"/ray/" in pathlib.Path(f"/proc/{farm.pid}/maps").read_bytes()
def written():
    return any(part.stat().st_size for part in folder.iterdir())
for ready, end, ending in (
    (imported, os.killpg, signal.SIGINT),
    (written, os.killpg, signal.SIGINT),
    (written, os.kill, signal.SIGTERM),
):
    farm = subprocess.Popen(
        [sys.executable, sys.argv[1], "--count", "9999", "--output", str(folder / "turn.gif")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    while not ready() and farm.poll() is None:
        time.sleep(0.05)
    end(farm.pid, ending)
    print(farm.communicate()[1].splitlines(), farm.returncode)
"""

    result = ray("container-graphics", code, str(FARM), str(tmp_path), env=FOUR)

    stopped = "['render_farm.py: stopped'] 1"
    assert result.stdout.splitlines() == [stopped] * 3, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_line(python: Run) -> None:
    # A limit on the size of files stands for the disk's: ffmpeg inherits it.
    code = """
import os, pathlib, resource, tempfile
from render_farm import Frame, Job, Worker, save

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
worker = Worker("", 0, "", "")
frames = (Frame(n, os.urandom(64 * 48 * 3), worker) for n in range(60))
with tempfile.TemporaryDirectory() as folder:
    try:
        save(frames, Job("ring", (64, 48), 60), pathlib.Path(folder, "turn.gif"))
    except OSError as error:
        print(str(error).replace(folder, ""))
    print(os.listdir(folder))
"""
    result = python("no-nvidia", code, env={"PYTHONPATH": str(EXAMPLES)})

    error, left = result.stdout.splitlines()
    assert error == "/turn.gif: ffmpeg ended with -25: it said nothing"
    assert left == "[]"


def test_bad_arguments_are_a_line_before_ray_is_started(python: Run, tmp_path: Path) -> None:
    (tmp_path / "d.gif").mkdir()
    (tmp_path / "e.png").mkdir()
    film, sheet = str(tmp_path / "d.gif"), str(tmp_path / "e.gif")
    wrong = {
        ("--count", "0"): "count: '0' is not a number from 1 on",
        ("--workers", "-1"): "workers: '-1' is not a number from 1 on",
        ("--size", "0x0"): "size: '0x0' is not WIDTHxHEIGHT in pixels, such as 640x480",
        ("--size", "33x32"): "size: an MP4 has even numbers of pixels, not 33x32",
        ("--size", "2x16386"): "size: OpenGL has 16384 pixels a side at most, not 2x16386",
        ("--output", "turn.avi"): "output: 'turn.avi' is not the name of an .mp4 or a .gif",
        ("--output", "/no/turn.gif"): "output: '/no' is no folder to write to",
        ("--output", f"{__file__}/t.gif"): f"output: {__file__!r} is no folder to write to",
        ("--output", film): f"output: {film!r} is a folder",
        ("--output", sheet): f"output: {str(tmp_path / 'e.png')!r} is a folder",
        ("--scene", "cat"): "scene: invalid choice: 'cat' (choose from ",
    }
    program = f"""
import contextlib, sys
sys.stderr = sys.stdout
import render_farm
for words in {list(wrong)!r}:
    sys.argv = ["render_farm.py", *words]
    with contextlib.suppress(SystemExit):
        render_farm.main()
print("ray" in sys.modules)
"""
    said = python("no-nvidia", program, env={"PYTHONPATH": str(EXAMPLES)}).stdout.splitlines()

    assert said.pop() == "False"
    errors = [line for line in said if "error: " in line]
    for error, why in zip(errors, wrong.values(), strict=True):
        assert error.startswith(f"render_farm.py: error: argument --{why}")
