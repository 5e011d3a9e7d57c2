"""A strategy tried in another process first: what a driver does to that, it does not do here."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import path_with_xvfb

from rig import machines, remedies

Chain = Callable[..., dict[str, Any]]
Python = Callable[..., machines.Finished]

CRASHED = (
    "failed",
    "driver-crash",
    "the process that tried it was ended by SIGSEGV (11)",
    remedies.SMI,
)
FOUR = {"STANDIN_GPUS": "4"}


def same(report: dict[str, Any]) -> dict[str, Any]:
    """What two runs have in common: of open files only what they are."""
    return report | {"files": sorted(name.partition(":")[0] for name in report["files"])}


def observed(report: dict[str, Any]) -> list[tuple[str, str | None, str, str | None]]:
    """Outcome, cause, reason and remedy of each attempt."""
    return [(a["outcome"], a["cause"], a["reason"], a["remedy"]) for a in report["attempts"]]


@pytest.mark.parametrize(
    ("machine", "strategy"), [("colab", "egl"), ("glx-only", "glx"), ("no-nvidia", "mesa")]
)
@pytest.mark.parametrize("state", ["clean", "raw-current"])
def test_a_driver_that_stands_the_test_serves_as_without_it(
    chain: Chain, machine: str, strategy: str, state: str
) -> None:
    without = chain(machine, state)

    report = chain(machine, state, probe=True)

    assert same(report) == same(without)
    assert (report["strategy"], report["pixel"]) == (strategy, "ff0000")


def test_where_egl_crashes_glx_serves(chain: Chain) -> None:
    report = chain("colab", probe=True, again=1, env={"STANDIN_FAULT": "crash"})

    assert observed(report)[0] == CRASHED
    assert (report["strategy"], report["pixel"], report["pixel_again"]) == (
        "glx",
        "ff0000",
        "00ffff",
    )
    assert (report["changed"], report["children"]) == ([], ["Xvfb"])


def test_where_egl_crashes_and_glx_refuses_the_cpu_serves_with_a_warning(chain: Chain) -> None:
    env = {"STANDIN_FAULT": "crash,glx-context", "MODERNGL_COLAB_PROBE": "1"}

    refused = observed(chain("colab", env=env, probe=False, strategies="glx,mesa"))[0]
    report = chain("colab", env=env)

    assert refused[:2] == ("failed", "glx-refused")
    assert observed(report)[:2] == [CRASHED, refused]
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert report["warnings"] == [
        [
            "SoftwareRenderingWarning",
            f"OpenGL renders on the CPU ({report['renderer']}), because:\n"
            f"  egl: failed: {CRASHED[2]}\n"
            f"  glx: failed: {refused[2]}\n"
            f"  fix: {remedies.SMI}\n"
            "  more: python -m moderngl_colab",
            "chain.py",
        ]
    ]
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


def test_where_egl_hangs_the_next_one_serves(chain: Chain) -> None:
    report = chain(
        "colab", probe=True, timeout=6, strategies="egl,mesa", env={"STANDIN_FAULT": "hang"}
    )

    outcome, cause, reason, remedy = observed(report)[0]
    assert (outcome, cause, remedy) == ("failed", "driver-hang", remedies.SMI)
    assert re.fullmatch(r"the process that tried it did not end within [\d.]+ s", reason)
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


def test_a_driver_that_draws_nothing_is_rejected(chain: Chain) -> None:
    report = chain(
        "colab", probe=True, allow_software=False, strategies="egl", env={"STANDIN_FAULT": "blank"}
    )

    outcome, cause, reason, remedy = observed(report)[0]
    assert (outcome, cause, remedy) == ("rejected", None, None)
    assert reason.endswith(" of 1075 pixels are wrong")


@pytest.mark.parametrize(
    ("machine", "fault"),
    [("colab", "init"), ("colab", "mesa-vendor"), ("glx-only", "glx-badvalue"),
     ("no-xvfb", ""), ("compute-only", ""), ("mig", ""), ("no-gl", "")],
)  # fmt: skip
def test_what_merely_fails_is_told_as_it_would_be_here(
    chain: Chain, machine: str, fault: str
) -> None:
    env = {"STANDIN_FAULT": fault}

    assert same(chain(machine, probe=True, env=env)) == same(chain(machine, env=env))


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        ({"device": "cuda:7"}, FOUR),
        ({"device_index": 9}, FOUR),
        ({"device_index": -1}, FOUR),
        ({"device": 0}, FOUR | {"STANDIN_FAULT": "no-cuda-attrib,no-uuid,no-render-node",
                                "STANDIN_NVML": "18"}),
    ],
)  # fmt: skip
def test_what_is_no_attempt_is_raised_as_without_it(
    chain: Chain, arguments: dict[str, Any], env: dict[str, str]
) -> None:
    without = chain("container-graphics", env=env, **arguments)

    report = chain("container-graphics", env=env, probe=True, **arguments)

    assert report == without
    assert "error" in report


@pytest.mark.parametrize(
    "arguments", [{"device": "cuda:2"}, {"device_index": 1, "require": 430}, {"require": 430}]
)
def test_what_was_asked_for_is_tried(chain: Chain, arguments: dict[str, Any]) -> None:
    without = chain("container-graphics", env=FOUR, **arguments)

    report = chain("container-graphics", env=FOUR, probe=True, **arguments)

    assert report == without
    assert report["strategy"] == "egl"


COUNTED = """
import os, sys, json, warnings, moderngl_colab
warnings.simplefilter("ignore")

