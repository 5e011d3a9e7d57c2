"""What a report says, block by block, before it is text or HTML."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from moderngl_colab.diagnostics.data import STRATEGIES

__all__ = ["Block", "blocks", "cause", "findings_title", "one_line", "verdict"]

Data = Mapping[str, Any]
Rows = Iterator[tuple[str, str]]

_LABELS = {"error": "cause", "warning": "warning", "note": "note"}
_LAST_WORDS = 8
_FLAGS = {
    "gvisor": "gVisor",
    "jetson": "Jetson",
    "conda": "conda's Python",
    "privileged": "real and effective user or group differ",
    "late": "libEGL read its vendors before, without NVIDIA's",
    "forked": "forked after a context was made",
    "elsewhere": "contexts belong to another thread",
}


class Block(NamedTuple):
    """Labelled lines under a heading."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """Label and text; an empty label goes on with the one before."""


def verdict(data: Data) -> str:
    """The line that a report begins and ends with."""
    attempts = data["attempts"]
    if data["verdict"] == "untried":
        return f"not tried: {_untried(data['findings'])}"
    tried = [attempt["strategy"] for attempt in attempts]
    part = f" (tried: {', '.join(tried)})" if 0 < len(tried) < len(STRATEGIES) else ""
    if data["verdict"] == "none":
        return f"no OpenGL context can be made{part}"
    software = data["verdict"] == "software"
    best = next(a for a in attempts if a["pixels"] and a["software"] == software)
    renderer = one_line(best["renderer"])
    if software:
        return f"software only: {renderer}, on the CPU{part}"
    return f"GPU: {renderer} ({one_line(best['vendor'])}) by {best['strategy']}, proven by pixels"


def _untried(findings: list[Data]) -> str:
    match sum(finding["severity"] == "error" for finding in findings):
        case 0:
            doubt = any(finding["severity"] == "warning" for finding in findings)
            return f"{'something may keep' if doubt else 'nothing seen keeps'} the GPU away"
        case 1:
            return "1 finding keeps the GPU away"
        case number:
            return f"{number} findings keep the GPU away"


def cause(data: Data) -> str | None:
    """The finding that matters most, in a line; None where there is none."""
    for finding in data["findings"]:
        label = _LABELS[finding["severity"]]
        return f"{label}: {finding['code']}: {one_line(finding['summary'])}"
    return None


def findings_title(finding: Data) -> str:
    """A finding in a line."""
    return f"{finding['code']} ({finding['severity']}): {one_line(finding['summary'])}"


def one_line(text: str) -> str:
    """A text without line ends and without characters that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def blocks(data: Data) -> tuple[Block, ...]:
    """The machine, its GPUs and what was tried. The findings are told apart from these."""
    return tuple(
        Block(title, tuple((label, one_line(text)) for label, text in rows))
        for title, rows in (
            ("machine", _machine(data)),
            ("GPUs", _gpus(data["gpus"])),
            ("strategies", _strategies(data["attempts"])),
        )
    )


def _machine(data: Data) -> Rows:
    machine, versions = data["machine"], data["versions"]
    signs = [words for flag, words in _FLAGS.items() if machine[flag]]
    yield "platform", ", ".join([machine["platform"], *signs])
    yield "system", machine["distribution"] or machine["system"]
    for name in ("host", "user"):
        if name in machine:
            yield name, machine[name]
    yield "Python", versions["python"]
    own = {name: version for name, version in versions.items() if name != "python"}
    yield (
        "packages",
        ", ".join(f"{name} {version or '(absent)'}" for name, version in own.items()),
    )
    if machine["system"] != "linux":
        return
    yield from _driver(data["driver"], machine["examined"])
    yield from _nodes(machine["nodes"])
    yield from _libraries(machine)
    yield from _labelled("EGL vendors", map(_vendor, machine["vendors"]), "none")
    yield "Xvfb", machine["xvfb"] or "not on the PATH"
    for label, field in (("installable", "packages"), ("stubs", "stubs")):
        packages = (f"{package['name']}={package['version']}" for package in machine[field])
        yield from _labelled(label, packages)
    variables = (f"{variable['name']}={variable['value']}" for variable in machine["environment"])
    yield from _labelled("variables", variables, "none that matters")


def _labelled(label: str, lines: Iterator[str], none: str | None = None) -> Rows:
    first = True
    for line in lines:
        yield (label if first else ""), line
        first = False
    if first and none is not None:
        yield label, none


