"""Contexts of both window systems in one thread: current, unbound, released."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import MESA_GLX

from moderngl_colab import gl
from moderngl_colab._egl import EGLError, error_name

# On this machine the first makes contexts of NVIDIA's EGL, the second of Mesa's GLX over Xvfb.
PRELUDE = (
    MESA_GLX
    + """
import json, warnings, moderngl
warnings.simplefilter("ignore")
glx = mesa_glx

def egl():
    return moderngl_colab.get_gpu_context()

def pixel(ctx, red):
    framebuffer = ctx.simple_framebuffer((2, 2))
    framebuffer.clear(red, 0, 0)
    return framebuffer.read()[0]
"""
)


def run(python: Any, code: str) -> Any:
    return json.loads(python("colab", PRELUDE + code).stdout)


@pytest.mark.parametrize(
    ("renderer", "software"),
    [
        ("llvmpipe (LLVM 15.0.6, 256 bits)", True),
        ("softpipe", True),
        ("Software Rasterizer", True),
        ("SWR (LLVM 9.0.0, 256 bits)", True),
        ("D3D12 (NVIDIA GeForce RTX 4090)", False),
        ("NVIDIA H200/PCIe/SSE2", False),
        ("Mesa Intel(R) UHD Graphics 630 (CFL GT2)", False),
        ("AMD Radeon RX 6800 (radeonsi, navi21, LLVM 15.0.7, DRM 3.42)", False),
        ("zink Vulkan 1.3 (llvmpipe (LLVM 15.0.7, 256 bits) (LLVMPIPE))", True),
    ],
)
def test_software_is_told_by_the_renderer(renderer: str, software: bool) -> None:
    assert gl.is_software(renderer) is software


def test_egl_errors_bear_their_names() -> None:
    assert error_name(0x3001) == "EGL_NOT_INITIALIZED (0x3001)"
    assert error_name(0x300E) == "EGL_CONTEXT_LOST (0x300e)"
    assert error_name(0x1234) == "unknown error (0x1234)"
    assert str(EGLError("eglInitialize", 0x3003)) == "eglInitialize failed: EGL_BAD_ALLOC (0x3003)"


def test_versions_are_spelled_as_people_spell_them() -> None:
    assert [gl.spelled(version) for version in (330, 460)] == ["3.3", "4.6"]


@pytest.mark.parametrize("order", ["egl(), glx()", "glx(), egl()"])
def test_contexts_of_both_window_systems_alternate_by_with(python: Any, order: str) -> None:
    code = f"""
contexts = {order}
seen = []
for red in (1, 0.5, 0):
    for ctx in contexts:
        with ctx:
            seen.append(pixel(ctx, red))
print(json.dumps(seen))
"""
    assert run(python, code) == [255, 255, 128, 128, 0, 0]


@pytest.mark.parametrize("order", ["egl(), glx()", "glx(), egl()"])
@pytest.mark.parametrize("first_out", [0, 1])
def test_releasing_one_context_leaves_the_other_current(
    python: Any, order: str, first_out: int
) -> None:
    code = f"""
contexts = {order}
contexts[1].mglo.__enter__()
contexts[{first_out}].release()
with contexts[{1 - first_out}] as left:
    seen = [pixel(left, 1)]
if {first_out} == 0:
    seen.append(pixel(left, 0.5))  # still current: nobody else was
left.release()
print(json.dumps(seen))
"""
    assert run(python, code) == [255, 128][: 2 - first_out]


def test_with_blocks_nest_and_give_back_what_was_current(python: Any) -> None:
    code = """
outer, inner = egl(), glx()
seen = []
with outer:
    with inner:
        seen.append(pixel(inner, 1))
        with inner:
            seen.append(pixel(inner, 0.5))
        seen.append(pixel(inner, 0))
    seen.append(pixel(outer, 1))
seen.append(pixel(inner, 0.5))  # current before the blocks, current after them
print(json.dumps(seen))
"""
    assert run(python, code) == [255, 128, 0, 255, 128]


@pytest.mark.parametrize("kinds", ["glx(), glx()", "egl(), glx()", "glx(), egl()", "egl(), egl()"])
def test_what_was_current_before_a_with_block_may_be_released_inside_it(
    python: Any, kinds: str
) -> None:
    code = f"""
inner, outer = {kinds}
outer.mglo.__enter__()
with inner:
    outer.release()
    seen = [pixel(inner, 1)]
print(json.dumps([*seen, pixel(egl(), 0.5)]))
"""
    assert run(python, code) == [255, 128]


def test_a_context_is_released_once_however_often_it_is_asked_to(python: Any) -> None:
    code = """
first, second = egl(), glx()
for ctx in (first, second, first, second):
    ctx.release()
print(json.dumps(pixel(egl(), 1)))
"""
    assert run(python, code) == 255


def test_a_raw_glx_context_that_is_current_does_not_stop_egl(python: Any) -> None:
    code = """
from moderngl_colab import _display

with _display.shared():
    raw = moderngl.create_context(standalone=True)
ours = egl()
seen = [moderngl_colab.describe(ours).strategy, pixel(ours, 1)]
ours.release()
with raw:
    seen.append(pixel(raw, 0.5))
print(json.dumps(seen))
"""
    assert run(python, code) == ["egl", 255, 128]


def test_libgl_is_not_needed_for_direct_egl(python: Any) -> None:
    import dataclasses

    from rig import machines

    machine = dataclasses.replace(
        machines.MACHINES["colab-no-path"], removed=("{lib}/libGL.so*", "{lib}/libGLX.so*")
    )
    code = PRELUDE + "ctx = egl(); print(json.dumps([ctx.info['GL_VENDOR'], pixel(ctx, 1)]))"

    assert json.loads(python(machine, code).stdout) == ["NVIDIA Corporation", 255]