def started(**arguments):
    "The processes of Python that a call starts, and by what it served."
    count = len(processes)
    strategy = moderngl_colab.describe(moderngl_colab.get_gpu_context(**arguments)).strategy
    return [len(processes) - count, strategy]

processes = []
sys.addaudithook(
    lambda name, told: processes.append(told) if name == "subprocess.Popen"
    and told[0] == sys.executable else None
)
said = [started(probe=True), started(probe=True), started(), started(probe=True, require=430)]
os.environ["STEERS_A_DRIVER"] = "1"
said += [started(probe=True), started(probe=True), started(probe=False)]
print(json.dumps(said))
"""


def test_what_stood_the_test_once_is_not_tested_again(python: Python) -> None:
    assert json.loads(python("colab", COUNTED).stdout) == [
        [1, "egl"], [0, "egl"], [0, "egl"], [1, "egl"], [1, "egl"], [0, "egl"], [0, "egl"]
    ]  # fmt: skip


def test_what_crashed_once_is_not_tested_again(python: Python) -> None:
    env = {"STANDIN_FAULT": "crash"}
    code = COUNTED.partition("said = ")[0] + (
        "glx = ['glx', 'mesa']\n"
        "said = [started(probe=True), started(probe=True), started(probe=True, strategies=glx)]\n"
        "print(json.dumps(said))\n"
    )

    # Of the first call the second process tries GLX.
    assert json.loads(python("colab", code, env=env).stdout) == [
        [2, "glx"], [0, "glx"], [0, "glx"]
    ]  # fmt: skip


def test_what_can_be_mended_is_tested_again(python: Python) -> None:
    code = (
        COUNTED.partition("said = ")[0]
        + """
said = [started(probe=True)]
del os.environ["STANDIN_FAULT"]
said += [started(probe=True), started(probe=True)]
os.environ["STANDIN_FAULT"] = "init"
said += [started(probe=True)]
print(json.dumps(said))
"""
    )

    # Direct EGL is refused, and asked again; GLX stood the test.
    said = json.loads(python("colab", code, env={"STANDIN_FAULT": "init"}).stdout)
    assert said == [[2, "glx"], [1, "egl"], [0, "egl"], [1, "glx"]]


@pytest.mark.parametrize("machine", ["no-nvidia", "compute-only"])
def test_where_there_is_no_driver_to_fear_no_process_is_started(
    python: Python, machine: str
) -> None:
    code = COUNTED.partition("said = ")[0] + "print(json.dumps(started(probe=True)))"

    assert json.loads(python(machine, code).stdout) == [0, "mesa"]


@pytest.mark.parametrize(
    ("executable", "reason"),
    [
        ("", "sys.executable names no program"),
        ("/nowhere/python", "[Errno 2] No such file or directory: '/nowhere/python'"),
    ],
)
def test_where_nothing_can_be_tried_nothing_is_used_untried(
    python: Python, executable: str, reason: str
) -> None:
    code = f"""
import sys, moderngl_colab
sys.executable = {executable!r}
try:
    moderngl_colab.get_gpu_context(probe=True, allow_software=False, strategies="egl")
except moderngl_colab.GPUContextError as error:
    print(error)
"""
    assert python("colab", code).stdout == (
        "no OpenGL 3.3 context on a GPU could be made:\n"
        f"  1. egl: unavailable: no process could be started to try it: {reason}\n"
        "     fix: probe=False or MODERNGL_COLAB_PROBE=0 tries it in this process\n"
        "  2. glx: skipped: not among the strategies asked for\n"
        "  3. mesa: skipped: not among the strategies asked for\n"
        "  more: python -m moderngl_colab\n"
    )


def test_a_process_that_does_not_start_in_time_is_not_the_drivers_fault(
    python: Python, folder: Path
) -> None:
    slow = folder / "python"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    code = f"""
