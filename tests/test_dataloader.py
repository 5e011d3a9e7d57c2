"""PyTorch's DataLoader renders in its workers, each on its GPU; where it cannot, it says why."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rig import machines

EXAMPLE = Path(__file__).parent.parent / "examples" / "dataloader.py"
FOUR_GPUS = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse", "OMP_NUM_THREADS": "1"}
# That there are more workers than cores is true, as is that a process with threads should not be
# forked, which Python says from 3.12 on; neither is what is tested.
FILTERS = ["-W", "ignore:This DataLoader will create", "-W", "ignore:This process (pid="]

PROGRAM = f"""
import json, sys

sys.path.insert(0, {str(EXAMPLE.parent)!r})

from torch.utils.data import DataLoader

from dataloader import KnotPoses

if __name__ == "__main__":
    method, first = sys.argv[1:]
    dataset = KnotPoses(6, 64)
    if first == "parent-first":
        dataset[0]
    loader = DataLoader(
        dataset, 1, num_workers=3, collate_fn=dataset.batch, multiprocessing_context=method
    )
    try:
        batches = [(images[0].tolist(), poses[0].tolist(), by) for images, poses, by in loader]
    except RuntimeError as error:
        print(json.dumps([type(error).__name__, str(error)]))
    else:
        own = [(image.tolist(), pose.tolist()) for image, pose in dataset]
        print(json.dumps([batches, own]))
"""


@pytest.fixture(autouse=True)
def _torch() -> None:
    if importlib.util.find_spec("torch") is None:
        why = "torch is not installed: pip install torch"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture
def load(python: Callable[..., machines.Finished], tmp_path: Path) -> Callable[..., Any]:
    """Render by workers, then in the main process; from a file, as spawned workers import it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(method: str, first: str = "", **env: str) -> Any:
        result = python(
            "colab", program, method, first, env=FOUR_GPUS | env, options=FILTERS, timeout=90
        )
        return json.loads(result.stdout)

    return run


def pixels(sheet: Path) -> Any:
    with Image.open(sheet) as picture:
        return np.asarray(picture)


def on_gpu(number: int) -> str:
    return f"NVIDIA Stand-in GPU {number}/PCIe/SSE2 at 0000:0{number}:04.0"


def test_four_workers_render_on_four_gpus_what_one_process_does(
    python: Any, tmp_path: Path
) -> None:
    one, four = tmp_path / "one.png", tmp_path / "four.png"

    def run(workers: str, picture: Path) -> list[str]:
        given = ["--samples", "12", "--batch", "2", "--workers", workers, "--output", str(picture)]
        result = python("colab", EXAMPLE, *given, env=FOUR_GPUS, options=FILTERS, timeout=120)
        *lines, speed, where = result.stdout.splitlines()
        assert speed.endswith(" samples/s, the start of the workers included")
        assert where == f"picture   {picture}"
        return list(lines)

    # Six batches go round.
    assert run("4", four) == [
        f"4 samples by worker 0 on {on_gpu(0)}",
        f"4 samples by worker 1 on {on_gpu(1)}",
        f"2 samples by worker 2 on {on_gpu(2)}",
        f"2 samples by worker 3 on {on_gpu(3)}",
    ]
    assert run("0", one) == [f"12 samples by main process on {on_gpu(0)}"]
    assert np.array_equal(pixels(one), pixels(four))
    tiles = pixels(four).reshape(2, 128, 8, 128, 3).swapaxes(1, 2).reshape(16, 128, 128, 3)
    for before, after in pairwise(tiles[:12]):
        background = (np.abs(after - [23, 26, 33]) <= 1).all(axis=2)
        assert background[0].all()
        assert 0.5 < background.mean() < 0.95
        assert (before != after).any(axis=2).mean() > 0.1


def shows(image: Any, pose: Any) -> bool:
    """Whether a picture shows the knot under this rotation: it is wherever it must be."""
    place = np.linspace(0, 2 * np.pi, 200)
    radius = 2 + np.cos(3 * place)
    line = np.stack([radius * np.cos(2 * place), radius * np.sin(2 * place), np.sin(3 * place)])
    x, y, z = np.array(pose) @ line
    column, row = (32 + 32 * 2.3 * np.stack([x, -y]) / (9 - z)).astype(int)
    from_background = np.abs(np.array(image)[:, row, column].T - [23, 26, 33])
    return bool((from_background > 4).any(axis=1).all())