def _driver(driver: Data, examined: bool) -> Rows:
    module, nvml = driver["kernel_module"], driver["nvml"]
    yield "kernel module", f"{module['version']} ({module['path']})" if module else "none loaded"
    yield from _labelled("userland", _userlands(driver["copies"]), "none found")
    if nvml is not None:
        error = (nvml["error"] or "").removeprefix("NVML: ")
        yield "NVML", error or nvml["version"] or "no version"
    else:
        yield "NVML", "no answer" if examined else "not asked"
    if driver["compatible"] is not None:
        known = {"kernel module": module["version"], "userland": driver["userland"]}
        known |= {"NVML": nvml["version"]} if nvml is not None else {}
        told = ", ".join(f"{half} {version}" for half, version in known.items() if version)
        yield "versions", f"{'agree' if driver['compatible'] else 'differ'}: {told}"
    glx = driver["glx_over_xvfb"]
    version = driver["userland"] or (module and module["version"])
    words = f"known to work from {glx['works_from']} on, refused by {glx['refused_by']}"
    yield "GLX over Xvfb", f"{words}; this is {version}" if version else words


def _userlands(copies: list[Data]) -> Iterator[str]:
    """Each version and directory once."""
    places: dict[tuple[str, str, bool], list[str]] = {}
    for copy in copies:
        version = copy["version"] or "unknown version"
        place = (version, os.path.dirname(copy["path"]), copy["chosen"])
        places.setdefault(place, []).append(copy["library"])
    for (version, directory, chosen), libraries in places.items():
        mark = ", chosen" if chosen else ""
        yield f"{version} in {directory}: {' and '.join(dict.fromkeys(libraries))}{mark}"


def _nodes(nodes: list[Data]) -> Rows:
    usable = [node["path"] for node in nodes if node["error"] is None]
    lines = [", ".join(usable)] if usable else []
    lines += [
        f"{node['path']}: {node['error']} (mode {node['mode']}, group {node['group']})"
        for node in nodes
        if node["error"] is not None
    ]
    yield from _labelled("device nodes", iter(lines), "none")


def _libraries(machine: Data) -> Rows:
    libraries = {library["name"]: library for library in machine["libraries"]}
    for label, name in (("libEGL", "libEGL.so.1"), ("libGL", "libGL.so.1")):
        if (library := libraries.pop(name, None)) is not None:
            yield label, library["error"] or library["path"] or "open"
        else:
            yield label, "no answer" if machine["examined"] else "not asked"
    closed = [library for library in libraries.values() if library["error"] is not None]
    refused = (f"{library['name']}: {_without_name(library)}" for library in closed)
    yield from _labelled("not opened", refused)
    for question in machine["unanswered"]:
        yield "not told", f"{question['name']}: the process that asked for it {question['end']}"
    yield from _labelled("stderr", iter(machine["stderr"][-_LAST_WORDS:]))


def _without_name(library: Data) -> str:
    """What the loader says of a library, which mostly begins with its name."""
    return str(library["error"]).removeprefix(f"{library['name']}: ")


def _vendor(vendor: Data) -> str:
    if vendor["waits"]:
        return f"{vendor['path']}: no regular file, libglvnd may wait for it"
    if vendor["library"] is None:
        return f"{vendor['path']}: no ICD"
    return f"{vendor['path']}: {vendor['library']}, {vendor['found'] or 'not found'}"


def _gpus(gpus: list[Data]) -> Rows:
    for number, gpu in enumerate(gpus):
        memory, mig = gpu["memory_bytes"], gpu["mig"]
        facts = [gpu["name"] or "name unknown"]
        facts += [] if memory is None else [f"{memory / 2**30:.1f} GiB"]
        facts += [] if gpu["driver"] is None else [f"driver {gpu['driver']}"]
        facts += [] if mig is None else [f"MIG {'on' if mig else 'off'}"]
        # The last ones as device= takes them.
        for label, field in (
            ("EGL device ", "egl_device"), ("", "render_node"),
            ("cuda:", "cuda_ordinal"), ("pci:", "pci_bus_id"), ("", "uuid"),
        ):  # fmt: skip
            facts += [] if gpu[field] is None else [f"{label}{gpu[field]}"]
        yield str(number), ", ".join(facts)
    if not gpus:
        yield "none seen", ""


def _strategies(attempts: list[Data]) -> Rows:
    for attempt in attempts:
        yield attempt["strategy"], _attempt(attempt)
        if not attempt["pixels"]:
            for line in attempt["stderr"][-_LAST_WORDS:]:
                yield "", f"stderr: {line}"
    if not attempts:
        yield "none tried", ""


def _attempt(attempt: Data) -> str:
    if not attempt["pixels"]:
        return f"{attempt['outcome']}: {attempt['reason']}"
    where = "CPU" if attempt["software"] else "GPU"
    what = f"{attempt['renderer']} ({attempt['vendor']}), OpenGL {attempt['version']}"
    return f"{where}, pixels right, {attempt['seconds']:.2f} s: {what}{_afterwards(attempt)}"


def _afterwards(attempt: Data) -> str:
    """What happened to the process after the picture was there."""
    if attempt["timed_out"]:
        return "; then it did not end"
    return "" if attempt["signal"] is None else f"; then it was ended by signal {attempt['signal']}"
