"""tests/gpu, tried where no GPU is: in simulated machines, whose driver is a stand-in.

There it passes, and with a driver that is not what is claimed of drivers it fails; its JSON is
whole; and docs/gpu-results.md is what is made of the results that are kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gpu import page, results
from gpu import test_bench as gpu_bench
from gpu.growth import LIVE
from gpu.patience import MOST_HANGS, Patience
from gpu.test_devices import NO_UUID
from gpu.test_process import CYCLES, MIB, too_much

import moderngl_colab
from moderngl_colab.bench.measure import SCENES
from rig import machines

SUITE = Path(__file__).parent / "gpu"
PYTEST = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
CUDA = """
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return (visible && !*visible) || getenv("WITHOUT_CUDA") ? 100 : 0;
}

int cuDeviceGetCount(int *count) { *count = 1; return 0; }

int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }

int cuDeviceGetUuid(void *uuid, int device) {
    memcpy(uuid, "\\x57\\xa2\\xd1\\0\\x0c\\x01\\x4a\\xb0\\x9e\\x11\\0\\0\\x5e\\xed\\0\\0", 16);
    ((char *)uuid)[3] = NUMBER;
    return 0;
}
"""
CUT = """
import pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
run = subprocess.Popen([sys.executable, *sys.argv[2:]])
while run.poll() is None and not list(folder.glob("*.json")):
    time.sleep(0.02)
run.terminate()
sys.exit(run.wait())
"""
GLX = "test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else"
FOUR = {"STANDIN_GPUS": "4", "STANDIN_ORDER": "reverse", "STANDIN_FASTEST": "2,0,3,1"}

WITHOUT_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""The suite needs none, and they take a second to load."""

Outcomes = dict[str, tuple[str, str | None]]


class Ran:
    """A run of the suite."""

    def __init__(self, finished: machines.Finished, folder: Path) -> None:
        self.status, self.text = finished.returncode, finished.stdout
        self.files = sorted(folder.glob("*"))

    @property
    def result(self) -> results.Result:
        """What it wrote."""
        (path,) = self.files
        return results.load(path)

    @property
    def outcomes(self) -> Outcomes:
        """Outcome and reason of each test, by its name."""
        return {test.test: (test.outcome, test.reason) for test in self.result.tests}

    def named(self, outcome: str) -> set[str]:
        """The tests of an outcome, without their cases."""
        names = (name for name, (what, _) in self.outcomes.items() if what == outcome)
        return {name.partition("[")[0] for name in names}


@pytest.fixture
def suite(python: Any, tmp_path: Path) -> Callable[..., Ran]:
    """Run the suite in a simulated machine."""

    def run(machine: str, *arguments: str, env: dict[str, str] | None = None) -> Ran:
        folder = tmp_path / "results"
        settings = ["-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner"), "--gpu-quick"]
        settings += ["--gpu-results", str(folder), *(arguments or (str(SUITE),))]
        inside = WITHOUT_PLUGINS | (env or {})
        finished = python(machine, PYTEST, "-q", *settings, env=inside, timeout=300, check=False)
        assert finished.survivors == ()
        return Ran(finished, folder)

    return run


