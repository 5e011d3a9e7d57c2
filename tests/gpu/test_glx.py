"""NVIDIA's GLX over a private Xvfb."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu.conftest import Measured, Program

pytestmark = pytest.mark.usefixtures("glx")


def test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else(
    program: Program, measured: Measured, version: str
) -> None:
    """NVIDIA's GLX serves over a private Xvfb, which asks for a cookie and listens neither on an
    abstract socket nor by TCP.
    """
    seen = program("glx")

    assert (seen["strategy"], seen["pixel"]) == ("glx", "right")
    assert "NVIDIA" in seen["vendor"]
    assert Path(seen["library"]).name == f"libGLX_nvidia.so.{version}"
    doors = {name: seen[name] for name in ("file", "abstract", "tcp")}
    nobody = "nobody listens"
    assert doors == {"file": "refused", "abstract": nobody, "tcp": nobody}
    measured("first context, Xvfb's start included", seen["seconds"], "s")
    measured("renderer", seen["renderer"])
