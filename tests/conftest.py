"""Running programs in simulated machines, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rig import machines

PROGRAMS = Path(__file__).parent / "programs"

# For programs that a test runs: what a context draws, read back.
DRAWN = """
def drawn(ctx, colour):
    "Draw a triangle over everything, and read a pixel of it: three bytes."
    program = ctx.program(
        vertex_shader="#version 330\\nvoid main() { gl_Position = vec4("
        "vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID], 0, 1); }",
        fragment_shader="#version 330\\nuniform vec3 colour; out vec4 result;"
        "void main() { result = vec4(colour, 1); }",
    )
    program["colour"].value = colour
    framebuffer = ctx.simple_framebuffer((64, 64))
    framebuffer.use()
    framebuffer.clear()
    ctx.vertex_array(program, []).render(vertices=3)
    return framebuffer.read(components=3)[300:303]
"""

# For programs that a test runs: a context of Mesa's GLX, which serves by itself only where there is
# no libEGL.
MESA_GLX = """
import moderngl_colab
from moderngl_colab.strategies.glx import over_xvfb

class MesaGLX:
    name, vendor = "mesa-glx", "Mesa"

    def create(self, request):
        return over_xvfb("mesa", request.version, request.until)

def mesa_glx(**options):
    return moderngl_colab.get_gpu_context(strategies=[MesaGLX()], **options)
"""

# The variables as C has them, in their order.
ENVIRONMENT = """
def environment():
    import ctypes

    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found = []
    while environ[len(found)] is not None:
        found.append(environ[len(found)])
    return found
"""

# A machine for each way to a context, and its strategy.
EVERYWHERE = {
    "colab": "egl",
    "glx-only": "glx",
    "no-nvidia": "mesa",
    "no-libegl-no-nvidia": "mesa",
}

# Remedies fit the platform; this one is told by a variable, whatever machine the tests run on.
PLATFORM = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-reports",
        action="store_true",
        help="write the doctor's reports down as they are now; read the difference first",
    )


@pytest.fixture(scope="session")
def python() -> Callable[..., machines.Finished]:
    """Run Python code, or a program of tests/programs, in a simulated machine.

    It gives the finished process, without `check` also one that failed. The tests that need a
    machine are skipped where none can be made; in CI they fail instead: there, one can.
    """
    if (why := machines.available()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)

    def run(
        machine: str | machines.Machine,
        code: str | Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        uid: int | None = None,
        groups: Sequence[int] = (),
        timeout: float = 60,
        check: bool = True,
    ) -> machines.Finished:
        what = machines.MACHINES[machine] if isinstance(machine, str) else machine
        program = [str(code)] if isinstance(code, Path) else ["-c", code]
        result = machines.run(
            what,
            [sys.executable, "-P", "-W", "error", *options, *program, *arguments],
            env=PLATFORM | dict(env or {}),
            timeout=timeout,
            uid=uid,
            groups=groups,
        )
        said = without_noise(result.stderr)
        if check and (result.returncode != 0 or said or result.survivors):
            pytest.fail(
                f"status {result.returncode}, left {result.survivors}\n"
                f"{result.stdout}\n{result.stderr}"
            )
        return result

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the PATH that other users may enter, too."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    return tmp_path


def path_with_xvfb(folder: Path, text: str) -> dict[str, str]:
    """A PATH whose Xvfb is a shell script."""
    path = folder / "Xvfb"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def without_noise(errors: str) -> str:
    """What a program wrote to stderr, without what Mesa 24 and later say of every Xvfb.

    They try zink first, which finds no Vulkan to its liking, and then do what they are asked.
    """
    noise = (
        "MESA: error: ZINK: ",
        "glx: failed to create drisw screen",
        "error: XDG_RUNTIME_DIR is invalid",
    )
    return "".join(line for line in errors.splitlines(True) if not line.startswith(noise))


@pytest.fixture(scope="session")
def mesa(chain: Callable[..., dict[str, Any]]) -> str:
    """What this machine's Mesa calls itself in GL_VENDOR."""
    return str(chain("no-nvidia")["vendor"])


@pytest.fixture(scope="session")
def chain(python: Callable[..., machines.Finished]) -> Callable[..., dict[str, Any]]:
    """Call get_gpu_context() in a simulated machine, as programs/chain.py does it."""

    def call(
        machine: str | machines.Machine,
        state: str = "clean",
        *,
        again: int = 0,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        uid: int | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        job = json.dumps({"state": state, "call": arguments, "again": again})
        result = python(machine, PROGRAMS / "chain.py", job, env=env, options=options, uid=uid)
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    return call
