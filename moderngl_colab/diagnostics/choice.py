"""Which of several GPUs other programs are to take, asked in a child process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from moderngl_colab import _cuda, _driver, _egl, _egl_devices, _glvnd, _nvml, _process
from moderngl_colab.diagnostics import child

__all__ = ["Choice", "choose"]

_TIMEOUT = 20.0  # seconds
_BY_ITSELF = "if you know which is yours, start the program by itself and tell it that"


class Choice(NamedTuple):
    """Which GPU other programs are to take; or why that cannot be told."""

    number: int | None = None
    """Its place in EGL's list, as a program sees it; None where EGL was not asked."""
    ordinals: Sequence[int | None] = ()
    """CUDA's, as the devices of that list tell them."""
    impossible: str | None = None
    """Why this process has no such GPU."""
    hidden: bool = False
    """Whether it has none."""
    unmatched: str | None = None
    """Why nothing tells which device of the list it is."""
    remedy: str | None = None
    """What mends that, if anything is known to."""


def choose(
    device: str | None,
    visible: str | None,
    egl: bool,
    vendor: str | None,
    userland: _driver.Userland,
) -> Choice:
    """Tell which GPU is meant; a process of its own asks libEGL and NVML.

    Arguments:
        device: as for :func:`moderngl_colab.devices.select`.
        visible: ``CUDA_VISIBLE_DEVICES`` for the programs.
        egl: whether programs use EGL; else the machine has one GPU.
        vendor: the vendor library that their libEGL loads alone; None for the user's own choice.
        userland: the driver.
    """
    with _process.environment({_cuda.VISIBLE_VARIABLE: visible}):
        ended = child.run(chosen, device, egl, vendor, userland, timeout=_TIMEOUT)
    if ended.answers:
        return Choice(*ended.answers[0])
    if ended.error is not None:
        return Choice(unmatched=f"no process could be started to ask libEGL: {ended.error}")
    if ended.timed_out:
        return Choice(unmatched=f"libEGL did not answer within {_TIMEOUT:g} s")
    said = "".join(f"; it said: {line}" for line in ended.stderr[-1:])
    return Choice(unmatched=f"the process that asked libEGL {ended.how}{said}")


def chosen(
    device: str | None, egl: bool, vendor: str | None, userland: list[Any]
) -> Iterator[Choice]:
    """Be the process that asks for :func:`choose`."""
    from moderngl_colab import devices

    driver = _driver.Userland(*userland)
    listed: list[tuple[_egl.Device, _egl_devices.Details]] = []

    def nvml() -> Sequence[_nvml.GPU]:
        return _nvml.ask_here(driver.nvml).gpus

    try:
        if not egl:
            devices.sole(device, nvml)
            yield Choice()
            return
        listed = _listed(driver, vendor)
        # Of a hidden GPU drivers before 470 do not say whose it is.
        ours = [pair for pair in listed if vendor is not None or pair[0].is_nvidia]
        if not ours:
            yield Choice(unmatched="libEGL lists no NVIDIA device")
            return
        taken = devices.select(ours, device, nvml)[0][0]
        yield Choice(taken.number, [details.cuda for _, details in listed])
    except devices.NoneGivenError:
        yield Choice(hidden=True)
    except ValueError as error:
        yield Choice(impossible=str(error))
    except devices.SeveralError:
        yield Choice(unmatched="GLX chooses its own of several GPUs")
    except devices.UnmatchedError as error:
        named = error.cause == "mig" or any(details.uuid for _, details in listed)
        yield Choice(unmatched=error.headline, remedy=error.remedy if named else _BY_ITSELF)
    except (_egl.EGLError, OSError) as error:
        yield Choice(unmatched=str(error))


def _listed(
    driver: _driver.Userland, vendor: str | None
) -> list[tuple[_egl.Device, _egl_devices.Details]]:
    """EGL's devices as another program will see them, with what they say of themselves."""
    driver.open("EGL")
    with contextlib.ExitStack() as files:
        if vendor is not None:
            icd = _process.file_in_memory("vendor.json", _glvnd.icd_content(vendor))
            path = f"/proc/self/fd/{files.enter_context(icd)}"
            files.enter_context(_process.environment({_glvnd.FILENAMES_VARIABLE: path}))
        egl = _egl.opened()
        return [(device, egl.details(device)) for device in egl.devices()]
