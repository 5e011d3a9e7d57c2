"""The benchmark: what is measured and told, and that only a right frame counts."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PLATFORM, without_noise
from PIL import Image

from moderngl_colab.bench import Benchmark, bench, check
from moderngl_colab.bench.record import Measured, Memory, Row
from moderngl_colab.diagnostics import child
from rig import machines

Python = Callable[..., machines.Finished]
Command = Callable[..., machines.Finished]

COMMAND = (sys.executable, "-P", "-W", "error", "-m", "moderngl_colab", "bench")
SHORT = ("--size", "128x72", "--seconds", "0.02")
ABSENT = (
    "no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, and no kernel module is "
    "loaded"
)


@pytest.fixture(scope="session")
def command(python: Python) -> Command:
    """Run the command in a simulated machine; the fixture above says whether there can be any."""

    def call(machine: str, *words: str, env: dict[str, str] | None = None) -> machines.Finished:
        env = PLATFORM | {"COLUMNS": "100"} | (env or {})
        done = machines.run(machines.MACHINES[machine], [*COMMAND, *words], env=env, timeout=120)
        assert done.survivors == ()
        return done

    return call


def result(done: machines.Finished) -> tuple[int, str, str]:
    return done.returncode, done.stdout, without_noise(done.stderr)


def without_figures(text: str) -> str:
    text = re.sub(r"llvmpipe \(LLVM [^)]*\) \([^)]*\)", "llvmpipe (Mesa)", text)
    return re.sub(r"\d[\d,]*\.\d\d?\b|\d+(?= MB/s)|\d+,\d+(?= MB/s)", "N", text)


# ---- what is told --------------------------------------------------------------------------------

GPU = Row(
    "egl", "measured", "NVIDIA Corporation, Tesla T4/PCIe/SSE2", vendor="NVIDIA Corporation",
    renderer="Tesla T4/PCIe/SSE2", version="3.3.0 NVIDIA 550.54.15", software=False,
    gpu="Tesla T4", driver="550.54.15", first_context_seconds=0.3125,
    gpu_memory_before=Memory(32 << 20, 500 << 20), gpu_memory_during=Memory(143 << 20, 611 << 20),
    measurements=(
        Measured("fill", 1280, 720, 4000, 2.0),
        Measured("vertices", 1280, 720, 300, 2.0),
        Measured("transfer", 1280, 720, 800, 2.0, None, 0.5, 1.0),
    ),
)  # fmt: skip
GLX = Row("glx", "unavailable", "there is no Xvfb on the PATH", "apt-get install xvfb", "no-xvfb")
MESA = Row(
    "mesa", "measured", "Mesa, llvmpipe (LLVM 15.0.6, 256 bits)", vendor="Mesa",
    renderer="llvmpipe (LLVM 15.0.6, 256 bits)", version="4.5 Mesa 22.3.6", software=True,
    first_context_seconds=0.125,
    measurements=(
        Measured("fill", 1280, 720, 20, 2.0),
        Measured("vertices", 1280, 720, 3, 2.0),
        Measured("transfer", 1280, 720, 80, 2.0, None, 1.0, 0.8),
    ),
)  # fmt: skip
UNAVAILABLE = Row("egl", "unavailable", ABSENT, "docker run --gpus all ...", "driver-absent")
CRASHED = Row("egl", "failed", "the process that tried it was ended by SIGSEGV (11)")
NOT_DRAWN = GPU._replace(
    outcome="wrong",
    reason="vertices at 1280x720: 48 of 144 parts of the frame have another colour than they must",
    measurements=(GPU.measurements[0], GPU.measurements[1]._replace(wrong="48 of 144 parts")),
)


def told(*rows: Row) -> Benchmark:
    return Benchmark(rows, ((1280, 720),), 2.0)


def test_the_table_says_what_the_gpu_is_worth() -> None:
    assert (
        str(told(GPU, GLX, MESA))
        == """\
GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl, 10.0 to 200 times as fast as Mesa on \
llvmpipe (LLVM 15.0.6, 256 bits)

  egl   GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation)
        first context after 0.31 s
        GPU memory of this process: 32 MiB before, 143 MiB during
  glx   unavailable: there is no Xvfb on the PATH
  mesa  CPU: llvmpipe (LLVM 15.0.6, 256 bits) (Mesa)
        first context after 0.12 s

  scene     size      strategy  frames/s  times Mesa  throughput
  fill      1280x720  egl          2,000         200  1,843 Mpixel/s
  fill      1280x720  mesa          10.0        1.00  9.22 Mpixel/s
  vertices  1280x720  egl            150         100  157 Mtriangle/s
  vertices  1280x720  mesa          1.50        1.00  1.57 Mtriangle/s
  transfer  1280x720  egl            400        10.0  upload 5,898 MB/s, readback 2,949 MB/s
  transfer  1280x720  mesa          40.0        1.00  upload 295 MB/s, readback 369 MB/s"""
    )


def test_memory_of_all_is_told_where_that_of_the_process_is_hidden() -> None:
    hidden = GPU._replace(gpu_memory_before=Memory(None, 500 << 20))

    assert "  GPU memory of all processes: 500 MiB before, 611 MiB during\n" in str(told(hidden))


@pytest.mark.parametrize(
    ("rows", "status", "lines"),
    [
        ((GPU, GLX, MESA), 0, None),
        ((GPU,), 0, ["GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl", ""]),
        (
            (UNAVAILABLE, GLX, MESA),
            1,
            [f"no GPU, Mesa alone was measured: {ABSENT}", "  fix: docker run --gpus all ..."],
        ),
        (
            (MESA,),
            1,
            [
                "CPU: llvmpipe (LLVM 15.0.6, 256 bits) by mesa; no other strategy was asked for",
                "",
            ],
        ),
        (
            (UNAVAILABLE, GLX),
            2,
            [f"nothing was measured: {ABSENT}", "  fix: docker run --gpus all ..."],
        ),
        (
            (Row("egl", "unavailable", "libEGL.so.1 is not there"), UNAVAILABLE, MESA),
            1,
            [f"no GPU, Mesa alone was measured: {ABSENT}", "  fix: docker run --gpus all ..."],
        ),
        (
            (Row("egl", "unavailable", "a GPU is there, but", "mend it", "userland-absent"), MESA),
            1,
            [
                "the GPU was not reached, Mesa alone was measured: a GPU is there, but",
                "  fix: mend it",
            ],
        ),
        (
            (CRASHED, GPU._replace(strategy="glx"), MESA),
            0,
            [
                "GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by glx, 10.0 to 200 times as fast as "
                "Mesa on llvmpipe (LLVM 15.0.6, 256 bits)",
                "  more: python -m moderngl_colab",
            ],
        ),
        (
            (GPU, MESA._replace(renderer="Mesa Intel(R) UHD Graphics 630", software=False)),
            0,
            [
                "GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl, 10.0 to 200 times as fast as "
                "Mesa on Mesa Intel(R) UHD Graphics 630",
                "",
            ],
        ),
        (
            (NOT_DRAWN, MESA),
            3,
            [
                "GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl, wrong: vertices at 1280x720: "
                "48 of 144 parts of the frame have another colour than they must",
                "",
            ],
        ),
    ],
)
def test_the_first_lines_and_the_status_say_what_was_measured(
    rows: tuple[Row, ...], status: int, lines: list[str] | None
) -> None:
    done = told(*rows)

    assert done.exit_status == status
    if lines is not None:
        assert str(done).splitlines()[:2] == lines


def test_no_figure_of_a_wrong_frame_counts() -> None:
    done = told(NOT_DRAWN, MESA)
    wrong = done.to_dict()["strategies"][0]["measurements"][1]

    assert {name for name in wrong if wrong[name] is not None} == {
        "scene", "width", "height", "frames", "seconds", "wrong",
    }  # fmt: skip
    assert "  vertices  1280x720  egl              -           -  wrong frame\n" in str(done)


def test_a_notebook_shows_the_same_words() -> None:
    done = told(GPU, GLX._replace(reason="<b> & more"), MESA)
    html = done._repr_html_()

    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", html)]
    assert "<b>" not in html
    assert "unavailable: &lt;b&gt; &amp; more" in cells
    line = "transfer  1280x720  egl  400  10.0  upload 5,898 MB/s, readback 2,949 MB/s"
    assert "  ".join(cells).find(line) > 0
    assert html.startswith(f"<div><strong>{str(done).splitlines()[0]}</strong>")


# ---- what is measured ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def measured(
    command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """All strategies on a machine with a GPU, which the user chose: the data, and the picture."""
    path = tmp_path_factory.mktemp("bench") / "bench.png"
    env = {"MODERNGL_COLAB_DEVICE": "cuda:0"}
    done = command("colab", *SHORT, "--json", "--save", str(path), env=env)
    assert (done.returncode, without_noise(done.stderr)) == (0, "")
    assert list(path.parent.iterdir()) == [path]
    return json.loads(done.stdout), path


def test_every_strategy_is_measured_two_on_the_same_gpu_and_mesa_beside_them(
    measured: tuple[dict[str, Any], Path], mesa: str
) -> None:
    data, _ = measured
    names = ["fill", "vertices", "transfer"]

    assert (data["schema_version"], data["exit_status"]) == (1, 0)
    assert (data["sizes"], data["seconds"]) == ([[128, 72]], 0.02)
    rows = data["strategies"]
    assert [(row["strategy"], row["outcome"], row["vendor"], row["software"]) for row in rows] == [
        ("egl", "measured", "NVIDIA Corporation", False),
        ("glx", "measured", "NVIDIA Corporation", False),
        ("mesa", "measured", mesa, True),
    ]
    for row in rows:
        assert [m["scene"] for m in row["measurements"]] == names
        assert all(m["frames"] >= 1 and m["wrong"] is None for m in row["measurements"])
        assert row["first_context_seconds"] > 0
    assert rows[0]["gpu"] == "NVIDIA Stand-in GPU 0"
    assert rows[0]["gpu_memory_before"] == {"process_bytes": 128 << 20, "all_bytes": 512 << 20}
    assert rows[2]["gpu_memory_during"] is None


def test_the_figures_follow_from_frames_and_seconds(
    measured: tuple[dict[str, Any], Path],
) -> None:
    data, _ = measured
    fill, vertices, transfer = data["strategies"][0]["measurements"]
    of_mesa = data["strategies"][2]["measurements"][0]

    rate = fill["frames"] / fill["seconds"]
    assert fill["frames_per_second"] == pytest.approx(rate)
    assert fill["pixels_per_second"] == pytest.approx(rate * 128 * 72)
    assert fill["ratio_to_mesa"] == pytest.approx(rate / of_mesa["frames_per_second"])
    assert of_mesa["ratio_to_mesa"] == 1
    rate = vertices["frames"] / vertices["seconds"]
    assert vertices["triangles_per_second"] == pytest.approx(rate * (1 << 20))
    # What is spent on uploads and on reading back is less than all that is spent.
    moved = 4 * 128 * 72 * transfer["frames"]
    parts = [moved / transfer[f"{way}_bytes_per_second"] for way in ("upload", "readback")]
    assert 0 < sum(parts) < transfer["seconds"]
    nothing = [name for name in fill if fill[name] is None]
    assert nothing == [
        "triangles_per_second", "upload_bytes_per_second", "readback_bytes_per_second", "wrong",
    ]  # fmt: skip


def test_the_picture_shows_the_scenes_and_a_bar_for_each_strategy(
    measured: tuple[dict[str, Any], Path],
) -> None:
    _, path = measured
    with Image.open(path) as image:
        picture = image.convert("RGB")
    width, height = picture.size
    colours = {colour for _, colour in picture.getcolors(width * height) or ()}

    assert width == 1280
    assert {(0x4C, 0x9F, 0x38), (0x9B, 0xC5, 0x3D), (0xE0, 0x89, 0x2B)} <= colours
    # The background of the mesh is to the right; the scene before it is bright.
    left, right = (picture.getpixel((int(part * width), 150)) for part in (0.15, 0.9))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert min(left) > 2 * max(right)


def test_where_there_is_no_gpu_the_first_line_says_so_and_mesa_alone_is_measured(
    command: Command,
) -> None:
    status, text, errors = result(command("no-nvidia", *SHORT))

    assert (status, errors) == (1, "")
    *head, _, _, fill, vertices, transfer = without_figures(text).splitlines()
    assert head == [
        f"no GPU, Mesa alone was measured: {ABSENT}",
        head[1],
        "",
        f"  egl   unavailable: {ABSENT}",
        f"  glx   unavailable: {ABSENT}",
        "  mesa  CPU: llvmpipe (Mesa)",
        "        first context after N s",
    ]
    assert head[1].startswith("  fix: ")
    assert re.fullmatch(r"  fill      128x72  mesa +[N\d,]+ +N  [N\d,]+ Mpixel/s", fill)
    assert re.fullmatch(r"  vertices  128x72  mesa +[N\d,]+ +N  [N\d,]+ Mtriangle/s", vertices)
    assert transfer.startswith("  transfer  128x72  mesa")


def test_a_driver_that_does_not_draw_is_wrong_and_the_status_says_so(command: Command) -> None:
    env = {"STANDIN_FAULT": "blank"}
    status, text, errors = result(command("colab", *SHORT, "--strategy", "egl", env=env))

    assert (status, errors) == (3, "")
    parts = "48 of 144 parts of the frame have another colour than they must"
    assert text.startswith(
        "GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation) by egl, wrong: vertices at "
        f"128x72: {parts}\n"
    )
    assert f"\n       wrong: vertices at 128x72: {parts}\n" in text
    assert "\n  vertices  128x72  egl              -           -  wrong frame\n" in text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "the process that tried it was ended by SIGSEGV (11)"),
        # However long it measures, the driver may be silent no longer than it always may.
        ("hang", "the driver did not answer within 2 s"),
    ],
)
def test_a_driver_that_does_not_come_back_is_a_row_with_its_cause(
    fault: str, reason: str, command: Command
) -> None:
    words = ("--seconds", "3600", "--strategy", "egl", "--timeout", "2")

    assert result(command("colab", *words, env={"STANDIN_FAULT": fault})) == (
        2,
        f"nothing was measured: {reason}\n  more: python -m moderngl_colab\n\n"
        f"  egl  failed: {reason}\n",
        "",
    )


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("nvml-crash", "was ended by SIGABRT (6)"),
        ("nvml-hang", "had no answer within 8 s"),
    ],
)
def test_what_nvml_does_costs_no_figure(fault: str, why: str, command: Command) -> None:
    env = {"STANDIN_FAULT": fault}
    status, text, errors = result(command("colab", *SHORT, "--strategy", "egl", env=env))

    assert (status, errors) == (0, "")
    head = "GPU: NVIDIA Stand-in GPU 0/PCIe/SSE2 (NVIDIA Corporation)"
    assert without_figures(text).splitlines()[:6] == [
        f"{head} by egl",
        "",
        f"  egl  {head}",
        "       first context after N s",
        f"       NVML was not asked for memory: a process that asked it {why}",
        "",
    ]
    assert len(text.splitlines()) == 10


def test_a_device_that_is_not_there_is_told_in_one_line_with_its_cure(command: Command) -> None:
    env = {"MODERNGL_COLAB_DEVICE": "cuda:7"}
    reason = "MODERNGL_COLAB_DEVICE='cuda:7': this process has no such GPU; it has 1"

    assert result(command("colab", *SHORT, "--strategy", "egl", env=env)) == (
        2,
        f"nothing was measured: {reason}\n  fix: unset MODERNGL_COLAB_DEVICE\n\n"
        f"  egl  unavailable: {reason}\n",
        "",
    )


SIGNS = """
from moderngl_colab.bench.measure import measure
said = []
for answer in measure("mesa", [(64, 64)], 1.0, 60, []):
    said += [name for name in answer if name in ("doing", "alive", "measured")]
    if "measured" in answer:
        break