@pytest.fixture
def libcuda(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """A stand-in for libcuda that lists a GPU by its number, as the environment that has it."""

    def make(number: int) -> dict[str, str]:
        library = tmp_path / "libcuda.so.1"
        source = tmp_path / "cuda.c"
        source.write_text(CUDA)
        compiler = ["cc", "-shared", "-fPIC", f"-DNUMBER={number}", "-o", str(library), str(source)]
        subprocess.run(compiler, check=True)
        return {"LD_LIBRARY_PATH": str(tmp_path)}

    return make


def test_on_a_machine_with_the_driver_every_claim_holds(
    suite: Callable[..., Ran], libcuda: Callable[[int], dict[str, str]]
) -> None:
    # A user's name that is one of our words damages nothing; nor do choices of the user's.
    user = {"USER": "context", "GLCONTEXT_DEVICE_INDEX": "1", "MODERNGL_COLAB_STRATEGIES": "mesa"}
    ran = suite("colab-no-path", env={"STANDIN_MEMORY": "process"} | user | libcuda(0))

    assert ran.named("passed") == set(page.claims()), ran.text
    assert {outcome for outcome, _ in ran.outcomes.values()} == {"passed"}
    assert page.proven(ran.result) == set(page.claims())
    assert ran.status == 0
    result = ran.result
    assert (result.driver, result.gpu, result.gpus) == ("550.54.15", "NVIDIA Stand-in GPU 0", 1)
    assert (result.platform, result.stand_in, result.quick) == ("colab", True, True)
    assert [path.name for path in ran.files] == ["550.54.15-NVIDIA-Stand-in-GPU-0.json"]
    assert (result.moderngl_colab, result.code) == (moderngl_colab.__version__, results.code())
    assert f"every figure is in {ran.files[0]}" in ran.text
    assert "GPU-57a2d1" not in ran.files[0].read_text()
    for test in result.tests:
        assert test.claim == page.claims()[test.test.partition("[")[0]]
        assert test.figures or "[empty]" in test.test, test
        for figure in test.figures:
            number = isinstance(figure.value, int | float) and not isinstance(figure.value, bool)
            assert number == (figure.unit is not None), figure


def test_of_four_gpus_each_is_told_from_the_others(suite: Callable[..., Ran]) -> None:
    ran = suite("container-graphics", str(SUITE / "test_devices.py"), env=FOUR)

    assert ran.named("failed") == set(), ran.text
    assert ran.named("skipped") == {"test_egls_ordinals_are_cudas"}  # Nothing is libcuda here.
    figures = {figure.name: figure.value for figure in ran.result.tests[0].figures}
    assert (ran.result.gpus, figures["devices of NVIDIA"]) == (4, 4)


def test_with_a_driver_that_is_not_as_claimed_every_test_fails(
    suite: Callable[..., Ran], libcuda: Callable[[int], dict[str, str]]
) -> None:
    faults = "mesa-vendor,glx-mesa-vendor,nonsense,blank"
    env = {"STANDIN_GPUS": "4", "STANDIN_FAULT": faults}

    ran = suite("colab-no-path", env=env | libcuda(0))

    assert ran.status == 1
    assert ran.named("failed") == set(page.claims()), ran.text
    # Without a GPU there is nothing that a driver could do wrong.
    assert [name for name, (what, _) in ran.outcomes.items() if what == "passed"] == [
        "test_egls_ordinals_follow_the_variable[empty]",
        "test_a_context_is_on_the_gpu_that_the_variable_gives[empty]",
    ]
    why = ran.outcomes["test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else"][1]
    assert why is not None
    assert why.startswith(
        "glx ended with status 1: moderngl_colab.errors.GPUContextError: no OpenGL 3.3 context on "
        "a GPU could be made: 1. glx: rejected: GL_VENDOR is 'Mesa"
    )


def test_a_driver_whose_ordinals_are_not_cudas_fails(suite: Callable[..., Ran]) -> None:
    name = "test_egls_ordinals_follow_the_variable"
    env = {"STANDIN_GPUS": "4", "STANDIN_FAULT": "ignores-visible"}

    ran = suite("container-graphics", f"{SUITE / 'test_devices.py'}::{name}", env=env)

    assert {test: outcome for test, (outcome, _) in ran.outcomes.items()} == {
        f"{name}[unset]": "passed",
        f"{name}[0]": "failed",
        f"{name}[a UUID]": "failed",
        f"{name}[empty]": "failed",
    }


def test_a_gpu_that_is_not_cudas_fails(
    suite: Callable[..., Ran], libcuda: Callable[[int], dict[str, str]]
) -> None:
    name = "test_egls_ordinals_are_cudas"

    ran = suite("container-graphics", f"{SUITE / 'test_devices.py'}::{name}", env=libcuda(1))

    assert {test: outcome for test, (outcome, _) in ran.outcomes.items()} == {
        f"{name}[unset]": "failed",
        f"{name}[0]": "failed",
        f"{name}[a UUID]": "failed",
    }


@pytest.mark.parametrize(
    ("machine", "env", "reason"),
    [
        ("colab-no-path", {"STANDIN_FAULT": "no-uuid"}, NO_UUID),
        # NVML lists it, and CUDA has none: as EGL has no ordinal, two empty lists would be equal.
        (
            "container-graphics",
            {"STANDIN_FAULT": "no-cuda-attrib", "WITHOUT_CUDA": "1"},
            "neither CUDA nor EGL counts a device: there is nothing to compare",
        ),
    ],
)
def test_where_nothing_can_be_compared_nothing_is_proven(
    suite: Callable[..., Ran],
    libcuda: Callable[[int], dict[str, str]],
    machine: str,
    env: dict[str, str],
    reason: str,
) -> None:
    name = "test_egls_ordinals_are_cudas"

    ran = suite(machine, f"{SUITE / 'test_devices.py'}::{name}", env=env | libcuda(0))

    assert ran.outcomes == dict.fromkeys(page.cases()[name], ("skipped", reason))
    assert page.proven(ran.result) == set()


@pytest.mark.parametrize(
    ("machine", "passed", "skipped"),
    [
        ("container-graphics", "takes_the_driver_that_the_loader_finds",
         "opens_the_driver_in_its_own_place"),
        ("split", "opens_the_driver_in_its_own_place", "takes_the_driver_that_the_loader_finds"),
    ],
)  # fmt: skip
def test_that_the_driver_is_opened_in_its_place_is_shown_where_the_loader_does_not_find_it(
    suite: Callable[..., Ran], machine: str, passed: str, skipped: str
) -> None:
    ran = suite(machine, str(SUITE / "test_egl.py"), "-k", "direct_egl")

    assert ran.named("passed") == {f"test_direct_egl_{passed}"}, ran.text
    assert ran.named("skipped") == {f"test_direct_egl_{skipped}"}
    why = ran.outcomes[f"test_direct_egl_{skipped}"][1]
    assert why is not None
    assert why.startswith(
        "the loader finds the driver here without LD_LIBRARY_PATH"
        if machine == "container-graphics"
        else "the loader does not find the driver on LD_LIBRARY_PATH: libnvidia-"
    )


def test_two_sides_that_are_both_on_the_processor_prove_nothing(
    suite: Callable[..., Ran], mesa: str
) -> None:
    name = "test_contexts_are_timed_beside_raw_ones"
    env = {"STANDIN_FAULT": "mesa-vendor,glx-mesa-vendor"}

    ran = suite("package", f"{SUITE / 'test_commands.py'}::{name}", env=env)

    assert ran.outcomes[name] == ("failed", f"AssertionError: assert 'NVIDIA' in {mesa!r}")


def test_what_contexts_may_leave_is_what_the_claims_say() -> None:
    kept = {"resident": 10 * MIB, "GPU memory": 800 * MIB, "GPU memory of this process": 80 * MIB}
    least = {"resident": 64 * MIB, "GPU memory": 0, "GPU memory of this process": 40 * MIB}
    more = {name: value + 1 for name, value in least.items()}

    assert too_much(least, kept) == {}
    assert too_much(more, kept) == {
        name: more[name] for name in ("resident", "GPU memory of this process")
    }
    # Where NVML tells nothing of live contexts by process, its sum is judged.
    blind = {"GPU memory": 0, "GPU memory of this process": 0}
    assert too_much(blind | {"GPU memory": 16 * MIB}, blind) == {}
    assert too_much(blind | {"GPU memory": 17 * MIB}, blind) == {"GPU memory": 17 * MIB}
    for by in ("egl", "glx"):
        claim = page.claims()[f"test_two_hundred_contexts_by_{by}_leave_little"]
        assert f"half of what {LIVE} live ones take or 16 MiB, and" in claim
        assert claim.startswith(f"{CYCLES} contexts")
        assert "64 MiB; the figures" in claim


def test_contexts_that_are_kept_are_seen(python: Any) -> None:
    code = "from gpu import growth; import json; print(json.dumps(growth.cycles('egl', 1)))"
    done = python(
        "colab-no-path", code, env={"STANDIN_MEMORY": "process", "PYTHONPATH": str(SUITE.parent)}
    )
    seen = json.loads(done.stdout)

    # A quick run makes ten, and in this one eight are live.
    assert "GPU memory of this process" in too_much(seen["kept"], seen["kept"])
    assert too_much(seen["grown"], seen["kept"]) == {}


@pytest.mark.parametrize(
    ("mesa", "ratio", "ends", "why"),
    [
        ({"outcome": "failed"}, None, pytest.skip.Exception, "to compare with: Mesa: no screen"),
        ({"software": False}, 9.0, pytest.skip.Exception, "not draw on the processor here: zink"),
        ({}, 1.9, AssertionError, r"1\.9 == "),
    ],
)
def test_a_gpu_is_compared_with_a_mesa_that_draws_on_the_processor(
    mesa: dict[str, Any], ratio: float | None, ends: type[BaseException], why: str
) -> None:
    usual: dict[str, Any] = {
        "strategy": "mesa",
        "outcome": "measured",
        "reason": "no screen",
        "renderer": "zink",
    }
    usual |= dict.fromkeys((*gpu_bench.MEMORY, "first_context_seconds"))
    rows = {
        "mesa": {**usual, "software": True, "measurements": scenes(1.0, 1.0)} | mesa,
        "egl": {**usual, "vendor": "NVIDIA", "measurements": scenes(0.5, ratio)},
    }

    with pytest.raises(ends, match=why):
        gpu_bench.test_the_gpu_is_compared_with_mesa(rows, lambda *_: None, quick=True)


def test_a_gpu_that_is_slower_than_mesa_is_a_gpu_and_the_ratio_is_written_down() -> None:
    usual: dict[str, Any] = {"outcome": "measured", "reason": None, "software": True}
    usual |= dict.fromkeys((*gpu_bench.MEMORY, "first_context_seconds"))
    rows = {
        "mesa": usual | {"strategy": "mesa", "renderer": "x", "measurements": scenes(4.0, 1.0)},
        "egl": usual | {"vendor": "NVIDIA", "measurements": scenes(1.0, 0.25)},
    }
    figures: list[tuple[object, ...]] = []

    gpu_bench.test_the_gpu_is_compared_with_mesa(rows, lambda *f: figures.append(f), quick=True)

    ratios = [f"{scene} at 64 x 64" for scene in SCENES]
    assert figures[-3:] == [(name, 0.25, "times Mesa") for name in ratios]
    rows["egl"]["measurements"][1]["wrong"] = "it is blank"
    with pytest.raises(AssertionError):
        gpu_bench.test_the_gpu_is_compared_with_mesa(rows, lambda *_: None, quick=True)


def scenes(rate: float, ratio: float | None) -> list[dict[str, Any]]:
    """What the benchmark says of each scene."""
    told = dict.fromkeys(gpu_bench.UNITS) | {"width": 64, "height": 64, "wrong": None}
    figures = {"frames_per_second": rate, "ratio_to_mesa": ratio}
    return [told | figures | {"scene": scene} for scene in SCENES]


def test_a_driver_of_whose_memory_nothing_is_used_fails(suite: Callable[..., Ran]) -> None:
    # Without STANDIN_MEMORY, NVML tells the same figures whatever is drawn.
    ran = suite("colab-no-path", str(SUITE / "test_process.py"), "-k", "gpus_memory")

    assert ran.named("failed") == {"test_what_is_drawn_into_is_seen_in_the_gpus_memory"}


def test_where_nvml_is_silent_what_hangs_on_it_is_skipped(suite: Callable[..., Ran]) -> None:
    env = {"STANDIN_FAULT": "nvml-refuses"}

    ran = suite("colab-no-path", str(SUITE / "test_process.py"), env=env)

    assert ran.named("passed") == {
        "test_a_forked_child_is_told_and_a_spawned_one_renders",
        "test_a_child_that_was_forked_early_renders",
    }
    assert ran.named("failed") == set(), ran.text


def test_a_run_in_parts_loses_nothing(suite: Callable[..., Ran]) -> None:
    devices, glx = (str(SUITE / f"test_{name}.py") for name in ("devices", "glx"))
    before = suite("container-graphics", devices, "-k", "nvmls").result

    both = suite("container-graphics", devices, glx, "--gpu-limit", "0")

    (passed,) = before.tests
    assert passed.outcome == "passed"
    assert both.result.tests[0] == passed
    others = [what for name, what in both.outcomes.items() if name != passed.test]
    reason = "not run to its end: the time of --gpu-limit is used up"
    assert set(others) == {("skipped", reason)}


def test_a_run_that_is_cut_off_keeps_what_it_has(python: Any, tmp_path: Path) -> None:
    hidden = "test_a_context_is_on_the_gpu_that_the_variable_gives[empty]"
    hanging = "test_direct_egl_opens_the_driver_in_its_own_place"
    tests = [f"{SUITE / 'test_devices.py'}::{hidden}", f"{SUITE / 'test_egl.py'}::{hanging}"]
    options = ["-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner"), "--gpu-quick"]
    folder = tmp_path / "results"
    command = ["-c", PYTEST, *options, "--gpu-results", str(folder), *tests]

    done = python(
        "colab-no-path", CUT, str(folder), *command,
        env=WITHOUT_PLUGINS | {"STANDIN_FAULT": "hang"}, check=False,
    )  # fmt: skip

    assert done.survivors == ()
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout
    (path,) = folder.iterdir()
    tested = [(test.test, test.outcome) for test in results.load(path).tests]
    assert (hidden, "passed") in tested
    assert (hanging, "passed") not in tested