def test_spawned_workers_share_what_cuda_visible_devices_gives_in_its_order(load: Any) -> None:
    batches, own = load("spawn", "parent-first", CUDA_VISIBLE_DEVICES="2,0")

    turns = [f"worker {worker} on {on_gpu(gpu)}" for worker, gpu in enumerate((2, 0, 2))]
    assert [by for _, _, by in batches] == turns * 2
    assert [[image, pose] for image, pose, _ in batches] == own
    fits = [[shows(image, pose) for _, pose in own] for image, _ in own]
    assert np.array_equal(fits, np.eye(6))


def test_forked_workers_render_where_the_parent_has_no_context(load: Any) -> None:
    batches, own = load("fork")

    assert [by for _, _, by in batches] == [f"worker {n} on {on_gpu(n)}" for n in range(3)] * 2
    assert [[image, pose] for image, pose, _ in batches] == own


def test_forked_workers_of_a_parent_with_a_context_say_what_to_do(load: Any) -> None:
    name, text = load("fork", "parent-first")

    assert name == "ForkedProcessError"
    assert text.startswith("Caught ForkedProcessError in DataLoader worker process 0.")
    assert 'multiprocessing_context="spawn"' in text


def test_where_there_is_no_gpu_one_worker_warns_for_all(python: Any, tmp_path: Path) -> None:
    given = ["--samples", "6", "--batch", "1", "--output", str(tmp_path / "sheet.png")]

    result = python("no-nvidia", EXAMPLE, *given, options=["-W", "default"], check=False)

    assert (result.returncode, result.survivors) == (0, ()), result.stderr
    first, second, *_ = result.stdout.splitlines()
    assert first.startswith("3 samples by worker 0 on llvmpipe (LLVM ")
    assert second == first.replace("worker 0", "worker 1")
    assert result.stderr.count("SoftwareRenderingWarning: OpenGL renders on the CPU (llvmpipe") == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_loader_that_is_stopped_says_so_and_its_workers_end(
    python: Any, tmp_path: Path, ending: signal.Signals
) -> None:
    # Ctrl-C reaches everything that runs in the terminal, here while the workers start; what else
    # ends a program, it alone.
    code = """
import os, pathlib, signal, subprocess, sys, time
loader = subprocess.Popen(
    [sys.executable, sys.argv[1], "--samples", "999999", "--output", sys.argv[2]],
    stderr=subprocess.PIPE, text=True, start_new_session=True,
)
children = pathlib.Path(f"/proc/{loader.pid}/task/{loader.pid}/children")
while len(children.read_text().split()) < 3 and loader.poll() is None:  # one counts resources
    time.sleep(0.05)
time.sleep(0.5)
ending = int(sys.argv[3])
(os.killpg if ending == signal.SIGINT else os.kill)(loader.pid, ending)
# Struck between a semaphore's making and removal, multiprocessing's tracker complains, in lines.
said = loader.communicate()[1].splitlines()
said = [line for line in said if "resource_tracker" not in line and "warnings.warn(" not in line]
print(said, loader.returncode)
"""
    given = [str(EXAMPLE), str(tmp_path / "sheet.png"), str(int(ending))]

    result = python("colab", code, *given, env=FOUR_GPUS)

    assert result.stdout == "['dataloader.py: stopped'] 1\n"
    assert list(tmp_path.iterdir()) == []


def test_impossible_arguments_are_refused_in_a_line(python: Any, tmp_path: Path) -> None:
    sheets = [str(tmp_path / name) for name in ("sheet.xyz", "nowhere/sheet.png")]
    wrong = {
        ("--samples", "0"): "'0' is no number from 1 to 1000000",
        ("--workers", "-1"): "'-1' is no number from 0 to 256",
        ("--size", "8192"): "'8192' is no number from 1 to 2048",
        ("--batch", "many"): "'many' is no number from 1 to 1000000",
        ("--output", sheets[0]): f"{sheets[0]!r} is no FILE.png in a folder to write to",
        ("--output", sheets[1]): f"{sheets[1]!r} is no FILE.png in a folder to write to",
    }
    program = f"""
import contextlib, sys
sys.path.insert(0, {str(EXAMPLE.parent)!r})
sys.stderr = sys.stdout
import dataloader
for words in {list(wrong)!r}:
    sys.argv = ["dataloader.py", *words]
    with contextlib.suppress(SystemExit):
        dataloader.main()
"""
    said = python("no-nvidia", program).stdout.splitlines()

    assert [line for line in said if "error" in line] == [
        f"dataloader.py: error: argument {flag}: {why}" for (flag, _), why in wrong.items()
    ]
