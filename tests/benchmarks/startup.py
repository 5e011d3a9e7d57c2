"""What moderngl_colab costs beside moderngl: importing it, the first context, every later one.

    python tests/benchmarks/startup.py [--runs N]

A line of the table is one thing done by moderngl_colab ("ours") and by moderngl alone ("raw"):
the medians of their runs in milliseconds, ours over raw, and what that is meant to be at most.
Only the ratio says something: the sides take turns, so that a machine which is slow or busy is
so for both. On a busy one even the ratio needs more runs. Nothing here passes or fails.

import   in a fresh interpreter, against ``import moderngl``. ``import moderngl_colab`` loads
         moderngl when it is needed; the second line loads it, and everything else, at once.
first    in a fresh process that has imported moderngl: ``moderngl_colab.get_gpu_context()`` and
         all that it imports, moderngl_colab among it, against
         ``moderngl.create_context(standalone=True, backend="egl")`` and its ``.info``.
later    the same two calls in one process that has made both before. Ours comes first of all, so
         that raw finds what ours found and both make theirs on the same device. The sides take
         turns in blocks, whose first call is not counted: raw starts ldconfig, and what runs next
         finds the processor's caches cold. Contexts are unbound and released between the calls;
         glcontext leaves a released one current, and the next call would pay for its end.
probe    the first and the later calls once more, with ``probe=True`` ("ours") against
         ``probe=False`` ("raw"): the first one tries the driver in another process.

The machines are simulated by tests/rig: "no-nvidia" has Mesa alone, "package" a stand-in for
NVIDIA's driver where raw reaches it too, "colab" one where only ours does, by EGL, and "glx-only"
one that ours reaches by GLX. The stand-in renders by Mesa, so its contexts cost what Mesa's do.
Where none can be simulated, this one is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

TESTS = Path(__file__).resolve().parent.parent
SIMULATED = ("no-nvidia", "package", "colab")
PROBED = ("colab", "glx-only")  # by EGL, by GLX
SIDES = ("ours", "raw")

Run = Callable[[str], str]  # Python code, run in a fresh process, to what it printed

IMPORT = """
import time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
IMPORTS = ("import moderngl_colab", "from moderngl_colab import get_gpu_context")

# SoftwareRenderingWarning is a RuntimeWarning; naming it would load what is to be measured.
FIRST = """
import json, time, warnings
import moderngl
warnings.simplefilter("ignore", RuntimeWarning)
start = time.perf_counter()
{statements}
seconds = time.perf_counter() - start
print(json.dumps([seconds, context.info["GL_RENDERER"]]))
"""
OURS = "import moderngl_colab; context = moderngl_colab.get_gpu_context()"
PROBING, TRUSTING = (OURS.replace("()", f"(probe={probe})") for probe in (True, False))
RAW = 'context = moderngl.create_context(standalone=True, backend="egl"); context.info'

LATER = """
import json, time, warnings
import moderngl, moderngl_colab
warnings.simplefilter("ignore", RuntimeWarning)

def ours():
    {ours}
    return context

def raw():
    {raw}
    return context

def timed(make):
    start = time.perf_counter()
    context = make()
    seconds = time.perf_counter() - start
    renderer = context.info["GL_RENDERER"]
    with context:
        pass  # leaves nothing current
    context.release()
    return seconds, renderer

blocks = [(make, [timed(make) for _ in range(5)][1:]) for _ in range(4) for make in (ours, raw)]
print(json.dumps([(make.__name__, block) for make, block in blocks[2:]]))
"""


