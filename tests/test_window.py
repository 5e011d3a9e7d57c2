"""A WindowConfig renders to a file: the picture, the film, the time, and what goes wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from rig import machines

pytest.importorskip("moderngl_window", reason="moderngl-window is not installed")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")

OPTIONS = ("-W", "ignore:Importing PyGLM:PendingDeprecationWarning")
GPU = "NVIDIA Stand-in GPU 0/PCIe/SSE2"

Python = Callable[..., machines.Finished]
Run = Callable[..., str]

# A red triangle over the lower left half, and what is called with what.
CONFIG = """
import sys
from pathlib import Path
import moderngl
import moderngl_colab
from moderngl_colab import window
from moderngl_window.context.base import WindowConfig

sys.argv = ["program", "--of", "somebody", "else"]
output = Path(sys.orig_argv[-1])

class Half(WindowConfig):
    window_size = (64, 48)
    aspect_ratio = None
    clear_color = (0.0, 0.2, 0.4, 0.0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.program = self.ctx.program(
            "#version 330\\nvoid main() { gl_Position = vec4("
            "vec2[](vec2(-1, -1), vec2(1, -1), vec2(-1, 1))[gl_VertexID], 0, 1); }",
            "#version 330\\nuniform float blue; out vec4 colour;"
            "void main() { colour = vec4(1, 0, blue, 0.3); }",
        )
        self.triangle = self.ctx.vertex_array(self.program, [])

    def on_render(self, time, frame_time):
        self.triangle.render(vertices=3)
"""


def full_disk(python: Python, folder: Path, output: str, *words: object) -> machines.Finished:
    """Run a program that is to write `output`, its last argument, on a disk that is full.

    An older one is there. It says what is in the file afterwards, and what is in its folder.
    """
    script = 'mount -t tmpfs -o size=4k none "$0" && cd "$0" && echo older >"$1" || exit 1; shift'
    script += '; "$@" >/dev/null; cat "${@: -1}"; ls -A'
    code = f"""
import os, sys
how = ["-m"] if os.geteuid() == 0 else ["-Urm"]
os.execvp("unshare", ["unshare", *how, "bash", "-c", {script!r}, *sys.argv[1:]])
"""
    command = (sys.executable, *OPTIONS, *map(str, words), output)
    return python("colab-no-path", code, str(folder), output, *command, check=False)


@pytest.fixture
def run(python: Python, tmp_path: Path) -> Run:
    """Run code after CONFIG on the Colab-like machine; what it prints."""

    def call(code: str, output: str = "picture.png", **env: str) -> str:
        arguments = (CONFIG + code, str(tmp_path / output))
        return python("colab", *arguments, env=env, options=OPTIONS).stdout

    return call


def pixels(path: Path, *places: tuple[int, int]) -> list[object]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return [image.getpixel(place) for place in places]


RED, GROUND = (255, 0, 0), (0, 51, 102)


def test_a_picture_is_of_the_last_frame_and_the_upper_row_is_first(
    run: Run, tmp_path: Path
) -> None:
    said = run("""
class Loud(Half):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        print(type(self.wnd).__name__, self.wnd.size, self.wnd.samples, self.wnd.headless)
    def on_resize(self, *size):
        print("resize", size)
    def on_render(self, time, frame_time):
        print("render", self.wnd.frames, round(time, 6), round(frame_time, 6))
        super().on_render(time, frame_time)
    def on_close(self):
        print("close")
info = window.run(Loud, output, frames=3, fps=50)
print(info.strategy, info.renderer)
""")
    assert said.splitlines() == [
        "Window (64, 48) 0 True",
        "resize (64, 48)",
        "render 0 0.0 0.0",
        "render 1 0.02 0.02",
        "render 2 0.04 0.02",
        "close",
        f"egl {GPU}",
    ]
    seen = pixels(tmp_path / "picture.png", (5, 42), (40, 44), (58, 5), (40, 3))
    assert seen == [RED, RED, GROUND, GROUND]
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_film_has_every_frame(run: Run, tmp_path: Path) -> None:
    run(
        """
class Turning(Half):
    def on_render(self, time, frame_time):
        self.program["blue"] = time
        super().on_render(time, frame_time)
window.run(Turning, output, frames=11, fps=10)
""",
        "film.mp4",
    )
    film = str(tmp_path / "film.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(film) == (11, 1.1)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", film]
    raw = subprocess.check_output([*decode, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
    assert len(raw) == 11 * 48 * 64 * 3
    blue = raw[3 * (40 * 64 + 6) + 2 :: 48 * 64 * 3]  # of a pixel in the triangle
    assert list(blue) == pytest.approx([25.5 * number for number in range(11)], abs=14)


def test_the_time_can_be_set_and_paused_and_is_no_clock(run: Run) -> None:
    assert run("""
class Timely(Half):
    def on_render(self, time, frame_time):
        print(time, frame_time, self.timer.time, self.timer.is_paused, self.timer.fps)
        frame = self.wnd.frames
        if frame == 1:
            self.timer.time = 8
        if frame in (2, 4):
            self.timer.toggle_pause()
window.run(Timely, output, frames=6, fps=4)
""").splitlines() == [
        "0.0 0.0 0.0 False 4.0",
        "0.25 0.25 0.25 False 4.0",
        "8.25 8.0 8.25 False 4.0",
        "8.25 0.0 8.25 True 4.0",
        "8.25 0.0 8.25 True 4.0",
        "8.5 0.25 8.5 False 4.0",
    ]


def test_samples_are_resolved_and_no_scissor_cuts_the_copy(run: Run, tmp_path: Path) -> None:
    said = run("""
class Smooth(Half):
    samples = 64
    def on_render(self, time, frame_time):
        super().on_render(time, frame_time)
        self.wnd.fbo.scissor = 0, 0, 8, 8
window.run(Smooth, output, frames=1)
print(moderngl_colab.get_gpu_context().max_samples)
window.run(Smooth, output.with_name("rough.png"), args=["--samples", "0"])
""")
    assert int(said) > 1
    for name, colours in (("picture", 3), ("rough", 2)):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.getcolors() or ()) >= colours
            assert colours == 3 or len(image.getcolors() or ()) == colours
            assert image.getpixel((58, 5)) == GROUND


def test_the_context_has_a_screen(run: Run, tmp_path: Path) -> None:
    run("""
class ToScreen(Half):
    clear_color = None
    def on_render(self, time, frame_time):
        self.ctx.simple_framebuffer((8, 8)).use()
        self.ctx.screen.use()
        self.ctx.clear(0.0, 1.0, 0.0)
window.run(ToScreen, output)
""")
    assert pixels(tmp_path / "picture.png", (0, 0), (63, 47)) == [(0, 255, 0)] * 2


def test_its_own_arguments_count_and_this_processs_do_not(run: Run, tmp_path: Path) -> None:
    said = run("""
class Asking(Half):
    @classmethod
    def add_arguments(cls, parser):
        parser.add_argument("--name")
    def on_render(self, time, frame_time):
        print(self.argv.name, self.wnd.size)
window.run(Asking, output)
window.run(Asking, output, args=["--size", "32x16", "--size_mult", "2", "--name", "me"])
""")
    assert said == "None (64, 48)\nme (64, 32)\n"
    assert pixels(tmp_path / "picture.png", (63, 31)) == [GROUND]


def test_a_window_is_resized_and_tells_it(run: Run, tmp_path: Path) -> None:
    said = run("""
class Growing(Half):
    def on_resize(self, *size):
        print(size)
    def on_render(self, time, frame_time):
        if self.wnd.frames == 0:
            self.wnd.size = 128, 96
        super().on_render(time, frame_time)
window.run(Growing, output, frames=2)
try:
    window.run(Growing, output.with_name("film.mp4"), frames=2, args=["--samples", "4"])
except ValueError as error:
    print(error)
class Later(Growing):
    def on_render(self, time, frame_time):
        if self.wnd.frames == 1:
            self.wnd.size = 128, 96
try:
    window.run(Later, output.with_name("film.mp4"), frames=2)
except ValueError as error:
    print(error)
""")
    assert said.splitlines() == [
        "(64, 48)",
        "(128, 96)",
        "(64, 48)",
        "(128, 96)",
        "(64, 48)",
        "(128, 96)",
        "a film's frames have one size; this one has 128x96 pixels, and those before it 64x48",
    ]
    assert pixels(tmp_path / "picture.png", (10, 86), (120, 5)) == [RED, GROUND]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "picture.png"]


@pytest.mark.parametrize("output", ["picture.png", "film.mp4"])
def test_a_config_that_raises_leaves_nothing_but_what_was_there(
    run: Run, tmp_path: Path, output: str
) -> None:
    (tmp_path / output).write_bytes(b"older")
    said = run(
        """
import moderngl_window
mine = moderngl_colab.get_gpu_context()
mine.simple_framebuffer((4, 4)).use()
mine.clear(0.0, 0.0, 1.0)
class Failing(Half):
    def on_render(self, time, frame_time):
        made.append(self.ctx)
        if self.wnd.frames == 2:
            raise LookupError("no such thing")
class Stillborn(Half):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        made.append(self.ctx)
        raise LookupError("not even begun")
class AtTheEnd(Half):
    def on_close(self):
        made.append(self.ctx)
        raise LookupError("all was drawn")
made = []
for config in (Failing, Stillborn, AtTheEnd):
    try:
        window.run(config, output, frames=5)
    except LookupError as error:
        print(error)
print({type(ctx.mglo).__name__ for ctx in made}, moderngl_window.ContextRefs.CONTEXT)
print(list(mine.fbo.read(components=3)[:3]), mine.error)
""",
        output,
    )
    assert said.splitlines() == [
        "no such thing",
        "not even begun",
        "all was drawn",
        "{'InvalidObject'} None",
        "[0, 0, 255] GL_NO_ERROR",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [output]
    assert (tmp_path / output).read_bytes() == b"older"


def test_one_window_comes_after_another(run: Run, tmp_path: Path) -> None:
    run("""
for number in range(5):
    window.run(Half, output.with_name(f"{number}.png"))
""")
    for number in range(5):
        assert pixels(tmp_path / f"{number}.png", (5, 42), (58, 5)) == [RED, GROUND]


def test_a_config_that_closes_its_window_ends_it(run: Run, tmp_path: Path) -> None:
    said = run("""
class Brief(Half):
    def on_render(self, time, frame_time):
        super().on_render(time, frame_time)
        if self.wnd.frames == 3:
            self.wnd.close()
window.run(Brief, output.with_name("film.mp4"), frames=9)
try:
    window.run(Brief, output, frames=9)
except RuntimeError as error:
    print(error)
""")
    assert said == "Brief closed its window before frame 9\n"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))[0] == 3


def test_the_context_that_a_config_makes_is_taken(run: Run) -> None:
    assert run("""
made = []
class Own(Half):
    @classmethod
    def init_mgl_context(cls):
        made.append(moderngl_colab.get_gpu_context(strategies=["glx"]))
        return made[0]
print(window.run(Own, output).strategy, type(made[0].mglo).__name__)
try:
    window.run(Own, output)
except RuntimeError as error:
    print(error)
""") == ("glx InvalidObject\nthe context that Own gives was released\n")


def test_a_context_that_was_there_before_is_taken_and_stays_as_it_was(
    run: Run, tmp_path: Path
) -> None:
    said = run("""
raw = moderngl.create_context(standalone=True, backend="egl")
mine = moderngl_colab.get_gpu_context()
by_glx = moderngl_colab.get_gpu_context(strategies=["glx"])
for name, ctx in {"raw": raw, "mine": mine, "glx": by_glx}.items():
    with ctx:
        before = ctx.simple_framebuffer((4, 4))
        before.use()
        ctx.clear(0.0, 0.0, 1.0)
    class Own(Half):
        @classmethod
        def init_mgl_context(cls):
            return ctx
    for _ in range(2):
        info = window.run(Own, output.with_name(f"{name}.png"), args=["--samples", "4"])
    class Failing(Own):
        def on_render(self, time, frame_time):
            raise LookupError
    try:
        window.run(Failing, output)
    except LookupError:
        pass
    with ctx:
        print(name, info.strategy, ctx.fbo is before, ctx.screen, list(before.read()[:3]))
        ctx.clear(0.0, 1.0, 0.0)
        print(list(before.read()[:3]), ctx.error)
class ByHand(Half):
    @classmethod
    def init_mgl_context(cls):
        return mine.__enter__()
window.run(ByHand, output)
print(type(mine.mglo).__name__)
""")
    assert said.splitlines() == [
        "raw None True None [0, 0, 255]",
        "[0, 255, 0] GL_NO_ERROR",
        "mine egl True None [0, 0, 255]",
        "[0, 255, 0] GL_NO_ERROR",
        "glx glx True None [0, 0, 255]",
        "[0, 255, 0] GL_NO_ERROR",
        "Context",
    ]
    for name in ("raw", "mine", "glx"):
        assert pixels(tmp_path / f"{name}.png", (5, 42), (58, 5)) == [RED, GROUND]


def test_one_threads_call_comes_after_anothers(run: Run, tmp_path: Path) -> None:
    said = run("""
import os, threading, time
import moderngl_window
class Slow(Half):
    def on_render(self, time_, frame_time):
        print(threading.current_thread().name, moderngl_window.window() is self.wnd)
        if threading.current_thread().name == "first" and self.wnd.frames == 0:
            threads[1].start()
            time.sleep(0.3)
        super().on_render(time_, frame_time)
threads = [
    threading.Thread(
        target=window.run, args=(Slow, output.with_name(f"{name}.png")),
        kwargs={"frames": 2}, name=name)
    for name in ("first", "second")
]
threads[0].start()
threads[0].join()
threads[1].join()
print(moderngl_window.ContextRefs.WINDOW, moderngl_window.ContextRefs.CONTEXT)
""")
    assert said.splitlines() == ["first True"] * 2 + ["second True"] * 2 + ["None None"]
    for name in ("first", "second"):
        assert pixels(tmp_path / f"{name}.png", (5, 42), (58, 5)) == [RED, GROUND]


def test_the_warning_names_the_line_that_called_run(python: Python, tmp_path: Path) -> None:
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", moderngl_colab.SoftwareRenderingWarning)
    window.run(Half, output)
print([(one.category.__name__, Path(one.filename).name) for one in caught])
"""
    arguments = (CONFIG + code, str(tmp_path / "picture.png"))
    done = python("no-nvidia", *arguments, options=OPTIONS)
    assert done.stdout == "[('SoftwareRenderingWarning', '<string>')]\n"


def test_any_name_is_a_films(run: Run, tmp_path: Path) -> None:
    run("""
import os
from fractions import Fraction
import numpy
os.chdir(output.parent)
os.symlink("old.mp4", "link.mp4")
for name in ("12:30.mp4", "-x.mp4", "%d.MP4", "link.mp4", "x" * 251 + ".mp4", "é" * 125 + ".mp4"):
    window.run(Half, name, frames=numpy.int64(3), fps=Fraction(30000, 1001))
window.run(Half, "a.PNG", fps=1e6)
""")
    films = {"12:30.mp4", "-x.mp4", "%d.MP4", "link.mp4", "old.mp4"}
    films |= {"x" * 251 + ".mp4", "é" * 125 + ".mp4"}
    assert {path.name for path in tmp_path.iterdir()} == films | {"a.PNG"}
    assert (tmp_path / "link.mp4").is_symlink()
    assert pixels(tmp_path / "a.PNG", (5, 42)) == [RED]
    for name in films:
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / name))
        assert (frames, seconds) == (3, pytest.approx(0.1, abs=0.01))


