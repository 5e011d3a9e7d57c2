"""Which GPU a context is to be on, and which of EGL's devices that is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from moderngl_colab import _cuda, _driver, _egl, _egl_devices, _kernel, causes
from moderngl_colab._cuda import Given, NoneGivenError
from moderngl_colab.errors import StrategyFailed, StrategyUnavailable
from moderngl_colab.strategies.base import Request

if TYPE_CHECKING:
    from moderngl_colab._bounded import SilentError
    from moderngl_colab.devices import NVML

__all__ = ["chosen", "device_at", "only"]


def chosen(egl: _egl.LibEGL, request: Request) -> Mapping[_egl.Device, Given]:
    """The devices that will do, in their order, each with the GPU that it is.

    Raises:
        StrategyUnavailable: there is none.
        StrategyFailed: NVML does not answer, which alone could tell.
        UnmatchedError: nothing tells which it is.
        ValueError: there is no such device.
    """
    every = egl.devices()
    nvidia = [device for device in every if device.is_nvidia]
    if request.device_index is not None:
        device = device_at(every, request.device_index)
        if not device.is_nvidia:
            raise StrategyUnavailable(
                f"EGL device {device.number} is not an NVIDIA GPU",
                remedy=f"leave device_index out, or ask for {_numbers(every)}",
            )
        return {device: _by_index(egl, device, nvidia, request.until)}
    free = request.device is None and _cuda.VISIBLE_VARIABLE not in os.environ
    if free and len(nvidia) == 1 and (alone := _alone(egl, nvidia[0])) is not None:
        return {nvidia[0]: alone}  # There is nothing to choose.
    from moderngl_colab._bounded import SilentError
    from moderngl_colab.devices import select

    try:
        return dict(select(_detailed(egl, nvidia), request.device, _by_nvml(request.until)))
    except NoneGivenError:
        raise causes.hides() from None
    except SilentError as error:
        raise _unanswered(error) from error


@cache
def _alone(egl: _egl.LibEGL, device: _egl.Device) -> Given | None:
    """The GPU behind a device; None where the machine has others."""
    if _kernel.count_gpus() > 1:
        return None
    said = egl.details(device)
    return Given(0, said.uuid, said.pci)


def _by_index(
    egl: _egl.LibEGL, device: _egl.Device, nvidia: Sequence[_egl.Device], until: float
) -> Given:
    """The GPU behind a device that was named as EGL counts; CUDA may not know it here."""
    from moderngl_colab._bounded import SilentError
    from moderngl_colab.devices import UnmatchedError, select

    try:
        known = dict(select(_detailed(egl, nvidia), None, _by_nvml(until)))
    except (NoneGivenError, SilentError, UnmatchedError):
        known = {}
    said = egl.details(device)
    return known.get(device, Given(None, said.uuid, said.pci))


def _detailed(
    egl: _egl.LibEGL, nvidia: Sequence[_egl.Device]
) -> list[tuple[_egl.Device, _egl_devices.Details]]:
    return [(device, egl.details(device)) for device in nvidia]


def _by_nvml(until: float) -> NVML:
    """What asks NVML for its list."""
    from moderngl_colab import _nvml

    return lambda: _nvml.answered(_driver.find().nvml, until).gpus


def only(request: Request, driver: _driver.Userland) -> Given | None:
    """The GPU that a context will be on; None where it may be any.

    Raises:
        StrategyUnavailable: a certain one is needed, and there are several; or none is given.
        StrategyFailed: NVML does not answer, which alone could tell.
        ValueError: there is no such device.
    """
    from moderngl_colab import _bounded, _nvml
    from moderngl_colab.devices import SeveralError, leave_out, named, sole

    device = request.device
    try:
        return sole(device, lambda: _nvml.answered(driver.nvml, request.until).gpus)
    except _bounded.SilentError as error:
        raise _unanswered(error) from error
    except NoneGivenError:
        raise causes.hides() from None
    except SeveralError:
        who = "CUDA_VISIBLE_DEVICES gives" if device is None else f"{named(device)} names"
        raise StrategyUnavailable(
            f"{who} a certain one of several GPUs, and GLX chooses its own",
            remedy=None if device is None else leave_out(device),
            cause="gpu-other",
        ) from None


def device_at(devices: Sequence[_egl.Device], index: int) -> _egl.Device:
    """The EGL device of an index that the user gave.

    Raises:
        ValueError: there is none.
    """
    if not 0 <= index < len(devices):
        there_are = {0: "none", 1: "1, of index 0"}.get(
            len(devices), f"{len(devices)}, of index 0 to {len(devices) - 1}"
        )
        raise ValueError(f"device_index={index}: of EGL devices there are {there_are}")
    return devices[index]


def _numbers(devices: Sequence[_egl.Device]) -> str:
    return " or ".join(str(device.number) for device in devices if device.is_nvidia)


def _unanswered(error: SilentError) -> StrategyFailed:
    from moderngl_colab._bounded import NotAskedError
    from moderngl_colab.remedies import ASK_SMI

    reason = f"which GPU is meant cannot be told: {error}"
    if isinstance(error, NotAskedError):
        return StrategyFailed(reason, cause="timeout" if error.late else None)
    return StrategyFailed(reason, remedy=ASK_SMI, cause="driver-hang")
