"""Ten thousand hostile cases for each way in: no crash, no hang, and no memory without bound."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fuzz.targets import TARGETS, case

from rig import driver

FUZZ = Path(__file__).parent / "fuzz"
CASES = 10_000
# Atheris has no wheel for every Python and machine; where it is, the two share the cases.
ENGINES = [engine for engine in ("hypothesis", "atheris") if find_spec(engine) is not None]


def compiled(source: Path, folder: Path, *flags: str) -> Path:
    """A library that passes for NVML's: pynvml asks for this name, and finds what is open."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise driver.RigError("gcc is not installed: apt-get install -y gcc libc6-dev")
    path = folder / "libnvidia-ml.so.1"
    command = [gcc, "-shared", "-fPIC", "-O1", "-std=gnu17", f"-Wl,-soname,{path.name}"]
    subprocess.run([*command, *flags, "-o", path, source], check=True)
    return path


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What answers as libEGL and as NVML, and lies."""
    folder = tmp_path_factory.mktemp("hostile")
    return compiled(FUZZ / "hostile.c", folder, "-Wall", "-Wextra", "-Werror")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", TARGETS)
def test_ten_thousand_cases_do_no_harm(
    library: Path, tmp_path: Path, target: str, engine: str
) -> None:
    cases = CASES // len(ENGINES)
    display = 1_000_000 + os.getpid()
    try:
        done = subprocess.run(
            [sys.executable, "-P", FUZZ / "run.py", engine, target, tmp_path, str(cases)],
            env={
                **os.environ,
                "HOSTILE_LIBRARY": str(library),
                "HOSTILE_DISPLAY": str(display),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=1200,
            check=False,
        )
    finally:
        Path(f"/tmp/.X11-unix/X{display}").unlink(missing_ok=True)

    size, *last = (tmp_path / "last").read_bytes()
    made = case(bytes(last[:size]), TARGETS[target].samples)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\nthe last case: {made!r}"
    said = f"Done {cases} runs in" if engine == "atheris" else f"{cases} cases"
    assert said in done.stdout


SYMBOLS = [
    "nvmlInit_v2", "nvmlInitWithFlags", "nvmlShutdown", "nvmlErrorString",
    "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode", "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3",
]  # fmt: skip
# What cannot be had without them; pynvml needs none of the others.
_NONE = ("NVML: Function Not Found (13)", "True")
EXPECTED = {
    "nvmlInitWithFlags": _NONE,
    "nvmlDeviceGetCount_v2": (_NONE[0], "True"),
    "nvmlDeviceGetHandleByIndex_v2": (_NONE[0], "True"),
    "nvmlDeviceGetHandleByUUID": ("NVIDIA Stand-in GPU 0", "True"),
    "nvmlDeviceGetName": ("GPU without a name", "False"),
    "nvmlDeviceGetUUID": ("NVIDIA Stand-in GPU 0", "True"),
}
ASK = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
from moderngl_colab import _nvml
answer = _nvml.ask_here(sys.argv[1])
print(answer.error or answer.gpus[0].name)
uuid = answer.gpus[0].uuid if answer.gpus else "GPU-0"
print(_nvml.used(uuid or "GPU-0", sys.argv[1]) is None)
"""


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_an_nvml_without_one_of_its_symbols_is_no_error(
    python: Any, tmp_path: Path, symbol: str
) -> None:
    version = f'-DSTANDIN_VERSION="{driver.VERSION}"'
    path = compiled(driver.SOURCES / "nvml.c", tmp_path, version, f"-D{symbol}=standin_absent")

    first, second = python("container-graphics", ASK, str(path)).stdout.splitlines()

    assert (first, second) == EXPECTED.get(symbol, ("NVIDIA Stand-in GPU 0", "False"))


@pytest.mark.parametrize("code", [*range(1, 31), 999, -1, 2**31 - 1])
def test_every_error_of_nvml_is_told(python: Any, code: int) -> None:
    program = (
        "import json; from moderngl_colab import _nvml; answer = _nvml.ask_here();"
        "print(json.dumps([answer.code, answer.error]))"
    )

    said = python("container-graphics", program, env={"STANDIN_NVML": str(code)}).stdout

    assert said.startswith(f'[{code}, "NVML: ')
    assert said.rstrip().endswith(f' ({code})"]')
