"""NVIDIA's GLX over a private Xvfb."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu.conftest import Measured, Program
from moderngl_colab.machine import Machine

pytestmark = pytest.mark.usefixtures("glx")


def test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else(
    program: Program, measured: Measured, machine: Machine
) -> None:
    """NVIDIA's GLX serves over a private Xvfb, which asks for a cookie and listens neither on an
    abstract socket nor by TCP.
    """
    seen = program("glx")

    assert (seen["strategy"], seen["pixel"]) == ("glx", "right")
    assert "NVIDIA" in seen["vendor"]
    assert machine.module is not None
    assert Path(seen["library"]).name == f"libGLX_nvidia.so.{machine.module.version}"
    doors = {name: seen[name] for name in ("file", "abstract", "tcp")}
    closed = "nobody listens: Connection refused"
    assert doors == {"file": "refused", "abstract": closed, "tcp": closed}
    measured("first context, Xvfb's start included", seen["seconds"], "s")
    measured("renderer", seen["renderer"])
