"""A report as plain data: what JSON, text and HTML are all made of."""

from __future__ import annotations

import errno
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import moderngl_colab
from moderngl_colab import _kernel, _nvml
from moderngl_colab.diagnostics import private
from moderngl_colab.findings.display import GLX_REFUSED, GLX_WORKS
from moderngl_colab.findings.finding import Finding
from moderngl_colab.machine import EGLDevice, Examined, Machine, Trial, Vendor

__all__ = ["SCHEMA_VERSION", "STRATEGIES", "machine_data"]

SCHEMA_VERSION = 1
"""Grows when a field goes or changes its meaning."""

STRATEGIES = ("egl", "glx", "mesa")
"""What can be tried, in the order of the chain."""

_DIGITS = 6
_FLAGS = (
    "gvisor",
    "jetson",
    "wsl_libraries",
    "d3d12",
    "conda",
    "is_root",
    "privileged",
    "late",
    "forked",
    "elsewhere",
)


def machine_data(facts: Machine, findings: Iterable[Finding], full: bool) -> dict[str, Any]:
    """Everything in a report but its verdict.

    Arguments:
        facts: the machine.
        findings: the one that matters most first.
        full: whether host name, user, home path and UUIDs are kept.
    """
    data = {
        "versions": dict(_versions()),
        "machine": _machine(facts) | (_whose() if full else {}),
        "driver": _driver(facts),
        "gpus": list(_gpus(facts)),
        "attempts": [_trial(trial) for trial in facts.trials],
        "findings": [
            finding._asdict() | {"severity": str(finding.severity)} for finding in findings
        ],
    }
    cleaned: dict[str, Any] = private.cleaned(data if full else private.redacted(data))
    return cleaned


def _versions() -> Iterator[tuple[str, str | None]]:
    yield "python", platform.python_version()
    yield "moderngl_colab", moderngl_colab.__version__
    for name in ("moderngl", "glcontext"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, None


def _whose() -> dict[str, str]:
    return {"host": private.host(), "user": private.user()}


def _machine(facts: Machine) -> dict[str, Any]:
    examined = facts.examined or Examined()
    return {
        "system": facts.system,
        "distribution": facts.distribution,
        "installer": facts.installer,
        "platform": facts.platform,
        **{name: getattr(facts, name) for name in _FLAGS},
        "nodes": [_node(node) for node in facts.nodes],
        "vendors": [_vendor(vendor) for vendor in facts.vendors],
        "xvfb": facts.xvfb,
        "environment": _named(facts.environ, "value"),
        "examined": facts.examined is not None,
        "libraries": [
            {"name": name, "path": examined.mapped.get(name), "error": error}
            for name, error in examined.opened.items()
        ],
        "packages": _named(examined.packages, "version"),
        "stubs": _named(examined.stubs, "version"),
        "glibcxx": _named(examined.glibcxx, "version"),
        "unanswered": _named(examined.unanswered, "end"),
        "stderr": list(examined.stderr),
    }


def _named(values: Any, field: str) -> list[dict[str, str]]:
    return [{"name": name, field: values[name]} for name in sorted(values)]


def _node(node: _kernel.Node) -> dict[str, Any]:
    error = errno.errorcode.get(node.error, str(node.error)) if node.error else None
    return {
        "path": node.path,
        "error": error,
        "group": node.group,
        "mode": f"{node.mode:04o}",
    }


def _vendor(vendor: Vendor) -> dict[str, Any]:
    return vendor._asdict() | {"is_nvidia": vendor.is_nvidia}


def _driver(facts: Machine) -> dict[str, Any]:
    answer = None if facts.examined is None else facts.examined.nvml
    chosen = set(facts.userland.libraries.values())
    return {
        "kernel_module": None if facts.module is None else facts.module._asdict(),
        "userland": facts.userland.version,
        "copies": [copy._asdict() | {"chosen": copy.path in chosen} for copy in facts.copies],
        "nvml": None
        if answer is None
        else {"version": answer.driver, "error": answer.error, "code": answer.code},
        "glx_over_xvfb": {
            "works_from": GLX_WORKS,
            "refused_by": GLX_REFUSED,
            "works": _glx_works(facts),
        },
        "compatible": _compatible(facts),
    }


def _compatible(facts: Machine) -> bool | None:
    """Whether kernel module, userland and NVML are of one version; None where two are unknown."""
    answer = None if facts.examined is None else facts.examined.nvml
    module = None if facts.module is None else facts.module.version
    others = {facts.userland.version, None if answer is None else answer.driver} - {None}
    return None if module is None or not others else others == {module}


def _glx_works(facts: Machine) -> bool | None:
    """Whether this driver's GLX is known to serve over Xvfb, or to be refused; None if neither."""
    version = facts.userland.version or (facts.module.version if facts.module else "")
    branch = version.partition(".")[0]
    if not branch.isdecimal() or len(branch) > _DIGITS or GLX_REFUSED < int(branch) < GLX_WORKS:
        return None
    return int(branch) >= GLX_WORKS


def _gpus(facts: Machine) -> Iterator[dict[str, Any]]:
    """The GPUs that NVML or EGL list; where neither answered, those that have a device node."""
    examined = facts.examined or Examined()
    answer = examined.nvml or _nvml.Answer()
    devices = [device for device in examined.devices or () if device.is_nvidia]
    alone = 0
    for gpu in answer.gpus:
        same = [device for device in devices if device.uuid and device.uuid == gpu.uuid]
        same = same or [device for device in devices if device.pci and device.pci == gpu.pci]
        if not same and len(answer.gpus) == len(devices) == 1:
            same = devices
        device = same[0] if same else None
        if device is None:
            alone += 1
        else:
            devices.remove(device)
        yield _gpu(device, answer.driver, gpu)
    # Those that say nothing of themselves are among NVML's other ones, as far as there are some.
    for device in devices:
        if device.uuid is None and device.pci is None and alone:
            alone -= 1
        else:
            yield _gpu(device, answer.driver)
    if not answer.gpus and not examined.devices:
        for _ in facts.gpus:
            yield _gpu(None, answer.driver)


def _gpu(
    device: EGLDevice | None, driver: str | None, gpu: _nvml.GPU | None = None
) -> dict[str, Any]:
    return {
        "name": None if gpu is None else gpu.name,
        "memory_bytes": None if gpu is None else gpu.memory_total,
        "driver": driver,
        "mig": None if gpu is None else gpu.mig,
        "uuid": (gpu and gpu.uuid) or (device and device.uuid),
        "pci_bus_id": (gpu and gpu.pci) or (device and device.pci),
        "egl_device": None if device is None else device.number,
        "cuda_ordinal": None if device is None else device.cuda,
        "render_node": None if device is None else device.render_node,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return trial._asdict() | {"outcome": str(trial.outcome), "stderr": list(trial.stderr)}