print(said[0], said.count("alive") >= 2, said[-1])
"""


def test_who_measures_for_long_says_meanwhile_that_it_is_alive(python: Python) -> None:
    options = ("-W", "ignore::RuntimeWarning")

    assert python("no-nvidia", SIGNS, options=options).stdout == "doing True measured\n"


LARGEST = """
import warnings
warnings.simplefilter("ignore")
import moderngl_colab
from moderngl_colab.bench import scenes
ctx = moderngl_colab.get_gpu_context(strategies=["mesa"])
scene = scenes.Transfer(ctx, (16384, 4100))
scene.frame(scenes.CHECKED)
print(scene.wrong())
"""


def test_a_picture_of_more_than_two_to_the_31_bits_is_transferred(python: Python) -> None:
    assert python("no-nvidia", LARGEST).stdout == "None\n"


LARGE = """
from moderngl_colab.bench.measure import measure
for answer in measure("mesa", [(64, 64), (40000, 64)], 0.01, 60, []):
    print(*answer, *answer.get("failed", ()))
"""


def test_a_size_that_is_too_large_for_the_context_is_told_before_anything_is_drawn(
    python: Python,
) -> None:
    options = ("-W", "ignore::RuntimeWarning")
    began, facts, failed = python("no-nvidia", LARGE, options=options).stdout.splitlines()

    assert (began, facts.split()[0]) == ("began", "vendor")
    why = r"40000x64 is too large: it draws \d+ pixels each way, and no more"
    assert re.fullmatch(f"failed failed {why} None None", failed)


# ---- frames that are right, and frames that are not ----------------------------------------------

FRAMES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import moderngl_colab
from moderngl_colab.bench import check, scenes
ctx = moderngl_colab.get_gpu_context(strategies=["mesa"])
ctx.gc_mode = "auto"
told = {}
for word in sys.argv[2:]:
    size = tuple(map(int, word.split("x")))
    for name in json.loads(sys.argv[1]):
        scene = scenes.SCENES[name](ctx, size)
        def seen(turn):
            scene.frame(turn)
            return scene.wrong() is None
        told[f"{name} {word}"] = [*map(seen, scenes.TURNS[::3]), seen(scenes.CHECKED)]
        if name == "transfer":
            continue
        dark = bytes(9 * value // 10 for value in scene.pixels())
        reference = {"fill": check.FILL, "vertices": check.VERTICES}[name]
        told[f"{name} {word}"].append(check.wrong(dark, size, reference) is None)
        target = scene._targets[0]
        for half in ((0, 0, size[0], size[1] // 2), (0, 0, size[0] // 2, size[1])):
            scene.frame(scenes.CHECKED)
            target = scene._targets[0]
            target.scissor = half
            target.clear(0.06, 0.07, 0.1)
            target.scissor = None
            told[f"{name} {word}"].append(scene.wrong() is None)
        for colour in ((0, 0, 0), (0.06, 0.07, 0.1), (0.7, 0.65, 0.6)):
            target.clear(*colour)
            told[f"{name} {word}"].append(scene.wrong() is None)
print(json.dumps(told))
"""


