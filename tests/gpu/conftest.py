"""What the tests need of a machine, and processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import moderngl_colab
from gpu import results
from gpu.patience import PATIENCE
from gpu.recorder import Recorder, absent
from moderngl_colab import _driver, _glvnd, _nvml, survey
from moderngl_colab._places import DIRECTORY_VARIABLE
from moderngl_colab.machine import Machine

PROGRAMS = Path(__file__).parent / "programs.py"
HOME = Path(moderngl_colab.__file__).parent.parent
NEEDED = ("moderngl", "glcontext", "xvfbwrapper", "pynvml")
PACKAGES = "moderngl glcontext xvfbwrapper nvidia-ml-py"

CHOICES = (
    "MODERNGL_COLAB_", "GLCONTEXT_", "__EGL_", "__GLX_", "__GL_", "__NV_", "EGL_", "MESA_",
    "GALLIUM_", "LIBGL_ALWAYS_", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
)  # fmt: skip
"""How the variables begin that would lead a process away from what is to be tested."""
_PLACES = frozenset({DIRECTORY_VARIABLE})
"""Those which only say where something is."""

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
    parser.addoption(
        "--gpu-limit",
        metavar="SECONDS",
        type=float,
        help="how long all of it may take; what is left then is skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Only where this suite is what was asked for is the option known.
    folder = config.getoption("gpu_results", default=None)
    if folder is None:
        return
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise pytest.UsageError(f"tests/gpu needs {', '.join(missing)}: pip install {PACKAGES}")
    if (limit := config.getoption("gpu_limit")) is not None:
        PATIENCE.limit(limit)
    # Who is asked to end ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(folder, config.getoption("gpu_quick")))


# ---- the machine -------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Function) -> None:
    """Keep what the test claims; skip it where there is nothing to claim."""
    item.user_properties.append(("claim", " ".join((item.function.__doc__ or "").split())))
    if (why := item.config.stash.get(_ABSENT, _UNASKED)) is _UNASKED:
        why = item.config.stash[_ABSENT] = absent(survey.look(), _nvml.ask(_driver.find().nvml))
    why = why or PATIENCE.lost()
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
def version(machine: Machine, nvml: _nvml.Answer) -> str:
    """The driver's version: the kernel module's, or, where a sandbox hides that one, NVML's."""
    told = nvml.driver if machine.module is None else machine.module.version
    if told is None:
        pytest.skip(f"neither the kernel module nor NVML tells the driver's version: {nvml}")
    return told


@pytest.fixture(scope="session")
def egl(machine: Machine, program: Program) -> None:
    """The EGL half of the driver, and libglvnd's."""
    _need(machine, "EGL")
    _need_opened(program, "libEGL.so.1")


@pytest.fixture(scope="session")
def glx(machine: Machine, program: Program) -> None:
    """The GLX half of the driver with what it needs, and libglvnd's; a server for it."""
    _need(machine, "GLX")
    _need_opened(program, "libGL.so.1", "libX11.so.6", "libXext.so.6")
    if machine.xvfb is None:
        pytest.skip("Xvfb is not on PATH")


@pytest.fixture(scope="session")
def raw(egl: None, program: Program) -> None:
    """What moderngl needs beside libEGL for a context of its own."""
    _need_opened(program, "libGL.so.1")


@pytest.fixture(scope="session")
def mesa(raw: None, program: Program) -> str:
    """The ICD of Mesa's EGL."""
    found = next((icd.path for icd in _glvnd.icds(environ={}) if icd.is_mesa), None)
    if found is None:
        pytest.skip("Mesa's EGL is not installed: libglvnd has no ICD of it")
    _need_opened(program, "libEGL_mesa.so.0")
    return found


def _need(machine: Machine, half: str) -> None:
    if half not in machine.userland.libraries:
        pytest.skip(f"lib{half}_nvidia.so.0 is not on this machine")


def _need_opened(program: Program, *libraries: str) -> None:
    for name, error in program("unopened", *libraries).items():
        pytest.skip(f"{name} cannot be opened: {error}")


# ---- what a test does --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Run an action of programs.py in a process of its own, and give its answer.

    What is given as `env` is set, or unset where it is None.
    """

    def run(
        action: str,
        *arguments: object,
        env: dict[str, str | None] | None = None,
        timeout: float = _TIMEOUT,
    ) -> Any:
        folder = tmp_path_factory.mktemp("program")
        done = start([str(PROGRAMS), action, json.dumps(arguments)], folder, env, timeout)
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
    kept = {n: v for n, v in os.environ.items() if n in _PLACES or not n.startswith(CHOICES)}
    # The library that is tested here is the one there, too; -P keeps the current folder out.
    path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    environ = {**kept, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder)} | (env or {})
    given = {name: value for name, value in environ.items() if value is not None}
    return PATIENCE.run([sys.executable, "-P", "-W", "error", *arguments], given, timeout)


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