import sys, moderngl_colab
sys.executable = {str(slow)!r}
for timeout in (1, 2):
    try:
        moderngl_colab.get_gpu_context(probe=True, timeout=timeout, strategies="egl")
    except moderngl_colab.GPUContextError as error:
        print(error.headline, error.cause, *error.attempts[0][1:5], sep="; ")
"""
    said = re.sub(r"start within [\d.]+ s", "start within N s", python("colab", code).stdout)
    assert said == "".join(
        f"no OpenGL 3.3 context could be made within {now} s:; timeout; unavailable; "
        "the process that was to try it did not start within N s; "
        f"get_gpu_context(timeout={more}) or MODERNGL_COLAB_TIMEOUT={more} waits longer; timeout\n"
        for now, more in (("1", "2"), ("2", "4"))
    )


def test_an_interrupt_ends_the_wait_and_what_was_started(python: Python) -> None:
    code = """
import os, signal, threading, time, moderngl_colab
began = time.monotonic()
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    moderngl_colab.get_gpu_context(probe=True, timeout=60, strategies="egl")
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 20)
with open(f"/proc/self/task/{os.getpid()}/children") as children:
    print(children.read())
"""
    done = python("colab", code, env={"STANDIN_FAULT": "hang"})

    assert (done.stdout, done.survivors) == ("interrupted True\n\n", ())


REFUSED = (
    "no OpenGL 3.3 context could be made:\n"
    "  1. egl: unavailable: {}\n"
    "     fix: probe=False or MODERNGL_COLAB_PROBE=0 tries it in this process\n"
    "  2. glx: skipped: not among the strategies asked for\n"
    "  3. mesa: skipped: not among the strategies asked for\n"
    "  more: python -m moderngl_colab\n"
)
APP = """#!{python} -P
import sys
with open({log!r}, "a") as log:
    log.write("started\\n")
sys.executable = sys.argv[0]
{more}
import moderngl_colab
try:
    moderngl_colab.get_gpu_context(probe=True, timeout=20, strategies="egl")
except moderngl_colab.GPUContextError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("more", "times", "reason"),
    [
        (
            "sys.frozen = True",
            1,
            "no process could be started to try it: this program is frozen, and would be started "
            "itself in place of Python",
        ),
        (
            "",
            2,
            "the process that tried it ended with status 0; it said:   more: python -m "
            "moderngl_colab",
        ),
    ],
)
def test_a_program_that_is_its_own_python_does_not_start_itself_over_and_over(
    python: Python, folder: Path, more: str, times: int, reason: str
) -> None:
    app, log = folder / "app", folder / "log"
    app.write_text(APP.format(python=sys.executable, log=str(log), more=more))
    app.chmod(0o755)
    code = f"""
import os
os.execv({str(app)!r}, [{str(app)!r}])
"""
    assert python("colab", code).stdout == REFUSED.format(reason)
    assert log.read_text() == "started\n" * times


@pytest.mark.parametrize(("flag", "ran"), [("-I", False), ("-E", False), ("-s", True)])
def test_code_that_python_is_kept_from_is_kept_from_the_test(
    python: Python, folder: Path, flag: str, ran: bool
) -> None:
    log = folder / "log"
    (folder / "sitecustomize.py").write_text(f"open({str(log)!r}, 'w').close()")
    inside = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
os.environ["PYTHONPATH"] = {str(folder)!r}
import moderngl_colab
ctx = moderngl_colab.get_gpu_context(probe=True, strategies="egl")
print(moderngl_colab.describe(ctx).strategy)
"""
    code = f"""
import os, sys
os.execv(sys.executable, [sys.executable, "{flag}", "-c", {inside!r}])
"""
    assert python("colab", code).stdout == "egl\n"
    assert log.exists() == ran


def test_a_process_of_more_rights_has_nothing_tried_by_another(python: Python) -> None:
    code = """
import os, moderngl_colab
os.setresuid(65534, 0, 0)
try:
    moderngl_colab.get_gpu_context(probe=True, strategies="egl")
except moderngl_colab.GPUContextError as error:
    print(error)
"""
    if os.geteuid() != 0:
        pytest.skip("only root has rights to lend")
    assert python("package", code).stdout == REFUSED.format(
        "no process could be started to try it: real and effective ids differ, and it would run "
        "code of the one who started this"
    )


def test_a_long_path_of_modules_is_no_obstacle(python: Python) -> None:
    code = """
import sys, moderngl_colab
sys.path.append("/y" * 70000)
ctx = moderngl_colab.get_gpu_context(probe=True, strategies="egl")
print(moderngl_colab.describe(ctx).strategy)
"""
    assert python("colab", code).stdout == "egl\n"


def test_a_strategy_of_the_users_own_is_tried_here_alone(python: Python) -> None:
    code = """
