"""tests/gpu, tried where no GPU is: in simulated machines, whose driver is a stand-in.

There it passes, and with a driver that is not what is claimed of drivers it fails; its JSON is
whole; and docs/gpu-results.md is what is made of the results that are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gpu import page, results

from rig import machines

SUITE = Path(__file__).parent / "gpu"
PYTEST = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
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


def test_on_a_machine_with_the_driver_every_claim_holds(suite: Callable[..., Ran]) -> None:
    ran = suite("colab-no-path", env={"STANDIN_MEMORY": "process"})

    assert ran.named("passed") == set(page.claims()), ran.text
    assert {outcome for outcome, _ in ran.outcomes.values()} == {"passed"}
    assert ran.status == 0
    result = ran.result
    assert (result.driver, result.gpu, result.gpus) == ("550.54.15", "NVIDIA Stand-in GPU 0", 1)
    assert (result.platform, result.stand_in, result.quick) == ("colab", True, True)
    assert [path.name for path in ran.files] == ["550.54.15-NVIDIA-Stand-in-GPU-0.json"]
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

    assert {outcome for outcome, _ in ran.outcomes.values()} == {"passed"}, ran.text
    figures = {figure.name: figure.value for figure in ran.result.tests[0].figures}
    assert (ran.result.gpus, figures["devices of NVIDIA"]) == (4, 4)


def test_with_a_driver_that_is_not_as_claimed_every_test_fails(suite: Callable[..., Ran]) -> None:
    faults = "mesa-vendor,glx-mesa-vendor,nonsense,blank"

    ran = suite("container-graphics", env={"STANDIN_GPUS": "4", "STANDIN_FAULT": faults})

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


def test_a_driver_of_whose_memory_nothing_is_used_fails(suite: Callable[..., Ran]) -> None:
    # Without STANDIN_MEMORY, NVML tells the same figures whatever is drawn.
    ran = suite("colab-no-path", str(SUITE / "test_process.py"), "-k", "gpus_memory")

    assert ran.named("failed") == {"test_what_is_drawn_into_is_seen_in_the_gpus_memory"}


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
            "the loader does not find libEGL.so.1",
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
    usual["tests"] = (
        results.Tested(*skipped, "skipped", "no Mesa", ()),
        results.Tested(f"{passed[0]}[a case]", passed[1], "passed", None, figures),
    )
    return results.Result(**usual | fields)


def written(folder: Path, result: results.Result) -> Path:
    """A result as a file."""
    return results.save(results.to_dict(result), folder)


def test_the_page_is_what_is_made_of_the_results_that_are_kept() -> None:
    assert page.PAGE.read_text() == page.render(page.kept())


def test_the_page_says_which_claims_were_never_run_and_what_came_of_the_others() -> None:
    skipped, passed, *others = page.claims().values()

    text = page.render([a_result()])

    never = text.partition("## Never run on a GPU\n\n")[2].partition("\n\n")[0]
    assert never.splitlines() == [f"- {claim}" for claim in (skipped, *others)]
    assert "No claim has been run" not in text
    assert "## Driver 550.54.15: Tesla T4\n\n2026-01-02: 1 passed, 1 skipped. GPUs: 1; " in text
    assert f"| {skipped} | skipped: no Mesa |  |" in text
    assert (
        f"| {passed} [a case] | passed | first context: 0.0123 s; triangles: 1,234,567 triangles/s;"
        " seen: yes; vendor: A\\|B |"
    ) in text
    assert "- " not in page.render([]).partition("No claim has been run on a physical GPU yet:")[0]


def test_of_each_driver_the_last_result_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    old, new = a_result(date="2026-01-01"), a_result(date="2026-02-01", gpu="NVIDIA L4")
    other = a_result(driver="1000.1")
    for number, each in enumerate((old, new, other)):
        page.keep(written(tmp_path / str(number), each), kept)

    assert page.kept(kept) == [other, new]
    assert sorted(path.name for path in kept.iterdir()) == [
        "1000.1-Tesla-T4.json",
        "550.54.15-NVIDIA-L4.json",
    ]
    with pytest.raises(ValueError, match=r"a later result of driver 550\.54\.15 is kept"):
        page.keep(written(tmp_path / "0", old), kept)


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

    for attempt in (lambda: page.keep(path, tmp_path / "kept"), lambda: page.kept(tmp_path)):
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
    assert refused(json.dumps(whole | {"tests": None})) == "tests is no list"
    assert refused(json.dumps(whole | {"tests": [tested | {"outcome": "won"}]})) == (
        "tests[0].outcome is 'won', and none of passed, failed, skipped"
    )
    figure = tested["figures"][0] | {"value": []}
    assert refused(json.dumps(whole | {"tests": [tested | {"figures": [figure]}]})) == (
        "tests[0].figures[0].value is []"
    )