def test_what_hangs_is_ended_with_all_that_it_started_and_twice_is_enough() -> None:
    patience = Patience()
    # It holds the pipe's end, too.
    argv = ["sh", "-c", "sleep 1000 & echo $!; wait"]

    for _ in range(MOST_HANGS):
        assert patience.lost() is None
        with pytest.raises(pytest.fail.Exception, match=r"^it did not end within 0\.2 s, and was"):
            patience.run(argv, dict(os.environ), 0.2)

    assert patience.lost() == "not run: 2 programs hung before, and each costs minutes"


def test_what_a_machine_cannot_show_is_skipped_with_the_reason(suite: Callable[..., Ran]) -> None:
    ran = suite("glx-only", str(SUITE / "test_egl.py"), str(SUITE / "test_glx.py"))

    skipped = [outcome for name, outcome in ran.outcomes.items() if "glx" not in name]
    assert set(skipped) == {("skipped", "libEGL_nvidia.so.0 is not on this machine")}
    assert ran.named("passed") == {
        "test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else"
    }


@pytest.mark.parametrize(
    ("machine", "test", "reason"),
    [
        (
            "package",
            "test_a_missing_icd_is_no_obstacle",
            "an ICD is installed here: libglvnd lists NVIDIA's devices by itself",
        ),
        (
            "no-xvfb",
            "test_nvidias_glx_serves_over_a_display_that_lets_in_nobody_else",
            "Xvfb is not on PATH",
        ),
        (
            "no-libegl",
            "test_a_missing_icd_is_no_obstacle",
            "libEGL.so.1 cannot be opened: libEGL.so.1: cannot open shared object file: No such "
            "file or directory",
        ),
    ],
)
def test_a_claim_that_needs_more_is_skipped_where_that_is_not(
    suite: Callable[..., Ran], machine: str, test: str, reason: str
) -> None:
    ran = suite(machine, str(SUITE), "-k", test)

    assert ran.outcomes == {test: ("skipped", reason)}


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (
            "no-nvidia",
            "driver-absent: no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, "
            "and no kernel module is loaded",
        ),
        (
            "compute-only",
            "userland-absent: an NVIDIA GPU is there (kernel module 550.54.15), but "
            "libEGL_nvidia.so.0 is in none of the directories searched",
        ),
        ("mig", "mig: NVIDIA Stand-in GPU 0 is cut into slices, which have no graphics"),
    ],
)
def test_without_a_gpu_every_test_is_skipped_in_one_line_with_the_reason(
    suite: Callable[..., Ran], machine: str, reason: str
) -> None:
    ran = suite(machine)

    assert ran.status == 0
    assert ran.files == []
    lines = [line for line in ran.text.splitlines() if line.startswith("SKIPPED")]
    assert len(lines) == 1, ran.text
    assert lines[0].endswith(f": {reason}")
    assert "passed" not in ran.text