import os, moderngl_colab
from moderngl_colab.strategies import DirectEGL

class Own(DirectEGL):
    name = "own"

    def create(self, request):
        print(os.getpid() == here)
        return super().create(request)

here = os.getpid()
ctx = moderngl_colab.get_gpu_context(probe=True, strategies=[Own()])
print(moderngl_colab.describe(ctx).strategy)
"""
    assert python("colab", code).stdout == "True\nown\n"


def test_ours_is_tried_also_where_it_is_given_as_an_object(python: Python) -> None:
    code = """
import moderngl_colab
from moderngl_colab.strategies import DirectEGL
try:
    moderngl_colab.get_gpu_context(probe=True, strategies=[DirectEGL()])
except moderngl_colab.GPUContextError as error:
    print(error.attempts[0].cause)
"""
    assert python("colab", code, env={"STANDIN_FAULT": "crash"}).stdout == "driver-crash\n"


def test_a_forked_process_is_told_of_the_fork_first(python: Python) -> None:
    code = """
import os, moderngl_colab
ctx = moderngl_colab.get_gpu_context(probe=True)
if os.fork() == 0:
    try:
        moderngl_colab.get_gpu_context(probe=True)
    except moderngl_colab.ForkedProcessError as error:
        print(error.cause, flush=True)
    os._exit(0)
os.wait()
"""
    assert python("colab", code).stdout == "forked\n"


def test_a_test_does_not_make_a_fork_unsafe(python: Python) -> None:
    code = """
import os, moderngl_colab
try:
    moderngl_colab.get_gpu_context(probe=True, strategies="egl", timeout=4)
except moderngl_colab.GPUContextError:
    pass
if os.fork() == 0:
    del os.environ["STANDIN_FAULT"]
    print(moderngl_colab.describe(moderngl_colab.get_gpu_context()).strategy, flush=True)
    os._exit(0)
os.wait()
"""
    assert python("colab", code, env={"STANDIN_FAULT": "crash"}).stdout == "egl\n"


def test_the_doctor_tries_a_strategy_once_where_the_variable_is_set(python: Python) -> None:
    code = """
import moderngl_colab
report = moderngl_colab.diagnose(strategies=["egl"])
print(report.attempts[0].cause, report.attempts[0].reason)
"""
    env = {"STANDIN_FAULT": "crash", "MODERNGL_COLAB_PROBE": "1", "MODERNGL_COLAB_TIMEOUT": "x"}

    assert python("colab", code, env=env).stdout == f"{CRASHED[1]} {CRASHED[2]}\n"


def test_a_server_that_does_not_answer_is_named(chain: Chain, folder: Path) -> None:
    env = path_with_xvfb(folder, "exec sleep 1000")

    report = chain("glx-only", probe=True, timeout=20, strategies="glx,mesa", env=env)

    outcome, cause, reason, _ = observed(report)[0]
    assert (outcome, cause) == ("failed", "xvfb-start")
    assert reason.startswith("Xvfb did not answer within ")
    assert (report["strategy"], report["pixel"]) == ("mesa", "ff0000")
    assert (report["changed"], report["new_files"], report["children"]) == ([], 0, [])


@pytest.mark.parametrize(
    ("arguments", "env", "error"),
    [
        ({"probe": "yes"}, {}, "TypeError: probe='yes': True or False is needed"),
        ({"probe": 1}, {}, "TypeError: probe=1: True or False is needed"),
        (
            {},
            {"MODERNGL_COLAB_PROBE": "maybe"},
            "ValueError: MODERNGL_COLAB_PROBE='maybe': 0 or 1 is possible",
        ),
    ],
)
def test_what_is_neither_yes_nor_no_is_refused(
    chain: Chain, arguments: dict[str, Any], env: dict[str, str], error: str
) -> None:
    assert chain("no-nvidia", env=env, **arguments)["error"] == error


def test_the_argument_wins_over_the_variable(chain: Chain) -> None:
    report = chain("colab", probe=False, env={"MODERNGL_COLAB_PROBE": "1"})
    crashed = chain("colab", env={"MODERNGL_COLAB_PROBE": "on", "STANDIN_FAULT": "crash"})

    assert (report["strategy"], crashed["strategy"]) == ("egl", "glx")


def test_it_is_not_imported_where_nobody_asks_for_it(python: Python) -> None:
    code = """
import sys, moderngl_colab
moderngl_colab.get_gpu_context()
names = ("subprocess", "moderngl_colab.probe", "moderngl_colab._nvml", "moderngl_colab._bounded")
print([name for name in names if name in sys.modules])
"""
    assert python("colab", code).stdout == "[]\n"