def frames(python: Python, names: list[str], *sizes: str, **env: str) -> dict[str, list[bool]]:
    done: dict[str, list[bool]] = json.loads(
        python("no-nvidia", FRAMES, json.dumps(names), *sizes, env=env).stdout
    )
    return done


def test_no_frame_but_the_right_one_is_taken_for_it_at_any_size(python: Python) -> None:
    sizes = ("65x131", "640x360")
    told = frames(python, ["fill", "vertices", "transfer"], *sizes)

    # Two earlier frames and the right one; then one a tenth too dark, half of it twice, and
    # nothing but a colour.
    right = [False, False, True]
    for size in sizes:
        assert told[f"fill {size}"] == right + [False] * 6, size
        assert told[f"vertices {size}"] == right + [False] * 6, size
        assert told[f"transfer {size}"] == right, size


def test_another_rasteriser_draws_what_the_reference_shows(python: Python) -> None:
    told = frames(python, ["fill"], "160x90", GALLIUM_DRIVER="softpipe")

    assert told == {"fill 160x90": [False, False, True] + [False] * 6}


def test_a_frame_that_was_cut_short_is_wrong() -> None:
    assert check.wrong(b"\0" * 30, (64, 64), check.FILL) == "it has 30 bytes, not 12288"


# ---- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (
            ("--size", "0x0"),
            64,
            "argument --size: 0x0 is too small: width and height are 64 to 16384 pixels",
        ),
        (
            ("--size", "1280x99999"),
            64,
            "argument --size: 1280x99999 is too large: width and height are 64 to 16384 pixels",
        ),
        (
            ("--size", "large"),
            64,
            "argument --size: 'large' is no width and height as 1280x720 has them",
        ),
        (
            ("--seconds", "nan"),
            64,
            "argument --seconds: nan is no number of seconds above 0, and 3600 at most",
        ),
        (("--seconds", "two"), 64, "argument --seconds: 'two' is no number of seconds"),
        (
            ("--timeout", "0"),
            64,
            "argument --timeout: 0.0 is no number of seconds above 0, and 86400 at most",
        ),
        (("--strategy", "cuda"), 64, "argument --strategy: 'cuda' is none of egl, glx, mesa"),
        (
            ("--save", "a.jpg"),
            64,
            "argument --save: 'a.jpg' does not end in .png, and a PNG it would be",
        ),
        (("--save", "/nowhere/a.png"), 73, "--save /nowhere/a.png: No such file or directory"),
        (
            ("--save", "{folder}/d.png"),
            73,
            "--save {folder}/d.png: is there, and is no regular file",
        ),
    ],
)
def test_what_cannot_be_measured_or_kept_is_an_error_before_anything_is(
    words: tuple[str, ...], status: int, error: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "d.png").mkdir()
    done = command("no-gl", *(word.format(folder=tmp_path) for word in words))

    assert (done.returncode, done.stdout) == (status, "")
    last = done.stderr.splitlines()[-1]
    assert last == f"moderngl-colab bench: error: {error.format(folder=tmp_path)}"
    assert list(tmp_path.iterdir()) == [tmp_path / "d.png"]