# ---- the results, and the page -----------------------------------------------------------------


def a_result(**fields: Any) -> results.Result:
    """What a run on a GPU might have given."""
    skipped, passed = list(page.claims().items())[:2]
    figures = (
        results.Figure("first context", 0.01234, "s"),
        results.Figure("triangles", 1234567.0, "triangles/s"),
        results.Figure("seen", True, None),
        results.Figure("vendor", "A|B", None),
    )
    usual: dict[str, Any] = dict.fromkeys(results.Result._fields, "x")
    usual |= {"schema_version": 1, "gpus": 1, "stand_in": False, "quick": False}
    usual |= {"date": "2026-01-02T03:04:05+00:00", "driver": "550.54.15", "gpu": "Tesla T4"}
    usual |= {"moderngl_colab": "0.1.0", "code": results.code()}
    usual["tests"] = (
        results.Tested(*skipped, "skipped", "no Mesa", ()),
        results.Tested(*passed, "passed", None, figures),
    )
    return results.Result(**usual | fields)


def written(folder: Path, result: results.Result) -> Path:
    """A result as a file."""
    return results.add(result, folder)


def everything(**others: results.Tested) -> tuple[results.Tested, ...]:
    """Every case of every claim: passed, but for these."""
    return tuple(
        others.get(name) or results.Tested(case, claim, "passed", None, ())
        for name, claim in page.claims().items()
        for case in sorted(page.cases()[name])
    )


