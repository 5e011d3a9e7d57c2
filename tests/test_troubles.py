"""On every machine in trouble: the doctor names the cause first, and its cure leads to the GPU."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PLATFORM, PROGRAMS, without_noise

from rig import archive, driver, machines
from rig.troubles import TROUBLES, Trouble

REPORTS = Path(__file__).parent / "reports"
NVIDIA = "NVIDIA Corporation 00ff00"
VERDICT = {"gpu": 0, "software": 1, "none": 2}

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ALL = [
    pytest.param(name, marks=[NEEDS_ROOT] if trouble.uid is not None else [])
    for name, trouble in TROUBLES.items()
]
Report = Callable[[str], tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def report(python: Callable[..., machines.Finished]) -> Report:
    """The report on a machine in trouble, as text and as data."""
    known: dict[str, tuple[str, dict[str, Any]]] = {}

    def diagnose(name: str) -> tuple[str, dict[str, Any]]:
        if name not in known:
            trouble = TROUBLES[name]
            arguments = json.dumps({"timeout": 5 if name == "hang" else 60})
            done = python(
                trouble.machine,
                PROGRAMS / "doctor.py",
                arguments,
                env=trouble.env,
                uid=trouble.uid or None,
                timeout=120,
            )
            text, data = json.loads(done.stdout)
            known[name] = text, data
        return known[name]

    return diagnose


@pytest.mark.parametrize("name", ALL)
def test_the_line_after_the_verdict_names_the_cause(report: Report, name: str) -> None:
    trouble = TROUBLES[name]

    text, data = report(name)

    lines = text.rstrip("\n").splitlines()
    assert lines[0] == lines[-1]
    assert (data["verdict"], data["exit_status"]) == (trouble.verdict, VERDICT[trouble.verdict])
    codes = [finding["code"] for finding in data["findings"]]
    if trouble.first is None:
        assert codes == []
        return
    assert lines[1].split(": ")[1] == trouble.first == codes[0]
    assert set(codes[1:]) == trouble.also
    assert data["findings"][0]["remedy"] == trouble.remedy


@pytest.mark.parametrize("name", ALL)
def test_the_report_reads_as_it_was_written_down(
    report: Report, name: str, pytestconfig: pytest.Config
) -> None:
    text, _ = report(name)
    path = REPORTS / f"{name}.txt"

    if pytestconfig.getoption("--rewrite-reports"):
        path.write_text(normal(text))

    assert normal(text) == path.read_text()


def test_no_report_is_kept_of_a_machine_that_is_gone() -> None:
    assert {path.stem for path in REPORTS.glob("*.txt")} == set(TROUBLES)


def normal(text: str) -> str:
    """A report without what differs from one machine, user or run to the next."""
    multiarch = str(driver.multiarch())
    text = text.replace(multiarch, "{lib}").replace(multiarch.removeprefix("/usr"), "{lib}")
    text = text.replace("ask who is root here to run: apt-get", "apt-get")
    for pattern, word in (
        (r"\d+\.\d\d s\b", "0.00 s"),
        (r"(?m)^  (system|Python|packages) +.*$", r"  \1 ..."),
        (r"llvmpipe \(.*?\)", "llvmpipe (...)"),
        (r"\(Mesa(/X\.org)?\)", "(Mesa)"),
        (r"OpenGL [\d.]+ \(Core Profile\) Mesa \S+.*", "OpenGL by Mesa"),
        (r"(lib(?:EGL|GL)\.so\.1)[.\d]+", r"\1"),
        (r"GLIBCXX_3\.4\.\d+", "GLIBCXX_3.4.N"),
        (r"(libgallium|swrast_dri)[\w.~-]*\.so", "MESA.so"),
        (r"(?m)^ *stderr: (libEGL warning|MESA: error: ZINK|glx: failed to|error: XDG_).*\n", ""),
    ):
        text = re.sub(pattern, word, text)
    return text


CURABLE = {
    name: trouble
    for name, trouble in TROUBLES.items()
    if trouble.cured is not None or re.match("unset|export|moderngl_colab|!?python", trouble.remedy)
}


@pytest.mark.parametrize(
    "name",
    [param for param in ALL if param.values[0] in CURABLE],
)
def test_the_cure_that_is_printed_leads_to_the_gpu(
    python: Callable[..., machines.Finished],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    trouble = CURABLE[name]
    monkeypatch.chdir(tmp_path)

    said = cured(python, trouble, tmp_path)

    assert said == (NVIDIA if trouble.machine.name != "wsl2" else "Microsoft Corporation 00ff00")


def cured(python: Callable[..., machines.Finished], trouble: Trouble, cache: Path) -> str:
    """What a program prints once the printed cure was applied."""
    if trouble.cured is not None:
        program = PROGRAMS / "cured.py"
        env = {} if trouble.cured is not trouble.machine else trouble.env
        uid, groups = trouble.uid or None, trouble.groups
        return str(python(trouble.cured, program, env=env, uid=uid, groups=groups).stdout).strip()
    if trouble.remedy.startswith("moderngl_colab."):
        program = PROGRAMS / "cured.py"
        done = python(trouble.machine, program, trouble.remedy, env=trouble.env)
        return str(done.stdout).strip()
    python_here = shlex.join([sys.executable, "-P"])
    command = trouble.remedy.removeprefix("!")
    if " install-driver" in command:
        return installed(trouble, command.replace("python", python_here, 1), cache)
    if command.endswith("run -- PROGRAM ..."):
        # Another program, which knows nothing of us: raw moderngl.
        other = f"{python_here} {shlex.quote(str(PROGRAMS / 'raw.py'))}"
        line = command.replace("PROGRAM ...", other).replace("python", python_here, 1)
    else:
        line = f"{command}\nexec {python_here} {shlex.quote(str(PROGRAMS / 'cured.py'))}"
    env = PLATFORM | dict(trouble.env) | {"XDG_CACHE_HOME": str(cache)}
    done = machines.run(trouble.machine, ["sh", "-c", line], env=env)
    assert (done.returncode, without_noise(done.stderr), done.survivors) == (0, "", ())
    return done.stdout.strip()


def installed(trouble: Trouble, command: str, home: Path) -> str:
    """The same where the cure is to install the driver, which is typed at a terminal."""
    typed = f"echo y | script -qec {shlex.quote(command)} {home}/said >/dev/null"
    program = shlex.join([sys.executable, "-P", str(PROGRAMS / "cured.py")])
    # NVIDIA's archive is the first that has it.
    machine = replace(trouble.machine, removed=(*trouble.machine.removed, "/etc/apt/sources.list*"))
    env = {"XDG_DATA_HOME": str(home), "STANDIN_MESA": str(driver.cached())}
    with archive.serve() as server:
        server.publish(archive.runfile())
        env["MODERNGL_COLAB_DRIVER_URL"] = server.url
        line = f"{typed}\nexec {program}"
        done = machines.run(machine, ["sh", "-c", line], env=PLATFORM | dict(trouble.env) | env)
    assert (done.returncode, without_noise(done.stderr), done.survivors) == (0, "", ())
    return done.stdout.strip()
