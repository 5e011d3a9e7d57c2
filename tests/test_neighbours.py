"""Libraries that people use beside this one: where they are with it, and where without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import without_noise
from PIL import Image, ImageStat

from rig import machines

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "neighbours"
GPU = "vendor    NVIDIA Corporation\nrenderer  NVIDIA Stand-in GPU 0/PCIe/SSE2\n"
# moderngl-window 3.1 imports PyGLM by its former name.
OPTIONS = ("-W", "ignore:Importing PyGLM:PendingDeprecationWarning")
# It asks for OpenGL 2 and is given no more by Mesa; NVIDIA's driver gives what it has.
OF_VISPY = "WARNING: OpenGL version 2.1 or higher recommended, got 2.0.0 NVIDIA 550.54.15. "
# It asks xdpyinfo or xrandr, where one of them is installed.
NO_DPI = "WARNING: could not determine DPI\n"

Python = Callable[..., machines.Finished]
Run = Callable[..., machines.Finished]
Colour = tuple[int, int, int]


class Neighbour(NamedTuple):
    """A library, its example, and what the picture shows."""

    package: str
    version: str
    """Tested since."""
    program: str
    how: str
    size: tuple[int, int]
    shows: dict[tuple[int, int], Colour]
    """Colours of 9 x 9 pixels around places, from the left and the top."""
    arguments: tuple[str, ...] = ()
    """Of the program."""
    alone: str = "CPU"
    mesa: tuple[tuple[str, str], ...] = ()
    """The variable without which it finds no CPU."""
    words: str = ""
    """What it says then."""


BY_RUN = "`moderngl-colab run -- python ...`"
NEIGHBOURS = {
    "moderngl-window": Neighbour(
        "moderngl-window",
        "3.1",
        "moderngl_window_config",
        '`moderngl_colab.window.run(MyConfig, "film.mp4")`',
        (960, 540),
        {(10, 10): (237, 240, 245), (480, 170): (208, 151, 53), (400, 215): (19, 38, 85)},
        ("--frames", "1"),
    ),
    "zengl": Neighbour(
        "zengl",
        "2.7",
        "zengl_beside",
        "`zengl.context()` after `get_gpu_context()`",
        (960, 480),
        {(100, 100): (36, 19, 19), (640, 180): (255, 255, 255), (10, 10): (5, 5, 15)},
    ),
    "pyglet": Neighbour(
        "pyglet",
        "2.1",
        "pyglet_headless",
        BY_RUN,
        (640, 480),
        {(320, 240): (255, 214, 70), (10, 10): (18, 20, 31), (430, 300): (36, 181, 211)},
    ),
    "MuJoCo": Neighbour(
        "mujoco",
        "4.0",
        "mujoco_scene",
        BY_RUN,
        (640, 480),
        {(310, 240): (153, 41, 35), (320, 20): (189, 211, 241), (100, 272): (37, 43, 50)},
        alone="no display; CPU by `MUJOCO_GL=egl`",
        mesa=(("MUJOCO_GL", "egl"),),
        words="X11: The DISPLAY environment variable is missing",
    ),
    "VTK": Neighbour(
        "vtk",
        "9.7",
        "vtk_scene",
        BY_RUN,
        (640, 480),
        {(300, 130): (156, 85, 23), (10, 10): (20, 23, 33), (165, 300): (161, 255, 123)},
    ),
    "PyVista": Neighbour(
        "pyvista",
        "0.49",
        "pyvista_scene",
        BY_RUN,
        (640, 480),
        {(342, 165): (216, 203, 28), (320, 10): (178, 197, 223), (180, 195): (53, 161, 94)},
    ),
    "vispy": Neighbour(
        "vispy",
        "0.17",
        "vispy_scene",
        BY_RUN,
        (640, 480),
        {(320, 245): (102, 94, 24), (10, 10): (5, 6, 15), (130, 280): (5, 6, 15)},
        alone="no display; CPU by `EGL_PLATFORM=surfaceless`",
        mesa=(("EGL_PLATFORM", "surfaceless"),),
        words='RuntimeError: Could not import backend "EGL"',
    ),
}
OURS = ["moderngl-window", "zengl"]
FOREIGN = [name for name in NEIGHBOURS if name not in OURS]

# As `moderngl-colab run -- python`, and as in a notebook, before the library is imported.
UNDER_RUN = """
import sys
from moderngl_colab.__main__ import main
sys.exit(main(["run", "--", sys.executable, "-P", "-W", "error", *sys.argv[1:]]))
"""
NOTEBOOK = """
import os, runpy, sys, moderngl_colab
os.environ.update(moderngl_colab.prepare_environment())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Where an example saves."""
    return tmp_path / "picture.png"


@pytest.fixture
def example(python: Python, picture: Path) -> Run:
    """Run an example in a machine: by itself, or through other code."""

    def run(machine: str, name: str, how: str | None = None, **env: str) -> machines.Finished:
        neighbour = needed(name)
        program = EXAMPLES / f"{neighbour.program}.py"
        words = ["--output", str(picture), *neighbour.arguments]
        code = (program, *words) if how is None else (how, str(program), *words)
        env = {"XDG_CACHE_HOME": str(picture.parent / ".cache"), **env}
        done = python(machine, *code, env=env, options=OPTIONS, check=False)
        assert not done.survivors
        return done

    return run


def needed(name: str) -> Neighbour:
    neighbour = NEIGHBOURS[name]
    module = {"vtk": "vtkmodules"}.get(neighbour.package, neighbour.package.replace("-", "_"))
    if find_spec(module) is None:
        pytest.skip(f"{neighbour.package} is not installed")
    return neighbour


def is_right(picture: Path, neighbour: Neighbour) -> None:
    with Image.open(picture) as image:
        assert image.size == neighbour.size
        for (x, y), colour in neighbour.shows.items():
            place = image.convert("RGB").crop((x - 4, y - 4, x + 5, y + 5))
            seen = ImageStat.Stat(place).mean
            assert seen == pytest.approx(colour, abs=16), (x, y)


CASES = [(name, "colab") for name in NEIGHBOURS]
CASES += [(name, "colab-no-path") for name in NEIGHBOURS if name != "PyVista"]  # It is VTK.


@pytest.mark.parametrize(("name", "machine"), CASES)
def test_a_neighbour_is_on_the_gpu_with_us(
    name: str, machine: str, example: Run, picture: Path
) -> None:
    done = example(machine, name, None if name in OURS else UNDER_RUN)

    said = without_noise(done.stderr).strip().removeprefix(NO_DPI).removeprefix(OF_VISPY)
    assert (done.returncode, said.removeprefix("Some functionality may fail.")) == (0, "")
    assert done.stdout == f"{GPU}picture   {picture}\n"
    is_right(picture, NEIGHBOURS[name])


@pytest.mark.parametrize("name", FOREIGN)
def test_a_neighbour_without_us_is_on_the_cpu_and_draws_the_same(
    name: str, example: Run, picture: Path, mesa: str
) -> None:
    neighbour = NEIGHBOURS[name]
    if neighbour.words:
        done = example("colab", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert neighbour.words in done.stderr
        assert not picture.exists()

    done = example("colab", name, **dict(neighbour.mesa))

    assert done.stdout.startswith(f"vendor    {mesa}\nrenderer  llvmpipe"), done.stderr
    is_right(picture, neighbour)


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "PyVista"])
def test_in_a_notebook_on_colab_the_variables_are_enough(
    name: str, example: Run, picture: Path
) -> None:
    done = example("colab", name, NOTEBOOK)

    assert done.stdout == f"{GPU}picture   {picture}\n", done.stderr
    is_right(picture, NEIGHBOURS[name])


def test_vtk_asks_for_an_x_server_first_unless_it_is_told_otherwise(example: Run) -> None:
    assert "WARN| bad X server connection. DISPLAY=" in example("colab", "VTK", NOTEBOOK).stderr
    told = {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}
    done = example("colab", "VTK", NOTEBOOK, **told)
    assert (done.stdout.startswith(GPU), done.stderr) == (True, "")


ITS_OWN_HEADLESS_WINDOW = """
import moderngl_window
from moderngl_window.context.base import WindowConfig
class Once(WindowConfig):
    def on_render(self, time, frame_time):
        print(self.ctx.info["GL_VENDOR"])
        self.wnd.close()