def failing(reason: str) -> dict[str, results.Tested]:
    """That the claim of GLX failed."""
    return {GLX: results.Tested(GLX, page.claims()[GLX], "failed", reason, ())}


def summary(*shown: results.Result) -> str:
    """What the page says before what each result gave."""
    return page.render(shown).partition("\n## ")[2].partition("\n## Driver")[0]


def of(result: results.Result) -> str:
    """How the page names the code of a result."""
    other = "" if result.code == results.code() else ", other code than this page's"
    return f"moderngl_colab {result.moderngl_colab} (`{result.code}`{other})"


def test_the_page_is_what_is_made_of_the_results_that_are_kept() -> None:
    assert page.PAGE.read_text() == page.render(page.kept())


def test_the_page_says_what_is_not_proven_and_what_came_of_the_rest() -> None:
    skipped, passed, *others = page.claims().values()

    text = page.render([a_result()])

    missing = text.partition("## Not proven on a GPU\n\n")[2].partition("\n\n")[0]
    assert missing.splitlines() == [f"- {claim}" for claim in (skipped, *others)]
    assert "\n\nAll else has been proven on a GPU.\n\n## Driver" in text
    assert "Nothing has been run" not in text
    assert "## Failed" not in text
    code = f"moderngl_colab 0.1.0 (`{results.code()}`)"
    heading = "## Driver 550.54.15: Tesla T4, 2026-01-02"
    assert f"{heading}\n\n1 passed, 1 skipped, by {code}. GPUs: 1; " in text
    assert f"| {skipped} | skipped: no Mesa |  |" in text
    assert (
        f"| {passed} | passed | first context: 0.0123 s; triangles: 1,234,567 triangles/s;"
        " seen: yes; vendor: A\\|B |"
    ) in text
    assert "- " not in page.render([]).partition("Nothing has been run on a physical GPU yet:")[0]