def test_without_matplotlib_it_says_what_to_install_before_anything_is_measured(
    command: Command, tmp_path: Path
) -> None:
    package = tmp_path / "matplotlib"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError(\"No module named 'matplotlib'\")\n")
    path = tmp_path / "bench.png"

    done = command("no-gl", "--save", str(path), env={"PYTHONPATH": str(tmp_path)})

    assert result(done) == (
        69,
        "",
        "moderngl-colab bench: error: --save: the picture needs matplotlib: pip install "
        "\"moderngl_colab[bench]\" (No module named 'matplotlib')\n",
    )


def test_where_nothing_was_measured_no_picture_takes_the_place_of_another(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "bench.png"
    path.write_bytes(b"another")

    done = command("no-gl-no-nvidia", *SHORT, "--save", str(path))

    assert done.returncode == 73
    error = f"--save {path}: there is no picture, for nothing was measured"
    assert done.stderr == f"moderngl-colab bench: error: {error}\n"
    assert done.stdout.startswith("nothing was measured: ")
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"another")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": []}, ValueError, "sizes is empty: name at least one"),
        ({"sizes": [(1, 1)]}, ValueError, "1x1 is too small: width and height are 64 to 16384"),
        ({"sizes": [(64.0, 64)]}, TypeError, r"\(64.0, 64\) is no size: a width and a height"),
        ({"sizes": [1280]}, TypeError, "1280 is no size: a width and a height in pixels"),
        ({"seconds": True}, TypeError, "seconds=True: a number of seconds is needed"),
        ({"seconds": 3601}, ValueError, "3601 is no number of seconds above 0, and 3600 at most"),
        ({"strategies": "cuda"}, ValueError, "'cuda' is none of egl, glx, mesa"),
    ],
)
def test_in_code_too(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bench(**arguments)


# ---- while it runs -------------------------------------------------------------------------------

STEPS = """
from moderngl_colab.bench import bench
told = []
asked = {"sizes": [(64, 64)], "seconds": 0.01, "strategies": "glx,mesa"}
done = bench(**asked, progress=lambda *step: told.append(step))
print(told, done)
"""


def test_the_steps_are_told_as_they_come(python: Python) -> None:
    steps = [
        ("glx: a context", 0, 6),
        ("mesa: a context", 3, 6),
        ("mesa: fill at 64x64", 3, 6),
        ("mesa: vertices at 64x64", 4, 6),
        ("mesa: transfer at 64x64", 5, 6),
        ("done", 6, 6),
    ]

    assert python("no-nvidia", STEPS).stdout.startswith(f"{steps} no GPU, Mesa alone was measured")


TERMINAL = """
import os, pty, subprocess, sys
ours, theirs = pty.openpty()
command = [sys.executable, "-P", "-m", "moderngl_colab", "bench", "--strategy", "egl", "--json"]
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs)
os.close(theirs)
shown = b""
try:
    while chunk := os.read(ours, 10000):
        shown += chunk
except OSError:  # The other end is closed.
    pass
os.close(ours)
print(repr(shown.decode()))
print(done.stdout.decode())
"""


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_shows_the_steps_and_stdout_has_the_data_alone(
    rich: bool, python: Python, tmp_path: Path
) -> None:
    if not rich:
        (tmp_path / "rich").mkdir()
        (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('it is not here')\n")
    env = {"STANDIN_FAULT": "crash", "PYTHONPATH": str(tmp_path), "TERM": "xterm"}

    shown, _, data = python("colab", TERMINAL, env=env).stdout.partition("\n")

    assert json.loads(data)["strategies"][0]["outcome"] == "failed"
    if rich:
        assert "\\x1b[" in shown
        assert "0/6 egl: a context" in re.sub(r"\\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    else:
        assert shown == r"'egl: a context\r\ndone\r\n'"


INTERRUPTED = """
import os, pathlib, signal, subprocess, sys, time
command = [sys.executable, "-P", "-m", "moderngl_colab", "bench", "--seconds", "600", *sys.argv[1:]]
bench = subprocess.Popen(command, stdout=subprocess.PIPE)
children = pathlib.Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
while not children.read_text():
    time.sleep(0.05)
time.sleep(2)  # It draws now, by GLX over a server.
bench.send_signal(signal.SIGINT)
print(bench.communicate()[0], bench.returncode)
"""


def test_control_c_leaves_nothing(python: Python, tmp_path: Path) -> None:
    words = ("--strategy", "glx", "--save", str(tmp_path / "bench.png"))

    # The fixture fails where a process is left.
    assert python("colab", INTERRUPTED, *words).stdout == "b'' 130\n"
    assert list(tmp_path.iterdir()) == []


def talk(count: int, pause: float) -> Iterator[int]:
    for number in range(count):
        time.sleep(pause)
        yield number


def test_who_answers_in_time_each_time_may_take_longer_than_that_in_all() -> None:
    heard: list[int] = []

    ended = child.run(talk, 5, 1.0, timeout=4.5, heard=heard.append)

    assert (ended.status, ended.timed_out) == (0, False)
    assert heard == list(ended.answers) == [0, 1, 2, 3, 4]
    assert child.run(talk, 5, 1.0, timeout=4.5).timed_out