Once.log_level = None
moderngl_window.run_window_config(Once, args=["--window", "headless", "--backend", "egl"])
"""


def test_moderngl_windows_own_headless_window_is_on_the_cpu(python: Python, mesa: str) -> None:
    needed("moderngl-window")
    options = (*OPTIONS, "-W", "ignore::DeprecationWarning")
    assert python("colab", ITS_OWN_HEADLESS_WINDOW, options=options).stdout == f"{mesa}\n"


RAW = """
import sys
import moderngl, zengl
raw = moderngl.create_context(standalone=True, backend="egl")
print(zengl.context().info["vendor"])
"""
HEALED = """
raw.release()
zengl.cleanup()
import moderngl_colab
ctx = moderngl_colab.get_gpu_context(strategies=sys.argv[1:] or None)
print(moderngl_colab.describe(ctx).strategy, zengl.context().info["vendor"])
"""


def test_zengl_finds_our_context_where_mesa_was_there_before(python: Python, mesa: str) -> None:
    needed("zengl")
    assert python("colab", RAW).stdout == f"{mesa}\n"
    assert python("colab", RAW + HEALED).stdout == f"{mesa}\negl NVIDIA Corporation\n"
    by_glx = python("colab", RAW + HEALED, "glx", options=("-W", "default"))
    assert by_glx.stdout == f"{mesa}\nglx NVIDIA Corporation\n"


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbours_example_helps(name: str, python: Python) -> None:
    program = EXAMPLES / f"{needed(name).program}.py"

    helps = python("no-nvidia", program, "--help", options=OPTIONS).stdout

    assert helps.startswith(f"usage: {program.name} [-h] [--output FILE")


def test_every_example_is_of_a_neighbour() -> None:
    programs = sorted(neighbour.program for neighbour in NEIGHBOURS.values())
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == programs


@pytest.mark.parametrize(("page", "to_root"), [("README.md", ""), ("docs/programs.md", "../")])
def test_the_table_of_what_works_is_what_is_tested(page: str, to_root: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = lines.index("| neighbour | version | how | alone | with us |")
    rows = lines[start + 2 : lines.index("", start)]
    assert rows == [
        f"| [{name}]({to_root}examples/neighbours/{of.program}.py) | {of.version} | {of.how} "
        f"| {of.alone} | GPU |"
        for name, of in NEIGHBOURS.items()
    ]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbour_is_not_older_than_the_table_says(name: str) -> None:
    neighbour = needed(name)
    numbers = metadata.version(neighbour.package).split(".")
    assert [int(n) for n in numbers[:2]] >= [int(n) for n in neighbour.version.split(".")]


def test_the_example_of_a_config_says_what_is_impossible_in_a_line(
    python: Python, tmp_path: Path
) -> None:
    needed("moderngl-window")
    program = EXAMPLES / "moderngl_window_config.py"
    for words, text in {
        ("--output", "a.jpg"): "output='a.jpg' is neither a .png nor an .mp4",
        ("--output", "/nowhere/a.png"): "output='/nowhere/a.png' is no name for a file in a folder "
        "that is there",
        ("--frames", "0"): "frames=0 is no number from 1 on",
    }.items():
        done = python("no-nvidia", program, *words, options=OPTIONS, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert without_noise(done.stderr).splitlines()[-1] == f"{program.name}: error: {text}"


def test_the_example_of_a_config_says_which_file_cannot_be_written(python: Python) -> None:
    needed("moderngl-window")
    program = EXAMPLES / "moderngl_window_config.py"

    done = python("no-nvidia", program, "--output", "/proc/a.png", options=OPTIONS, check=False)

    error = "[Errno 2] No such file or directory: '/proc/a.png'"
    assert (done.returncode, done.stdout) == (1, "")
    assert without_noise(done.stderr) == f"{program.name}: error: {error}\n"


def test_the_example_of_a_config_that_is_stopped_says_so_and_leaves_nothing(
    python: Python, tmp_path: Path
) -> None:
    needed("moderngl-window")
    code = """
import os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[2])
for ending in (signal.SIGINT, signal.SIGTERM):
    film = subprocess.Popen(
        [*sys.argv[3:], sys.argv[1], "--frames", "99999", "--output", folder / "waves.mp4"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    while not any(folder.iterdir()) and film.poll() is None:
        time.sleep(0.02)
    os.killpg(film.pid, ending)
    print(film.communicate()[1].splitlines(), film.returncode, os.listdir(folder))
"""
    program = EXAMPLES / "moderngl_window_config.py"
    result = python("colab", code, str(program), str(tmp_path), sys.executable, *OPTIONS)
    assert result.stdout == f"['{program.name}: stopped'] 1 []\n" * 2