@pytest.mark.parametrize(
    ("outcomes", "is_proven"),
    [
        ("passed passed passed passed", True),
        ("passed passed passed skipped", False),
        ("skipped skipped skipped skipped", False),
        ("passed passed failed passed", False),
        ("passed passed passed", False),
    ],
)
def test_a_claim_is_proven_where_every_case_passed(outcomes: str, is_proven: bool) -> None:
    name = "test_egls_ordinals_follow_the_variable"
    claim = page.claims()[name]
    cases = ("unset", "0", "a UUID", "empty")
    tests = tuple(
        results.Tested(f"{name}[{case}]", claim, outcome, "why" * (outcome != "passed") or None, ())
        for case, outcome in zip(cases, outcomes.split(), strict=False)
    )

    text = page.render([a_result(tests=tests)])

    assert page.cases()[name] == {f"{name}[{case}]" for case in cases}
    assert (f"\n- {claim}\n" not in text) == is_proven
    source = f"2026-01-02, driver 550.54.15, {of(a_result())}"
    failed = f"## Failed on a GPU\n\n- {source}: {claim} `{name}[a UUID]`: why\n\n"
    assert (failed in text) == ("failed" in outcomes)


def test_every_claim_is_proven_where_one_result_of_this_code_proves_them_all() -> None:
    assert summary(a_result(tests=everything())) == (
        "Not proven on a GPU\n\nEvery claim has been proven on a GPU.\n"
    )


def test_what_only_other_code_has_proven_is_said_to_be_of_other_code() -> None:
    before = a_result(tests=everything(), code="0123456789ab", moderngl_colab="0.0.1")

    assert summary(before) == (
        "Not proven on a GPU\n\n"
        "Every claim has been proven on a GPU; not all of it by this page's code.\n"
    )
    other = "moderngl_colab 0.0.1 (`0123456789ab`, other code than this page's)"
    assert f"\n\n{len(everything())} passed, by {other}. GPUs: 1; " in page.render([before])
    assert "other code" not in page.render([a_result(tests=everything())])


