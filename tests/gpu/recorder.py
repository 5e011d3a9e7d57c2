"""Whether there is something to test, and the JSON of what came out."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import moderngl_colab
from gpu import results
from moderngl_colab import _driver, _nvml, survey
from moderngl_colab.diagnostics import private
from moderngl_colab.findings.every import blocking, findings
from moderngl_colab.machine import Machine

__all__ = ["Recorder", "absent"]

_MOST_REASON = 300  # characters


def absent(machine: Machine, nvml: _nvml.Answer) -> str | None:
    """Why nothing of NVIDIA's drivers can be tested here; None if it can."""
    if (known := blocking(machine)) is not None:
        return f"{known.code}: {known.summary}"
    if nvml.sliced is not None:
        return f"mig: {nvml.sliced} is cut into slices, which have no graphics"
    if not {"EGL", "GLX"} & set(machine.userland.libraries):
        known = next(iter(findings(machine)), None)
        return f"{known.code}: {known.summary}" if known else "there is no OpenGL driver of NVIDIA"
    return None


class Recorder:
    """Keeps what became of each test, and writes it down after each.

    Arguments:
        folder: where; what an earlier run of the same has left there is added to.
        quick: whether less was done than is claimed.
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        self._folder = folder
        self._quick = quick
        self._tests: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, object] | None = None
        self._written: Path | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, _, name = report.nodeid.partition("::")
        if Path(file).parent.name != Path(__file__).parent.name:
            return
        test = self._tests.setdefault(
            name, {"test": name, "claim": "", "outcome": "passed", "reason": None, "figures": []}
        )
        if report.outcome != "passed":
            test |= {"outcome": report.outcome, "reason": private.redacted(_reason(report))}
        if report.when == "teardown":
            test |= {key: value for key, value in report.user_properties if key == "claim"}
            figures: list[Any] = [f for key, f in report.user_properties if key == "figure"]
            test["figures"] = [f | {"value": private.redacted(f["value"])} for f in figures]
            self._save()

    def _save(self) -> None:
        if self._facts is None:
            machine, nvml = survey.look(), _nvml.ask(_driver.find().nvml)
            here = absent(machine, nvml) is None
            self._facts = dict(_facts(machine, nvml)) if here else {}
        if self._facts:
            data = self._facts | {"quick": self._quick, "date": _now()}
            data["tests"] = list(self._tests.values())
            self._written = results.add(results.read(data), self._folder)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._written is not None:
            terminalreporter.write_line(f"every figure is in {self._written}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _facts(machine: Machine, nvml: _nvml.Answer) -> Iterator[tuple[str, object]]:
    module = machine.module.version if machine.module else "unknown"
    yield "schema_version", results.SCHEMA_VERSION
    yield "stand_in", stand_in(machine)
    yield "driver", nvml.driver or module
    yield "gpu", _gpu(nvml)
    yield "gpus", len(nvml.gpus) or len(machine.gpus)
    yield "moderngl_colab", moderngl_colab.__version__
    yield "code", results.code()
    for name in ("moderngl", "glcontext"):
        yield name, metadata.version(name)
    yield "python", platform.python_version()
    yield "kernel", private.redacted(platform.release())
    yield "system", machine.distribution
    yield "platform", machine.platform


def _gpu(nvml: _nvml.Answer) -> str:
    """The name of the GPU that contexts are on: the first that this process was given."""
    with contextlib.suppress(moderngl_colab.GPUContextError):
        given = moderngl_colab.visible_gpus()
        if given and given[0].name is not None:
            return given[0].name
    # Which of several unlike ones is the first is CUDA's to say.
    return " or ".join(dict.fromkeys(gpu.name for gpu in nvml.gpus)) or "unknown"


def stand_in(machine: Machine) -> bool:
    """Whether the driver is that of tests/rig: it draws by a copy of Mesa's that lies beside it."""
    folders = {Path(library).parent for library in machine.userland.libraries.values()}
    return any(list(folder.glob("lib*_nvms.so.0")) for folder in folders)


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr if crash is None else crash.message)
    first = next(filter(None, map(str.strip, text.splitlines())), "")
    return first.removeprefix("Failed: ")[:_MOST_REASON]
