"""On every simulated machine, in each state of the process: the right outcome, the right reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from rig import driver, machines, remedies

LIB = str(driver.multiarch()).removeprefix("/usr")  # as the loader's cache spells it
MORE = "  more: python -m moderngl_colab"
NVIDIA, MESA = "NVIDIA Corporation", "Mesa"  # Mesa's own string differs between its versions

LOADER = "the loader says: {}: cannot open shared object file: No such file or directory"
NO_LIBEGL = ("unavailable", "dispatch-absent", LOADER.format("libEGL.so.1"), remedies.DISPATCH)
NO_LIBGL = ("unavailable", "dispatch-absent", LOADER.format("libGL.so.1"), remedies.DISPATCH)
NO_XVFB = ("unavailable", "no-xvfb", "there is no Xvfb on the PATH", remedies.XVFB)
NO_GPU = (
    "unavailable",
    "driver-absent",
    "no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, and no kernel module is "
    "loaded",
    remedies.GPU,
)
NOT_GIVEN = (
    "unavailable",
    "driver-absent",
    "no NVIDIA GPU is given to this machine: there is no /dev/nvidia0, and kernel module 550.54.15 "
    "is loaded",
    remedies.GPU,
)
WSL2 = (
    "unavailable",
    "wsl2",
    "this is WSL2, where OpenGL reaches the GPU by Mesa's d3d12 and not by NVIDIA's driver",
    remedies.D3D12,
)


def absent(half: str, version: str = "") -> tuple[str, ...]:
    return (
        "unavailable",
        "userland-partial" if version else "userland-absent",
        f"an NVIDIA GPU is there (kernel module 550.54.15), but lib{half}_nvidia.so.0{version} is "
        "in none of the directories searched",
        remedies.GRAPHICS,
    )


def mismatch(half: str) -> tuple[str, ...]:
    return (
        "unavailable",
        "userland-mismatch",
        f"NVIDIA's kernel module is 550.54.15, but {LIB}/lib{half}_nvidia.so.0 is 535.104.05",
        remedies.GRAPHICS,
    )


def partial(half: str, sibling: str) -> tuple[str, ...]:
    return (
        "unavailable",
        "userland-partial",
        f"/usr/lib64-nvidia/lib{half}_nvidia.so.550.54.15 needs libnvidia-{sibling}.so.550.54.15, "
        "which none of the directories searched has",
        remedies.GRAPHICS,
    )


SLICED = "NVIDIA Stand-in GPU 0 is in MIG mode, and a MIG slice of a compute card has no graphics"
BAD_VALUE = "X error BadValue (integer parameter out of range for operation) (2)"


class Expected(NamedTuple):
    """Which strategy serves, and what the ones before it observed."""

    strategy: str | None
    before: tuple[tuple[str, ...], ...] = ()
    vendor: str = NVIDIA
    software: bool = False


def on_cpu(*before: tuple[str, ...]) -> Expected:
    return Expected("mesa", before, MESA, software=True)


ON_GPU = Expected("egl")

EXPECTED = {
    "no-nvidia": on_cpu(NO_GPU, NO_GPU),
    "colab": ON_GPU,
    "colab-no-path": ON_GPU,
    "container-graphics": ON_GPU,
    "package": ON_GPU,
    "compute-only": on_cpu(absent("EGL"), absent("GLX")),
    "gke": ON_GPU,
    "kaggle": ON_GPU,
    "glx-only": Expected("glx", (absent("EGL", " of version 550.54.15"),)),
    "no-libegl": Expected("glx", (NO_LIBEGL,)),
    "no-gl": Expected(
        None,
        (
            NO_LIBEGL,
            NO_LIBGL,
            (*NO_LIBEGL[:2], f"{NO_LIBEGL[2]}; by GLX: {NO_LIBGL[2]}", NO_LIBEGL[3]),
        ),
    ),
    "no-gl-no-nvidia": Expected(
        None,
        (
            NO_LIBEGL,
            NO_GPU,
            (*NO_LIBEGL[:2], f"{NO_LIBEGL[2]}; by GLX: {NO_LIBGL[2]}", NO_LIBEGL[3]),
        ),
    ),
    "no-libegl-no-nvidia": on_cpu(NO_LIBEGL, NO_GPU),
    "no-xvfb": on_cpu(absent("EGL", " of version 550.54.15"), NO_XVFB),
    "no-xvfb-no-nvidia": Expected(
        None,
        (
            NO_LIBEGL,
            NO_GPU,
            (*NO_LIBEGL[:2], f"{NO_LIBEGL[2]}; by GLX: {NO_XVFB[2]}", NO_LIBEGL[3]),
        ),
    ),
    "icd-dangling": on_cpu(absent("EGL"), absent("GLX")),
    "icd-broken-with-driver": ON_GPU,
    "icd-directory": ON_GPU,
    "icd-fifo": ON_GPU,
    "icd-huge": ON_GPU,
    "split": ON_GPU,
    "two-copies": ON_GPU,
    "mismatch": on_cpu(mismatch("EGL"), mismatch("GLX")),
    "partial": on_cpu(partial("EGL", "eglcore"), partial("GLX", "glcore")),
    "not-given": on_cpu(NOT_GIVEN, NOT_GIVEN),
    "userland-no-gpu": on_cpu(NO_GPU, NO_GPU),
    "wsl2": Expected("mesa", (WSL2, WSL2), "Microsoft Corporation"),
    "mig": on_cpu(
        ("unavailable", "mig", SLICED, remedies.WHOLE_GPU),
        (
            "failed",
            "mig",
            f"GLX over Xvfb: OpenGL 3.3: glXCreateContextAttribsARB: {BAD_VALUE}; {SLICED}",
            remedies.WHOLE_GPU,
        ),
    ),
    "old-nvidia-dir": ON_GPU,
    "singularity": ON_GPU,
}

# Raw moderngl needs libEGL and libGL for the context that is there before ours.
WITHOUT_RAW = {name for name in EXPECTED if name.startswith(("no-libegl", "no-gl"))}
WITHOUT_RAW |= {"no-xvfb-no-nvidia"}

STATES = [
    (name, state)
    for name in EXPECTED
    for state in ("clean", "raw", "raw-current")
    if state == "clean" or name not in WITHOUT_RAW
]


def test_every_simulated_machine_is_expected_to_do_something() -> None:
    assert set(EXPECTED) == set(machines.MACHINES)


@pytest.mark.parametrize(("name", "state"), STATES)
def test_each_machine_serves_by_the_right_strategy_and_says_why(
    chain: Callable[..., dict[str, Any]], mesa: str, name: str, state: str
) -> None:
    expected = EXPECTED[name]

    report = chain(name, state, again=1 if expected.strategy else 0)

    attempts = report["attempts"]
    assert [attempt["strategy"] for attempt in attempts] == ["egl", "glx", "mesa"]
    observed = [(a["outcome"], a["cause"], a["reason"], a["remedy"]) for a in attempts]
    reached = len(expected.before)
    assert observed[:reached] == list(expected.before)
    if expected.strategy is None:
        assert report["error"].startswith("GPUContextError: no OpenGL 3.3 context could be made:")
        return
    assert attempts[reached]["outcome"] == "selected"
    assert [a["outcome"] for a in attempts[reached + 1 :]] == ["skipped"] * (2 - reached)
    assert report["strategy"] == expected.strategy
    vendor = mesa if expected.vendor == MESA else expected.vendor
    assert report["vendor"] == report["current_vendor"] == vendor
    assert report["software"] is expected.software
    assert report["pixel"] == "ff0000"
    assert report["pixel_again"] == "00ffff"
    assert report["is_default"] is True
    assert report["warnings"] == ([software_warning(report)] if expected.software else [])


def software_warning(report: dict[str, Any]) -> list[str]:
    """The warning that a report's attempts must have led to, at the caller's line."""
    tried = [a for a in report["attempts"] if a["strategy"] != "mesa"]
    text = f"OpenGL renders on the CPU ({report['renderer']}), because:\n"
    text += "".join(f"  {a['strategy']}: {a['outcome']}: {a['reason']}\n" for a in tried)
    return ["SoftwareRenderingWarning", f"{text}  fix: {tried[0]['remedy']}\n{MORE}", "chain.py"]


@pytest.mark.parametrize(("name", "state"), STATES)
def test_each_machine_leaves_the_process_as_it_was(
    chain: Callable[..., dict[str, Any]], name: str, state: str
) -> None:
    over_xvfb = name in ("glx-only", "no-libegl", "no-libegl-no-nvidia")

    report = chain(name, state)

    assert report["changed"] == []
    # A display keeps a connection, a pipe and a name, a GLX context keeps its own connection.
    assert report["new_files"] == (4 if over_xvfb else 0)
    assert report["children"] == (["Xvfb"] if over_xvfb else [])


@pytest.mark.parametrize(
    ("name", "state"), [(n, s) for n, s in STATES if s != "clean" and EXPECTED[n].strategy]
)
def test_a_raw_context_that_was_there_before_goes_on_rendering(
    chain: Callable[..., dict[str, Any]], mesa: str, name: str, state: str
) -> None:
    ours = mesa if EXPECTED[name].vendor == MESA else EXPECTED[name].vendor
    # Only where a package installed the driver does raw moderngl reach the GPU by itself.
    raw = {"package": NVIDIA, "wsl2": ours}.get(name, mesa)

    report = chain(name, state)

    assert report["raw"] == [
        f"{raw} 00ff00",
        f"{ours} 00ff00",
        f"{raw} ff00ff",
        f"{ours} ff00ff",
        f"{raw} ffffff",
    ]


@pytest.mark.parametrize("name", ["no-nvidia", "compute-only", "no-gl", "mig"])
def test_with_software_forbidden_the_error_lists_every_attempt(
    chain: Callable[..., dict[str, Any]], mesa: str, name: str
) -> None:
    report = chain(name, "raw-current" if name != "no-gl" else "clean", allow_software=False)

    lines = ["GPUContextError: no OpenGL 3.3 context on a GPU could be made:"]
    for number, attempt in enumerate(report["attempts"], 1):
        lines.append(
            f"  {number}. {attempt['strategy']}: {attempt['outcome']}: {attempt['reason']}"
        )
        lines += [f"     fix: {attempt['remedy']}"] if attempt["remedy"] else []
    lines.append(MORE)
    assert report["error"] == "\n".join(lines)
    assert report["attempts"][2]["outcome"] == ("unavailable" if name == "no-gl" else "rejected")
    assert report["changed"] == []
    assert report["new_files"] == 0
    assert report["children"] == []
    assert report["warnings"] == []
    # What was current before the call is so after it, and goes on rendering.
    assert report.get("raw", []) == (
        [] if name == "no-gl" else [f"{mesa} ffff00", f"{mesa} ffffff"]
    )


def test_a_user_without_root_reaches_the_gpu(chain: Callable[..., dict[str, Any]]) -> None:
    if os.geteuid() != 0:
        report = chain("colab-no-path", "raw")
    else:
        report = chain("colab-no-path", "raw", uid=65534)

    assert report["strategy"] == "egl"
    assert report["pixel"] == "ff0000"
