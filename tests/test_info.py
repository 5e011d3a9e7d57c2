"""describe(): what a context runs on, ours and others'."""

from __future__ import annotations

import json
from typing import Any

import pytest

import moderngl_colab
from moderngl_colab._handle import WRONG_THREAD

PRELUDE = """
import gc, json, warnings, weakref, moderngl, moderngl_colab
warnings.simplefilter("ignore")
"""


def run(python: Any, machine: str, code: str) -> Any:
    return json.loads(python(machine, PRELUDE + code).stdout)


def test_our_context_is_described_with_all_attempts(python: Any) -> None:
    code = """
info = moderngl_colab.describe(moderngl_colab.get_gpu_context())
print(json.dumps([info.strategy, info.vendor, info.renderer, info.version, info.software,
                  info.egl_device, [a.strategy for a in info.attempts],
                  info.seconds > sum(a.seconds for a in info.attempts) > 0]))
"""
    *what, attempts, adds_up = run(python, "colab", code)

    assert what == [
        "egl",
        "NVIDIA Corporation",
        "NVIDIA Stand-in GPU 0/PCIe/SSE2",
        "3.3.0 NVIDIA 550.54.15",
        False,
        0,
    ]
    assert attempts == ["egl", "glx", "mesa"]
    assert adds_up is True


@pytest.mark.parametrize("current", [True, False])
def test_a_context_of_others_is_described_current_or_not(
    python: Any, mesa: str, current: bool
) -> None:
    code = f"""
raw = moderngl.create_context(standalone=True, backend="egl")
ours = moderngl_colab.get_gpu_context()
if {current}:
    ours.__exit__(None, None, None)
    raw.mglo.__enter__()
info = moderngl_colab.describe(raw)
framebuffer = ({"raw" if current else "ours"}).simple_framebuffer((2, 2))
framebuffer.clear(1, 0, 0)
print(json.dumps([info.strategy, info.vendor, info.software, info.egl_device, info.attempts,
                  info.seconds, framebuffer.read()[0]]))
"""
    assert run(python, "colab", code) == [None, mesa, True, None, [], None, 255]


def test_a_raw_glx_context_is_described_while_an_egl_one_is_current(python: Any) -> None:
    code = """
from moderngl_colab import _display
with _display.shared():
    raw = moderngl.create_context(standalone=True)
ours = moderngl_colab.get_gpu_context()
info = moderngl_colab.describe(raw)
framebuffer = ours.simple_framebuffer((2, 2))
framebuffer.clear(1, 0, 0)
print(json.dumps([info.vendor, info.software, framebuffer.read()[0]]))
"""
    vendor, software, red = run(python, "colab", code)

    assert vendor.startswith("Mesa")
    assert (software, red) == (True, 255)


def test_a_context_that_is_current_in_another_thread_is_not_guessed_at(python: Any) -> None:
    code = """
import threading
raw = moderngl.create_context(standalone=True, backend="egl")
seen = []

def work():
    try:
        seen.append(moderngl_colab.describe(raw).vendor)
    except RuntimeError as error:
        seen.append(str(error))

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps([*seen, moderngl_colab.describe(raw).software]))
"""
    assert run(python, "no-nvidia", code) == [
        WRONG_THREAD,
        True,
    ]


def test_describing_keeps_no_context_alive(python: Any) -> None:
    code = """
ctx = moderngl_colab.get_gpu_context()
moderngl_colab.describe(ctx)
ctx.release()
reference = weakref.ref(ctx)
del ctx
gc.collect()
print(json.dumps(reference() is None))
"""
    assert run(python, "colab", code) is True


def test_a_context_that_was_released_undescribed_is_an_error(python: Any) -> None:
    code = """
raw = moderngl.create_context(standalone=True, backend="egl")
raw.release()
try:
    moderngl_colab.describe(raw)
except ValueError as error:
    print(json.dumps(str(error)))
"""
    assert run(python, "no-nvidia", code) == "this context was released before it was described"


def test_something_else_is_no_context() -> None:
    with pytest.raises(TypeError, match=r"describe\(\) takes a moderngl.Context, not str"):
        moderngl_colab.describe("ctx")  # type: ignore[arg-type]
