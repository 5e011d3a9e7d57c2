"""Direct EGL: no X server, no file, no variable left behind."""

from __future__ import annotations

from collections.abc import Iterable

from moderngl_colab import _driver, _egl, _fork, _glvnd, _process, causes, gl
from moderngl_colab.errors import StrategyFailed
from moderngl_colab.strategies import gpu
from moderngl_colab.strategies.base import Request

__all__ = ["DirectEGL", "first_that_serves", "listed", "open_libegl"]


class DirectEGL:
    """A context on an NVIDIA device of libEGL, mending what keeps libglvnd from the driver.

    First the ordinary libEGL is asked, and offered NVIDIA's vendor library if it reads its
    vendors only now. If it lists no NVIDIA device because somebody else made it read them
    before, a private instance is asked, which reads them anew.
    """

    name = "egl"
    vendor = "NVIDIA"

    def create(self, request: Request) -> gl.GLContext:
        """Make the context on the GPU that is asked for, or else on the first that serves.

        Raises:
            StrategyUnavailable: libEGL, the driver or the device is absent.
            StrategyFailed: every device refused.
            UnmatchedError: nothing tells which of several GPUs is the one that is meant.
            ValueError: there is no such device.
        """
        if request.device_index is None and (hidden := causes.hidden()) is not None:
            raise hidden
        egl = _serving[0] if _serving else _find(request)
        chosen = gpu.chosen(egl, request)
        try:
            context = first_that_serves(egl, chosen, request.version)
            context.gpu = chosen[egl.devices()[context.egl_device or 0]]
            return context
        except StrategyFailed as error:
            raise causes.refused(error, _driver.find(), until=request.until) from error


# The instance that lists NVIDIA's devices, once it is found: which vendors it read never changes.
_serving: list[_egl.LibEGL] = []


def open_libegl() -> _egl.LibEGL:
    """The libEGL whose list of devices counts: the one that lists NVIDIA's, else the ordinary one.

    In a process that was forked after Mesa was loaded, neither: a fresh one with a fresh Mesa.

    Raises:
        StrategyUnavailable: it is not there.
    """
    if _serving:
        return _serving[0]
    try:
        ordinary = _egl.opened()
        return _egl.opened(_glvnd.private_copy(ordinary.path)) if _fork.mesa_lost() else ordinary
    except OSError as error:
        raise causes.dispatch_absent(error) from error


def _forget() -> None:
    _serving.clear()
    _egl.forget()
    _glvnd.private_copy.cache_clear()


_fork.in_child(_forget)


def listed(egl: _egl.LibEGL, library: str | None = None) -> tuple[_egl.Device, ...]:
    """The devices of an instance of libEGL, which is offered a vendor library the first time.

    Arguments:
        egl: the instance.
        library: absolute path of ``libEGL_nvidia.so.0``, or None to offer nothing.

    Raises:
        _egl.EGLError: it refuses.
        OSError: there is no memfd_create(2).
    """
    if egl.asked:
        return egl.devices()
    with _glvnd.offering(library, egl.path):
        return egl.devices()


def first_that_serves(egl: _egl.LibEGL, devices: Iterable[_egl.Device], version: int) -> gl.Handle:
    """A context on the first of the devices that does not refuse one.

    Raises:
        StrategyFailed: each of them refused; the reason has every refusal.
    """
    refusals: list[StrategyFailed] = []
    for device in devices:
        try:
            context = gl.create_egl(egl, device, version)
        except StrategyFailed as error:
            refusals.append(error)
        else:
            context.passed_over = tuple(error.reason for error in refusals)
            return context
    remedy = next((error.remedy for error in refusals), None)
    raise StrategyFailed("; ".join(error.reason for error in refusals), remedy=remedy)


def _find(request: Request) -> _egl.LibEGL:
    """The instance of libEGL that lists NVIDIA's devices.

    Raises:
        StrategyUnavailable: there is none; the reason says why.
        ValueError: there is none, and no device of that index either.
    """
    index = request.device_index
    came_late = bool(_egl.loaded()) and not _fork.mesa_lost()
    ordinary = open_libegl()
    choice = _glvnd.user_choice()
    if ordinary.asked and index is None and choice is None and (absent := causes.no_gpu()):
        raise absent  # Its devices never change, and without a GPU no other instance has more.
    offered = choice is None or any(icd.is_nvidia for icd in _glvnd.icds())
    driver = _driver.find() if offered else _driver.NONE
    library, broken = _opened(driver)
    observed = "libEGL lists no NVIDIA device"
    try:
        if _serves(ordinary, library):
            return ordinary
        if came_late and library is not None:
            private = _egl.opened(_glvnd.private_copy(ordinary.path))
            if _serves(private, library):
                return private
        if index is not None:
            gpu.device_at(ordinary.devices(), index)
    except (_egl.EGLError, OSError) as error:
        observed = f"libEGL could not be asked ({error})"
    if choice is not None and not offered:
        raise causes.overridden(choice)
    if not _process.may_steer_loader():
        raise causes.privileged()
    raise causes.not_listed(driver, observed, broken, request.until)


def _serves(egl: _egl.LibEGL, library: str | None) -> bool:
    if any(device.is_nvidia for device in listed(egl, library)):
        _serving.append(egl)
    return bool(_serving)


def _opened(driver: _driver.Userland) -> tuple[str | None, OSError | None]:
    """The path of libEGL_nvidia, opened; or what the loader says, if it cannot be."""
    if "EGL" not in driver.libraries:
        return None, None
    try:
        driver.open("EGL")
    except OSError as error:
        return None, error
    return driver.libraries["EGL"], None