def test_what_is_not_yet_whole_is_named_after_what_it_will_be(run: Run, tmp_path: Path) -> None:
    said = run("""
import os
os.chdir(output.parent)
class Looking(Half):
    def on_render(self, time, frame_time):
        print(*os.listdir())
for name in ("film.mp4", "é" * 125 + ".mp4"):
    window.run(Looking, name, frames=1)
    os.remove(name)
""")
    short, long = said.splitlines()
    assert re.fullmatch(r"\.film\.mp4-[0-9a-f]{16}", short), short
    assert re.fullmatch(r"\.é{118}-[0-9a-f]{16}", long), long
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("old.png", r"\[Errno 28\] No space left on device: 'old\.png'"),
        # Versions of ffmpeg have other numbers, and say more or less of the reason.
        ("old.mp4", r"old\.mp4: ffmpeg ended with \d+: Could not write header .+"),
    ],
)
def test_a_full_disk_is_an_error_that_names_the_file(
    python: Python, tmp_path: Path, output: str, error: str
) -> None:
    code = f"""{CONFIG}
try:
    window.run(Half, output, args=["--size", "640x480"])
except OSError as error:
    print(error, file=sys.stderr)
"""
    done = full_disk(python, tmp_path, output, "-c", code)
    assert (done.returncode, done.stdout) == (0, f"older\n{output}\n")
    assert re.fullmatch(rf"{error}\n", done.stderr), done.stderr