def test_a_claim_that_was_proven_and_fails_later_is_shown_with_both_dates(tmp_path: Path) -> None:
    before = a_result(tests=everything(), date="2026-01-01", code="0123456789ab")
    tests = everything(**failing("all are let in"))
    after = a_result(tests=tests, date="2026-06-01", moderngl_colab="0.2.0")

    page.keep([written(tmp_path / "before", before), written(tmp_path / "after", after)], tmp_path)

    assert page.kept(tmp_path) == [after, before]
    assert summary(after, before) == (
        f"Failed on a GPU\n\n- 2026-06-01, driver 550.54.15, {of(after)}: {page.claims()[GLX]} "
        f"`{GLX}`: all are let in (last passed: 2026-01-01, driver 550.54.15, {of(before)})\n\n"
        "## Not proven on a GPU\n\n"
        "Every claim has passed in a result, but see what failed; not all of it by this page's "
        "code.\n"
    )


def test_a_claim_that_failed_on_one_driver_is_not_told_to_be_proven_by_another() -> None:
    passed = a_result(tests=everything())
    failed = a_result(tests=everything(**failing("no")), driver="580.1", date="2026-01-01")

    assert summary(failed, passed) == (
        f"Failed on a GPU\n\n- 2026-01-01, driver 580.1, {of(failed)}: {page.claims()[GLX]} "
        f"`{GLX}`: no (last passed: 2026-01-02, driver 550.54.15, {of(passed)})\n\n"
        "## Not proven on a GPU\n\nEvery claim has passed in a result, but see what failed.\n"
    )


def test_a_pass_of_what_was_claimed_before_proves_nothing_of_what_is_claimed_today() -> None:
    easier = results.Tested(GLX, "GLX draws something.", "passed", None, ())
    result = a_result(tests=everything(**{GLX: easier}))

    assert page.proven(result) == set(page.claims()) - {GLX}
    assert summary(result) == (
        f"Not proven on a GPU\n\n- {page.claims()[GLX]}\n\nAll else has been proven on a GPU.\n"
    )


def test_what_failed_is_not_undone_by_a_pass_of_the_same_code(tmp_path: Path) -> None:
    failed = a_result(tests=everything(**failing("no")), date="2026-01-01")
    passed = a_result(tests=everything())
    paths = [written(tmp_path / "1", failed), written(tmp_path / "2", passed)]

    for number, order in enumerate((paths, paths[::-1])):
        folder = tmp_path / f"kept-{number}"
        page.keep(order, folder)

        assert page.kept(folder) == [a_result(tests=everything(**failing("no")))]


