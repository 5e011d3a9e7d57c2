"""Importing has no effect on the process."""

from __future__ import annotations

import json
from typing import Any

import pytest

import moderngl_colab

CODE = """
import os, random, signal, sys, threading, warnings
from pathlib import Path

def state():
    return [dict(os.environ), os.getcwd(), list(warnings.filters), random.getstate(),
            [str(signal.getsignal(n)) for n in signal.valid_signals()],
            sorted(os.listdir("/proc/self/fd")), threading.active_count(),
            Path(f"/proc/self/task/{os.getpid()}/children").read_text()]

before = state()
STATEMENT
unchanged = state() == before
maps = Path("/proc/self/maps").read_text()
libraries = {line.rsplit("/", 1)[-1] for line in maps.splitlines() if "/" in line}
graphics = sorted(l for l in libraries if l.startswith(("libGL", "libEGL", "libX11", "libnvidia")))
sometimes = ["moderngl", "glcontext", "pynvml", "xvfbwrapper", "subprocess", "ctypes", "json"]
loaded = [m for m in sometimes if m in sys.modules]
import json
print(json.dumps([unchanged, graphics, loaded]))
"""


def look(python: Any, statement: str) -> Any:
    return json.loads(python("colab", CODE.replace("STATEMENT", statement)).stdout)


def test_importing_loads_no_library_and_changes_nothing(python: Any) -> None:
    assert look(python, "import moderngl_colab") == [True, [], []]


def test_importing_every_name_loads_no_graphics_library_and_starts_nothing(python: Any) -> None:
    unchanged, graphics, loaded = look(python, "from moderngl_colab import *")

    assert unchanged is True
    assert graphics == []
    assert not {"xvfbwrapper", "pynvml", "subprocess"} & set(loaded)


def test_every_public_name_is_there_and_listed() -> None:
    for name in moderngl_colab.__all__:
        assert getattr(moderngl_colab, name).__name__.rpartition(".")[2] == name
        assert name in dir(moderngl_colab)
    assert moderngl_colab.strategies.DEFAULT_STRATEGIES
    with pytest.raises(AttributeError, match="'moderngl_colab' has no attribute 'get_cpu_context'"):
        moderngl_colab.get_cpu_context  # type: ignore[attr-defined]  # noqa: B018
