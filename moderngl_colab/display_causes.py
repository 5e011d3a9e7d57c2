"""Why there is no display for GLX, as the errors that strategies raise."""

from __future__ import annotations

import errno

from moderngl_colab.causes import unavailable
from moderngl_colab.errors import StrategyFailed, StrategyUnavailable

__all__ = ["no_xvfb", "xvfb_failed"]

# What lifts the limits that the system's refusals are of.
_LIMITS = {
    errno.EMFILE: 'ulimit -n "$(ulimit -Hn)" before the program allows it more open files',
    errno.EAGAIN: 'ulimit -u "$(ulimit -Hu)" before the program allows it more processes',
}


def no_xvfb() -> StrategyUnavailable:
    """Xvfb is not on the PATH."""
    from moderngl_colab.findings import display
    from moderngl_colab.survey import glance

    return unavailable(display.without_xvfb(glance()))


def xvfb_failed(error: Exception) -> StrategyFailed:
    """No display came of Xvfb; the error is one of ``_xvfb``'s, or the system's."""
    from moderngl_colab import _xvfb
    from moderngl_colab.remedies import give_tmp, install
    from moderngl_colab.survey import glance

    machine = glance()
    if not isinstance(error, _xvfb.XvfbError):
        code = error.errno if isinstance(error, OSError) else None
        reason = f"Xvfb could not be used: {error}"
        return StrategyFailed(reason, remedy=_LIMITS.get(code or 0), cause="xvfb-start")
    if isinstance(error, _xvfb.XvfbTimeoutError):  # The chain knows how much time there was.
        return StrategyFailed(str(error), cause="xvfb-start", said=error.said)
    if isinstance(error, _xvfb.XvfbPlaceError):
        return StrategyFailed(str(error), remedy=give_tmp(machine), cause="xvfb-start")
    return StrategyFailed(
        str(error),
        remedy=install(machine, "xkb"),
        cause="xvfb-crash" if error.crashed else "xvfb-start",
        said=error.said,
    )