def test_every_result_is_kept_the_newest_driver_first(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shown = [
        a_result(driver="1000.1", date="2025-01-01"),
        a_result(date="2026-02-01", gpu="NVIDIA L4"),
        a_result(date="2026-01-01", code="0123456789ab"),
        a_result(date="2025-12-01"),
    ]
    paths = [written(tmp_path / str(number), each) for number, each in enumerate(shown)]

    for order in (paths, paths[::-1]):
        page.keep(order, kept)

        assert page.kept(kept) == shown
        assert sorted(path.name for path in kept.iterdir()) == [
            "1000.1-Tesla-T4.json",
            "550.54.15-NVIDIA-L4.json",
            "550.54.15-Tesla-T4-2.json",
            "550.54.15-Tesla-T4.json",
        ]


def test_parts_of_one_result_are_put_together_and_none_of_other_code(tmp_path: Path) -> None:
    skipped, passed = a_result().tests
    lost = results.Tested(passed.test, passed.claim, "skipped", "no time", ())
    parts = [
        a_result(tests=(passed,), date="2026-01-01"),
        a_result(tests=(skipped, lost), date="2026-01-02"),
        a_result(tests=(skipped, lost), date="2026-01-03", code="0123456789ab"),
    ]

    page.keep((written(tmp_path / str(n), part) for n, part in enumerate(parts)), tmp_path / "kept")

    whole = a_result(tests=(passed, skipped), date="2026-01-02")
    assert page.kept(tmp_path / "kept") == [parts[2], whole]
    # Also where another one between them was let go.
    kept = tmp_path / "few"
    page.keep((written(tmp_path / f"few{n}", parts[n]) for n in (2, 0)), kept)
    next(path for path in kept.iterdir() if results.load(path) == parts[2]).unlink()
    page.keep([written(tmp_path / "last", parts[1])], kept)
    assert page.kept(kept) == [whole]


def test_an_editors_lock_is_no_code() -> None:
    before = results.code()
    lock = SUITE / f".#lock-of-{os.getpid()}.py"
    lock.symlink_to("somebody@some.host.1")
    try:
        assert results.code() == before
    finally:
        lock.unlink()


def test_of_all_files_or_of_none_the_page_is_made(tmp_path: Path) -> None:
    suite = tmp_path / "tests" / "gpu"
    left = shutil.ignore_patterns("kept", "__pycache__")
    for name in ("gpu", "benchmarks"):
        shutil.copytree(SUITE.parent / name, suite.parent / name, ignore=left)
    (tmp_path / "docs").mkdir()
    path = written(tmp_path, a_result(tests=everything()))

    def make(*files: str) -> tuple[int, str]:
        argv = [sys.executable, str(suite / "page.py"), *files]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert make(path.name, "nope.json") == (
        1,
        "page.py: error: [Errno 2] No such file or directory: 'nope.json'\n",
    )
    assert not (suite / "kept").exists()
    assert list((tmp_path / "docs").iterdir()) == []
    assert make(path.name) == (0, "")
    assert (tmp_path / "docs" / "gpu-results.md").read_text() == (
        page.render([a_result(tests=everything())])
    )
    # What was proven stays so, but by other code.
    (suite / "more.py").touch()
    assert make() == (0, "")
    assert "by this page's code.\n" in (tmp_path / "docs" / "gpu-results.md").read_text()


def test_what_another_run_has_left_is_not_written_over(tmp_path: Path) -> None:
    one, other = a_result(), a_result(python="3.14.0")
    unreadable = tmp_path / "550.54.15-Tesla-T4.json"
    unreadable.write_text("{")

    paths = [results.add(each, tmp_path) for each in (one, other, one, other)]

    names = [path.name.removeprefix("550.54.15-Tesla-T4") for path in paths]
    assert names == ["-2.json", "-3.json", "-2.json", "-3.json"]
    assert unreadable.read_text() == "{"
    assert [results.load(path) for path in paths[:2]] == [one, other]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"stand_in": True}, "it is of the stand-in for NVIDIA's driver, which proves nothing"),
        ({"gpu": "NVIDIA Stand-in GPU 0"}, "it is of the stand-in for NVIDIA's driver, which "
         "proves nothing"),
        ({"quick": True}, "it is of a quick run, which proves nothing"),
        ({"schema_version": 2}, "schema_version is 2; 1 can be read"),
    ],
)  # fmt: skip
def test_what_proves_nothing_is_refused(tmp_path: Path, fields: Any, why: str) -> None:
    path = written(tmp_path, a_result(**fields))

    for attempt in (lambda: page.keep([path], tmp_path / "kept"), lambda: page.kept(tmp_path)):
        with pytest.raises(ValueError, match=re.escape(str(path))) as error:
            attempt()
        assert str(error.value) == f"{path}: {why}"
    assert not (tmp_path / "kept").exists()


def test_what_is_no_result_is_refused_with_the_place(tmp_path: Path) -> None:
    path = written(tmp_path, a_result())
    whole = json.loads(path.read_text())

    def refused(text: str) -> str:
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(str(path))) as error:
            results.load(path)
        return str(error.value).removeprefix(f"{path}: ")

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in whole.items() if key != name}

    tested = whole["tests"][1]
    assert refused("[]") == "it is no object"
    assert refused("{").startswith("Expecting property name")
    assert refused(json.dumps(without("driver"))) == "driver is missing"
    assert refused(json.dumps(whole | {"host": "x"})) == "host is unknown"
    assert refused(json.dumps(whole | {"gpus": True})) == "gpus is True"
    assert refused(json.dumps(without("code"))) == "code is missing"
    assert refused(json.dumps(whole | {"tests": None})) == "tests is no list"
    assert refused(json.dumps(whole | {"tests": [tested | {"outcome": "won"}]})) == (
        "tests[0].outcome is 'won', and none of failed, passed, skipped"
    )
    figure = tested["figures"][0] | {"value": []}
    assert refused(json.dumps(whole | {"tests": [tested | {"figures": [figure]}]})) == (
        "tests[0].figures[0].value is []"
    )