REFUSED = [
    ("window.run(Half, 'a.jpg')", "ValueError: output='a.jpg' is neither a .png nor an .mp4"),
    (
        "window.run(Half, '/nowhere/a.png')",
        "ValueError: output='/nowhere/a.png' is no name for a file in a folder that is there",
    ),
    ("window.run(Half, output, frames=0)", "ValueError: frames=0 is no number from 1 on"),
    ("window.run(Half, output, frames=True)", "ValueError: frames=True is no number from 1 on"),
    ("window.run(Half, output, frames=1.5)", "ValueError: frames=1.5 is no number from 1 on"),
    ("window.run(Half, output, fps=0)", "ValueError: fps=0 is no number from 0.001 to 1000000"),
    (
        "window.run(Half, output, fps=1e-5)",
        "ValueError: fps=1e-05 is no number from 0.001 to 1000000",
    ),
    (
        "window.run(Half, output, fps=1e12)",
        "ValueError: fps=1000000000000.0 is no number from 0.001 to 1000000",
    ),
    (
        "window.run(Half, '/proc/a.png')",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/a.png'",
    ),
    (
        "window.run(Half, 'x' * 252 + '.png')",
        f"OSError: [Errno 36] File name too long: '{'x' * 252}.png'",
    ),
    (
        "window.run(Half, output, args=['--size', '17000x100'])",
        "ValueError: a window has 1x1 to 16384x16384 pixels here, not 17000x100",
    ),
    (
        "window.run(Half, output, args=['--size', '0x100'])",
        "ValueError: a window has 1x1 to 16384x16384 pixels here, not 0x100",
    ),
    (
        "window.run(Half, output, args=['--samples', '3'])",
        "ValueError: samples=3 is neither 0 nor a power of two",
    ),
    (
        "window.run(Half, output, args=['--samples', '-1'])",
        "ValueError: samples=-1 is neither 0 nor a power of two",
    ),
    (
        "Half.window_size = 63, 48; window.run(Half, output.with_suffix('.mp4'))",
        "ValueError: an MP4 has even numbers of pixels, not 63x48",
    ),
    (
        "Half.window_size = '640x480'; window.run(Half, output)",
        "ValueError: window_size='640x480' is no width and height",
    ),
    (
        "Half.window_size = 64, None; window.run(Half, output)",
        "ValueError: window_size=(64, None) is no width and height",
    ),
    (
        "Half.window_size = 64, 48; window.run(Half, output, args=['--size_mult', 'inf'])",
        "ValueError: window_size=(64, 48), times inf, is no width and height",
    ),
    (
        "Half.gl_version = 9, 9; window.run(Half, output)",
        "GPUContextError: no OpenGL 9.9 context could be made:",
    ),
    (
        "Half.init_mgl_context = lambda: 7; window.run(Half, output)",
        "RuntimeError: Half.init_mgl_context() gives no moderngl.Context, but 7",
    ),
]


