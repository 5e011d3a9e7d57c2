"""Each example runs as it is, helps, and saves a picture that shows what it should."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_first_triangle_is_drawn_and_says_what_drew_it(python: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    picture = tmp_path / "triangle.png"

    result = python("colab-no-path", EXAMPLES / "first_triangle.py", "--output", str(picture))

    assert result.stdout.splitlines() == [
        "strategy  egl",
        "vendor    NVIDIA Corporation",
        "renderer  NVIDIA Stand-in GPU 0/PCIe/SSE2",
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


def test_every_example_has_a_help_and_a_test(python: Any) -> None:
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))

    assert names == ["dataloader.py", "first_triangle.py", "render_farm.py"]
    for name in names:
        if name != "dataloader.py" or find_spec("torch"):
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