class Measurements:
    """Seconds by what was done, where and by whom; and what was rendered on."""

    def __init__(self) -> None:
        self._seconds: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.renderers: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def add(
        self, what: str, machine: str, side: str, seconds: Iterable[float], renderer: str = ""
    ) -> None:
        """Keep some measurements of one side."""
        self._seconds[what, machine, side] += seconds
        if renderer:
            self.renderers[what, machine][side] = renderer

    def row(self, what: str, machine: str, target: float) -> str:
        """One line of the table."""
        ours, raw = (1000 * median(self._seconds[what, machine, side]) for side in SIDES)
        return _line(what, machine, f"{ours:.2f}", f"{raw:.2f}", f"{ours / raw:.2f}", f"{target}")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15, help="processes of each kind; default 15")
    runs = max(1, parser.parse_args().runs)
    with tempfile.TemporaryDirectory(prefix="startup-") as bytecode:
        here, simulated, note = _places(bytecode)
        kept = Measurements()
        for run in range(-1, runs):
            # The first round compiles to bytecode and reads the files once; it is thrown away.
            measured = kept if run >= 0 else Measurements()
            _imports(here, measured)
            for machine, place in simulated.items():
                if machine != PROBED[-1]:
                    _contexts("context", machine, place, measured, (OURS, RAW))
                if machine in PROBED or note is not None:
                    _contexts("probe", machine, place, measured, (PROBING, TRUSTING))
    if note is not None:
        print(f"Measured on this machine as it is: {note}\n")
    print(_line("what", "machine", "ours (ms)", "raw (ms)", "ratio", "target"))
    for statement in IMPORTS:
        print(kept.row(statement, "any", 1.15))
    targets = {"first context": 0.8, "later context": 0.4, "first probe": 5, "later probe": 1.05}
    for what, target in targets.items():
        for machine in (machine for made, machine in kept.renderers if made == what):
            print(kept.row(what, machine, target))
    print()
    for (what, machine), renderers in kept.renderers.items():
        on = ", ".join(f"{side} on {renderer}" for side, renderer in renderers.items())
        print(f"{what}, {machine}: {on}")


def _imports(run: Run, measured: Measurements) -> None:
    for statement in IMPORTS:
        for side, timed in zip(SIDES, (statement, "import moderngl"), strict=True):
            measured.add(statement, "any", side, [float(run(IMPORT.format(statement=timed)))])


def _contexts(
    what: str, machine: str, run: Run, measured: Measurements, calls: tuple[str, str]
) -> None:
    for side, statements in zip(SIDES, calls, strict=True):
        seconds, renderer = json.loads(run(FIRST.format(statements=statements)))
        measured.add(f"first {what}", machine, side, [seconds], renderer)
    for side, block in json.loads(run(LATER.format(ours=calls[0], raw=calls[1]))):
        for seconds, renderer in block:
            measured.add(f"later {what}", machine, side, [seconds], renderer)


def _places(bytecode: str) -> tuple[Run, dict[str, Run], str | None]:
    """Here; the machines by name; and why they are not simulated ones, if they are not."""
    sys.path.insert(0, str(TESTS))
    from rig import machines

    # As if installed: both sides have bytecode.
    env = {
        "PYTHONPATH": str(TESTS.parent),
        "PYTHONPYCACHEPREFIX": bytecode,
        "PYTHONDONTWRITEBYTECODE": "",
    }

    def argv(code: str) -> list[str]:
        return [sys.executable, "-P", "-c", code]

    def here(code: str) -> str:
        done = subprocess.run(
            argv(code), env=os.environ | env, capture_output=True, text=True, check=False
        )
        return _printed(done)

    def inside(machine: machines.Machine) -> Run:
        return lambda code: _printed(machines.run(machine, argv(code), env=env))

    why = machines.available()
    if why is not None:
        return here, {"this machine": here}, why
    return here, {name: inside(machines.MACHINES[name]) for name in (*SIMULATED, PROBED[-1])}, None


def _printed(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        sys.exit(f"a timed program ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _line(what: str, machine: str, *numbers: str) -> str:
    return f"{what:<43}{machine:<14}" + "".join(f"{number:>10}" for number in numbers)


if __name__ == "__main__":
    main()