def test_what_is_impossible_is_said_in_a_line(run: Run, tmp_path: Path) -> None:
    calls = "\n".join(
        f"""
try:
    {call}
except Exception as error:
    print(type(error).__name__, str(error).partition(chr(10))[0], sep=": ")
"""
        for call, _ in REFUSED
    )
    assert run(calls).splitlines() == [text for _, text in REFUSED]
    assert not list(tmp_path.iterdir())


def test_ffmpegs_own_first_word_is_the_error(run: Run, tmp_path: Path) -> None:
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\necho no space left >&2\necho nothing was written >&2\nexit 3\n")
    tool.chmod(0o755)
    said = run(
        """
Half.window_size = 1280, 720
try:
    window.run(Half, output, frames=3)
except OSError as error:
    print(error)
""",
        "film.mp4",
        IMAGEIO_FFMPEG_EXE=str(tool),
    )
    assert said == f"{tmp_path}/film.mp4: ffmpeg ended with 3: no space left\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


ABSENT = """
import sys
sys.modules["{module}"] = None  # as Python's import system has it for what is not there
try:
    {use}
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (
            "moderngl_window",
            'moderngl_colab.window needs moderngl_window: pip install "moderngl_colab[window]"',
        ),
        ("imageio_ffmpeg", 'a film needs imageio_ffmpeg: pip install "moderngl_colab[window]"'),
    ],
)
def test_what_is_absent_is_named_with_the_extra(
    module: str, text: str, python: Python, tmp_path: Path
) -> None:
    if module == "moderngl_window":
        code = ABSENT.format(module=module, use="import moderngl_colab.window")
    else:
        use = "window.run(Half, output)"
        code = CONFIG + ABSENT.format(module=module, use=use)
    arguments = (code, str(tmp_path / "film.mp4"))
    assert python("colab", *arguments, options=OPTIONS).stdout == f"{text}\n"


def test_nothing_of_it_is_imported_before_it_is_asked_for(python: Python) -> None:
    code = """
import sys, moderngl_colab
moderngl_colab.get_gpu_context()
foreign = ("moderngl_window", "PIL", "numpy", "imageio_ffmpeg", "pyglet")
print([name for name in foreign if name in sys.modules])
"""
    assert python("colab", code).stdout == "[]\n"
