"""What the tests need of a machine, and processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import moderngl_colab
from gpu import results
from gpu.recorder import Recorder, absent
from moderngl_colab import _driver, _glvnd, _loader, _nvml, survey
from moderngl_colab.machine import Machine

PROGRAMS = Path(__file__).parent / "programs.py"
HOME = Path(moderngl_colab.__file__).parent.parent
CHOICES = (
    _glvnd.FILENAMES_VARIABLE, _glvnd.DIRECTORIES_VARIABLE, _glvnd.GLX_VARIABLE,
    _glvnd.FORCED_GLX_VARIABLE, "DISPLAY",
)  # fmt: skip
"""What would keep a process from the way that is to be tested."""

_TIMEOUT = 120  # seconds

_ABSENT = pytest.StashKey[str | None]()
_UNASKED = ""

Program = Callable[..., Any]
Measured = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu-results",
        metavar="FOLDER",
        type=Path,
        default=Path("gpu-results"),
        help="where the JSON of tests/gpu goes; default: gpu-results",
    )
    parser.addoption(
        "--gpu-quick",
        action="store_true",
        help="less of everything, to try tests/gpu itself; its JSON is no result",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Only where this suite is what was asked for is the option known.
    folder = config.getoption("gpu_results", default=None)
    if folder is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(folder, config.getoption("gpu_quick")))


# ---- the machine -------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Function) -> None:
    """Keep what the test claims; skip it where there is nothing to claim."""
    item.user_properties.append(("claim", " ".join((item.function.__doc__ or "").split())))
    if (why := item.config.stash.get(_ABSENT, _UNASKED)) is _UNASKED:
        why = item.config.stash[_ABSENT] = absent(survey.look(), _nvml.ask(_driver.find().nvml))
    if why is not None:
        pytest.skip(why)


@pytest.fixture(scope="session")
def nvml() -> _nvml.Answer:
    """What NVML says."""
    return _nvml.ask(_driver.find().nvml)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The machine, as it is seen by looking."""
    return survey.look()


@pytest.fixture(scope="session")
def egl(machine: Machine) -> None:
    """The EGL half of the driver, and libglvnd's."""
    _need(machine, "EGL", "libEGL.so.1")


@pytest.fixture(scope="session")
def glx(machine: Machine) -> None:
    """The GLX half of the driver, and libglvnd's; a server for it."""
    _need(machine, "GLX", "libGL.so.1")
    if machine.xvfb is None:
        pytest.skip("Xvfb is not on PATH")


def _need(machine: Machine, half: str, library: str) -> None:
    if half not in machine.userland.libraries:
        pytest.skip(f"lib{half}_nvidia.so.0 is not on this machine")
    if _loader.where(library) is None:
        pytest.skip(f"the loader does not find {library}")


@pytest.fixture(scope="session")
def mesa(egl: None) -> str:
    """The ICD of Mesa's EGL."""
    found = next((icd.path for icd in _glvnd.icds(environ={}) if icd.is_mesa), None)
    if found is None:
        pytest.skip("Mesa's EGL is not installed: libglvnd has no ICD of it")
    return found


# ---- what a test does --------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run an action of programs.py in a process of its own, and give its answer.

    What is given as `env` is set, or unset where it is None.
    """

    def run(
        action: str,
        *arguments: object,
        env: dict[str, str | None] | None = None,
        timeout: float = _TIMEOUT,
    ) -> Any:
        done = start([str(PROGRAMS), action, json.dumps(arguments)], tmp_path, env, timeout)
        if done.returncode != 0:
            pytest.fail(
                f"{action} ended with status {done.returncode}: {said(done)}", pytrace=False
            )
        return json.loads(done.stdout.splitlines()[-1])

    return run


def start(
    arguments: list[str],
    folder: Path,
    env: dict[str, str | None] | None = None,
    timeout: float = _TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run this Python with arguments, until its end.

    Arguments:
        arguments: of the interpreter.
        folder: takes the one file that this library may write.
        env: what is set in its environment, or unset where it is None.
        timeout: in seconds.
    """
    environ: dict[str, str | None] = {**os.environ, **dict.fromkeys(CHOICES)}
    # The library that is tested here is the one there, too; -P keeps the current folder out.
    path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    environ |= {"PYTHONPATH": path, "XDG_CACHE_HOME": str(folder)} | (env or {})
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", *arguments],
        env={name: value for name, value in environ.items() if value is not None},
        capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a process that failed said of it: the exception, or its last line."""
    lines = done.stderr.strip().splitlines() or ["nothing"]
    errors = [number for number, line in enumerate(lines) if line[:1].strip() and "Error" in line]
    return " ".join(line.strip() for line in lines[errors[-1] if errors else -1 :])


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    """Whether this suite itself is what is tried."""
    return bool(pytestconfig.getoption("gpu_quick", default=False))


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Keep a figure with its unit, or what was seen."""

    def keep(name: str, value: float | str | bool | None, unit: str | None = None) -> None:
        record_property("figure", results.Figure(name, value, unit)._asdict())

    return keep
