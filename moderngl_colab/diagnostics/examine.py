"""What only the libraries themselves can say: opened and asked, in processes of their own."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import time
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_ssize_t, c_void_p
from functools import partial
from typing import Any

from moderngl_colab import _driver, _egl, _files, _nvml
from moderngl_colab._process import declare
from moderngl_colab.diagnostics import child
from moderngl_colab.errors import StrategyUnavailable
from moderngl_colab.machine import HUNG, EGLDevice, Examined, Machine

__all__ = ["examine"]

_STDCXX = "libstdc++.so.6"
# libstdc++ before Mesa's drivers, which take the one that they find open.
_BY_NAME = ("libEGL.so.1", "libGL.so.1", "libX11.so.6", "libXext.so.6", _STDCXX)
# Since 24.2 all of Mesa's drivers are in libgallium; before, each was a file in dri.
_MESA = ("libgallium*.so", "dri/swrast_dri.so")
_NVML, _DEVICES = "NVML", "libEGL's devices"
_RTLD_DI_LINKMAP = 2
_LEAST = 0.5  # seconds
_GLIBCXX = re.compile(rb"GLIBCXX_(\d+(?:\.\d+)+)")


def examine(machine: Machine, timeout: float = 30.0) -> Machine:
    """Open the libraries of a machine, and ask NVML and libEGL.

    Arguments:
        machine: as :func:`moderngl_colab.survey.look` saw it.
        timeout: how long it may take, in seconds.

    Returns:
        The machine with what was found out. A question at which the process crashed or hung is
        left out, and the rest is asked by another one.
    """
    answers, unanswered, said = _asked(machine, timeout)
    libraries = {name: text for name, text in answers.items() if name not in (_NVML, _DEVICES)}
    nvml, devices = answers.get(_NVML), answers.get(_DEVICES)
    examined = Examined(
        opened={name: error for name, (error, _) in libraries.items()},
        mapped={name: path for name, (_, path) in libraries.items() if path is not None},
        nvml=None if nvml is None else _answer(*nvml),
        devices=None if devices is None else tuple(EGLDevice(*device) for device in devices),
        unanswered=unanswered,
        stderr=said,
    )
    return machine._replace(examined=examined._replace(glibcxx=_glibcxx(examined)))


def _asked(
    machine: Machine, timeout: float
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """The answers by question; the questions that were none, with what happened; stderr."""
    answers: dict[str, Any] = {}
    unanswered: dict[str, str] = {}
    said: tuple[str, ...] = ()
    libraries, deadline = _libraries(machine), time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > _LEAST:
        done = [*answers, *unanswered]
        # One that hangs shall leave time for the questions after it.
        ended = child.run(answer, libraries, machine.userland, done, timeout=left / 2)
        if ended.error is not None:
            return answers, unanswered, (*said, f"no process: {ended.error}")
        said += ended.stderr
        # A question comes alone, and once more with its answer.
        answers |= {question: text[0] for question, *text in ended.answers if text}
        last = ended.answers[-1] if ended.answers else []
        if len(last) != 1:
            break
        unanswered[last[0]] = HUNG if ended.timed_out else ended.how
    return answers, unanswered, said


def answer(libraries: list[str], userland: list[Any], done: list[str]) -> Iterator[list[Any]]:
    """Be the process that asks: name each question, then give it once more with its answer."""
    for question, ask in _questions(libraries, _driver.Userland(*userland)):
        if question not in done:
            yield [question]
            yield [question, ask()]


def _questions(
    libraries: list[str], userland: _driver.Userland
) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name in libraries:
        yield name, partial(_opened, name)
    for library, path in userland.libraries.items():
        yield path, partial(_opened_whole, userland, library)
    yield _NVML, partial(_nvml.ask_here, userland.nvml)
    yield _DEVICES, partial(_devices, userland)


def _libraries(machine: Machine) -> list[str]:
    """What is opened by itself: as libglvnd and Mesa would, before anything of ours helps."""
    multiarch = f"{os.uname().machine}-linux-gnu"
    folders = (f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/lib")
    patterns = (os.path.join(folder, name) for folder in folders for name in _MESA)
    mesa = (path for pattern in patterns for path in sorted(glob.glob(pattern)))
    vendors = (icd.library for icd in machine.vendors if icd.library is not None and not icd.waits)
    return list(dict.fromkeys([*_BY_NAME, *mesa, *vendors]))


def _glibcxx(examined: Examined) -> dict[str, str]:
    """The newest libstdc++ that is had, and that is needed by each file which did not open."""
    failed = (name for name, error in examined.opened.items() if error and os.path.isabs(name))
    files = {name: name for name in failed}
    if files and _STDCXX in examined.mapped:
        files[_STDCXX] = examined.mapped[_STDCXX]
    named = {name: _GLIBCXX.findall(_files.read(path)) for name, path in files.items()}
    return {
        name: max(versions, key=lambda text: [int(part) for part in text.split(b".")]).decode()
        for name, versions in named.items()
        if versions
    }


class _LinkMap(ctypes.Structure):
    _fields_ = (("base", c_ssize_t), ("name", c_char_p))


def _opened(name: str) -> tuple[str | None, str | None]:
    """The loader's error, and the file that it took if it was left to find one."""
    try:
        library = ctypes.CDLL(name)
    except (OSError, ValueError) as error:  # ValueError: an ICD may name what no path can be.
        return str(error), None
    if "/" in name:
        return None, None
    found = POINTER(_LinkMap)()
    dlinfo = declare(ctypes.CDLL(None).dlinfo, c_int, c_void_p, c_int, c_void_p)
    handle = library._handle  # noqa: SLF001  - ctypes has no other name for it
    if dlinfo(handle, _RTLD_DI_LINKMAP, byref(found)):
        return None, None
    return None, os.path.realpath(os.fsdecode(found.contents.name))


def _opened_whole(userland: _driver.Userland, library: str) -> tuple[str | None, None]:
    try:
        userland.open(library)
    except OSError as error:
        return str(error), None
    return None, None


def _devices(userland: _driver.Userland) -> list[EGLDevice] | None:
    """The devices of the libEGL that our strategies ask; None where none is, or it refuses."""
    from moderngl_colab.strategies.egl import listed, open_libegl

    library = userland.libraries.get("EGL")
    if library is not None and _opened_whole(userland, "EGL")[0] is not None:
        library = None
    try:
        egl = open_libegl()
        devices = listed(egl, library)
    except (StrategyUnavailable, _egl.EGLError, OSError):
        return None
    return [EGLDevice(each.number, each.is_nvidia, *egl.details(each)) for each in devices]


def _answer(
    error: str | None, driver: str | None, gpus: list[list[Any]], code: int | None
) -> _nvml.Answer:
    return _nvml.Answer(error, driver, tuple(_nvml.GPU(*gpu) for gpu in gpus), code)
