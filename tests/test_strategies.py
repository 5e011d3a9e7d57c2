"""One contract for every strategy, each on a machine where it serves and on one where it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moderngl_colab.strategies import DEFAULT_STRATEGIES, DirectEGL, Mesa, NvidiaGLX, Strategy

SERVED = {"egl": "colab-no-path", "glx": "glx-only", "mesa": "no-nvidia"}
NOT_SERVED = {"egl": "compute-only", "glx": "no-xvfb", "mesa": "no-gl"}
REFUSED = {
    "egl": ("colab", {"STANDIN_FAULT": "context"}),
    "glx": ("glx-only", {"STANDIN_FAULT": "glx-badvalue"}),
}

PRELUDE = """
import json, os, moderngl
from moderngl_colab import Request, StrategyFailed, StrategyUnavailable, gl
from moderngl_colab.strategies import DEFAULT_STRATEGIES

strategy = next(s for s in DEFAULT_STRATEGIES if s.name == "{name}")
environment = dict(os.environ)

def files():
    return len(os.listdir("/proc/self/fd"))

def pixel(context, red):
    ctx = moderngl.create_context(standalone=True, context=context)
    framebuffer = ctx.simple_framebuffer((2, 2))
    framebuffer.clear(red, 0, 0)
    return framebuffer.read()[0]
"""


def run(python: Any, machine: str, name: str, code: str, **options: Any) -> Any:
    text = PRELUDE.replace("{name}", name) + code
    return json.loads(python(machine, text, **options).stdout)


def test_the_order_is_direct_egl_then_glx_then_mesa() -> None:
    assert [type(strategy) for strategy in DEFAULT_STRATEGIES] == [DirectEGL, NvidiaGLX, Mesa]
    assert [(s.name, s.vendor) for s in DEFAULT_STRATEGIES] == [
        ("egl", "NVIDIA"),
        ("glx", "NVIDIA"),
        ("mesa", None),
    ]


@pytest.mark.parametrize("strategy", DEFAULT_STRATEGIES, ids=lambda strategy: strategy.name)
def test_each_one_is_a_strategy(strategy: Strategy) -> None:
    assert isinstance(strategy, Strategy)


@pytest.mark.parametrize("name", SERVED)
def test_a_context_is_current_renders_and_is_of_the_version_asked_for(
    python: Any, name: str
) -> None:
    code = """
context = strategy.create(Request(430))
seen = gl.strings(context)
assert isinstance(context, gl.GLContext)
print(json.dumps([seen.vendor, seen.code, pixel(context, 1), environment == dict(os.environ)]))
"""
    vendor, version, red, same_environment = run(python, SERVED[name], name, code)

    assert ("NVIDIA" in vendor) == (name != "mesa")
    assert version >= 430
    assert red == 255
    assert same_environment is True


@pytest.mark.parametrize("name", SERVED)
def test_two_contexts_live_side_by_side_and_each_is_released_alone(python: Any, name: str) -> None:
    code = """
first = strategy.create(Request(330))
# The chain makes each one while nothing is current.
first.__exit__(None, None, None)
second = strategy.create(Request(330))
seen = [pixel(second, 1)]
with first:
    seen.append(pixel(first, 0.5))
first.release()
seen.append(pixel(second, 0))
second.release()
print(json.dumps(seen))
"""
    assert run(python, SERVED[name], name, code) == [255, 128, 0]


@pytest.mark.parametrize("name", SERVED)
def test_a_released_context_leaves_nothing_current_and_no_open_file(python: Any, name: str) -> None:
    code = """
from moderngl_colab import _current
strategy.create(Request(330)).release()
counts = []
for _ in range(5):
    context = strategy.create(Request(330))
    context.release()
    counts.append(files())
print(json.dumps([_current.current() is None, len(set(counts))]))
"""
    assert run(python, SERVED[name], name, code) == [True, 1]


@pytest.mark.parametrize("name", NOT_SERVED)
def test_what_is_absent_is_unavailable_with_a_reason_and_a_remedy(python: Any, name: str) -> None:
    code = """
before = files()
try:
    strategy.create(Request(330))
except StrategyUnavailable as error:
    print(json.dumps([bool(error.reason), bool(error.remedy), bool(error.cause),
                      environment == dict(os.environ), files() - before]))
"""
    assert run(python, NOT_SERVED[name], name, code) == [True, True, True, True, 0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_driver_refuses_has_failed_and_leaves_nothing(python: Any, name: str) -> None:
    machine, env = REFUSED[name]
    code = """
counts = []
for _ in range(3):
    try:
        strategy.create(Request(330))
    except StrategyFailed as error:
        counts.append(files())
print(json.dumps([environment == dict(os.environ), len(counts), len(set(counts))]))
"""
    assert run(python, machine, name, code, env=env) == [True, 3, 1]


@pytest.mark.parametrize("name", SERVED)
def test_a_version_that_does_not_exist_has_failed(python: Any, name: str) -> None:
    code = """
try:
    strategy.create(Request(990))
except StrategyFailed as error:
    print(json.dumps(error.reason))
"""
    assert "OpenGL 9.9: " in run(python, SERVED[name], name, code)
