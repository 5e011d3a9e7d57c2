"""What a whole run writes to file systems: a context, a drawing, describe(), a release, the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rig import machines, writes

Python = Callable[..., machines.Finished]

RUN = """
import warnings
import moderngl_colab
warnings.simplefilter("ignore", moderngl_colab.SoftwareRenderingWarning)
ctx = moderngl_colab.get_gpu_context()
framebuffer = ctx.simple_framebuffer((4, 4))
framebuffer.use()
ctx.vertex_array(ctx.program(
    vertex_shader="#version 330\\nvoid main() { gl_Position = vec4("
    "vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID], 0, 1); }",
    fragment_shader="#version 330\\nout vec4 result; void main() { result = vec4(1); }",
), []).render(vertices=3)
info = moderngl_colab.describe(ctx)
info.gpu, info.gpu_memory()
print(info.strategy, framebuffer.read()[0], flush=True)
ctx.release()
"""
# Xvfb's own, with N for the display: it makes its lock under one name and links it to the other,
# and has xkbcomp write its keymap, which it reads and removes. Who may not write to the folder of
# the system's keymaps has it in /tmp.
OF_XVFB = [
    "/tmp/.X11-unix/XN",
    "/tmp/.XN-lock",
    "/tmp/.tXN-lock",
    "/var/lib/xkb/server-N.xkm" if os.geteuid() == 0 else "/tmp/server-N.xkm",
]
WAYS = {
    "colab": ("egl 255\n", []),
    "package": ("egl 255\n", []),
    "no-nvidia": ("mesa 255\n", []),
    "glx-only": ("glx 255\n", OF_XVFB),
    "no-libegl-no-nvidia": ("mesa 255\n", OF_XVFB),
}


@pytest.fixture
def under_strace(python: Python, tmp_path: Path) -> Callable[..., tuple[str, set[str]]]:
    """Run Python code in a machine; what it printed, and the paths that were written to."""

    def run(machine: str, code: str, env: Mapping[str, str]) -> tuple[str, set[str]]:
        log = tmp_path / "log"
        command = writes.traced(log, [sys.executable, "-P", "-B", "-W", "error", "-c", code])
        start = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        done = python(machine, start, *command, env=env, timeout=120)
        return done.stdout, writes.written(log)

    return run


@pytest.mark.parametrize("machine", WAYS)
def test_a_run_writes_no_file_but_the_x_servers_own(
    under_strace: Callable[..., tuple[str, set[str]]], machine: str
) -> None:
    printed, paths = under_strace(machine, RUN, {"MESA_SHADER_CACHE_DISABLE": "true"})

    expected, own = WAYS[machine]
    assert printed == expected
    assert writes.numberless(paths) == own
    assert [path for path in paths if os.path.lexists(path) and path != "/tmp/.X11-unix"] == []


@pytest.mark.parametrize("machine", ["no-nvidia", "no-libegl-no-nvidia"])
def test_mesas_cache_of_shaders_is_the_only_other_thing_and_mesas_own(
    under_strace: Callable[..., tuple[str, set[str]]], tmp_path: Path, machine: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()

    printed, paths = under_strace(
        machine, RUN, {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    )

    expected, own = WAYS[machine]
    assert printed == expected
    mesas = {path for path in paths if path.startswith(f"{home}/cache/mesa_shader_cache")}
    # Mesa makes the folders on the way, too.
    assert writes.numberless(paths - mesas - {str(home / "cache")}) == own
    assert mesas


CALL = """
import sys, warnings
import moderngl_colab
warnings.simplefilter("ignore", moderngl_colab.SoftwareRenderingWarning)
try:
    ctx = moderngl_colab.get_gpu_context(strategies=sys.argv[1])
    print(moderngl_colab.describe(ctx).strategy)
except moderngl_colab.GPUContextError as error:
    print(error)
"""
# /tmp that nobody can write to, and, where the tests are root's, another user.
BARE = """
mount --bind /tmp /tmp
mount -o remount,bind,ro /tmp
unset HOME XDG_CACHE_HOME XDG_RUNTIME_DIR TMPDIR
exec $BECOME "$@"
"""
START = """
import os, sys
root = os.geteuid() == 0
os.environ["BECOME"] = "setpriv --reuid 65534 --regid 65534 --clear-groups" if root else ""
how = ["-m"] if root else ["-Urm"]
os.execvp("unshare", ["unshare", *how, "sh", "-c", *sys.argv[1:]])
"""


@pytest.fixture
def bare(python: Python) -> Callable[..., str]:
    """What :data:`CALL` prints where nothing can be written, to whom."""

    def run(machine: str, strategies: str) -> str:
        command = [sys.executable, "-P", "-W", "error", "-c", CALL, strategies]
        # Mesa says so on stderr where it cannot keep its cache.
        env = {"MESA_SHADER_CACHE_DISABLE": "true"}
        return python(machine, START, BARE, "sh", *command, env=env).stdout

    return run


@pytest.mark.parametrize("machine", ["colab", "package", "no-nvidia"])
def test_where_nothing_can_be_written_egl_serves(bare: Callable[..., str], machine: str) -> None:
    expected = "mesa" if machine == "no-nvidia" else "egl"

    assert bare(machine, "egl,mesa") == f"{expected}\n"


def test_where_nothing_can_be_written_glx_says_so_with_the_cure(bare: Callable[..., str]) -> None:
    assert bare("glx-only", "glx") == (
        "no OpenGL 3.3 context could be made:\n"
        "  1. glx: failed: Xvfb puts its socket and its lock into /tmp, and /tmp is read-only "
        "(EROFS)\n"
        "     fix: mount an emptyDir at /tmp\n"
        "  2. egl: skipped: not among the strategies asked for\n"
        "  3. mesa: skipped: not among the strategies asked for\n"
        "  more: python -m moderngl_colab"
        "\n"
    )
