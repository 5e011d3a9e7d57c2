"""What the caller and the environment ask for, checked before anything is touched."""

from __future__ import annotations

import math
import operator
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex, TypedDict

from moderngl_colab.errors import GPUContextError, quoted
from moderngl_colab.strategies import DEFAULT_STRATEGIES, Request, Strategy

__all__ = [
    "Options",
    "Settings",
    "allow_more",
    "named_device",
    "options",
    "refuse_foreign_systems",
]

SOFTWARE_VARIABLE = "MODERNGL_COLAB_ALLOW_SOFTWARE"
STRATEGIES_VARIABLE = "MODERNGL_COLAB_STRATEGIES"
DEVICE_VARIABLE = "MODERNGL_COLAB_DEVICE"
TIMEOUT_VARIABLE = "MODERNGL_COLAB_TIMEOUT"
PROBE_VARIABLE = "MODERNGL_COLAB_PROBE"

_DEFAULT_VERSION = 330
_DEFAULT_TIMEOUT = 30.0  # seconds
_LONGEST = 86400.0  # seconds
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
_SWITCHES |= {"0": False, "false": False, "no": False, "off": False}


class Settings(TypedDict, total=False):
    """What moderngl.create_context takes, as far as it makes sense here, and what few set."""

    standalone: bool
    share: bool
    backend: str | None
    device_index: int | None
    timeout: float | None
    probe: bool | None


class Options(NamedTuple):
    """What was asked for, complete and valid."""

    request: Request
    chain: tuple[Strategy, ...]
    allow_software: bool
    timeout: float
    """How long the call may wait, in seconds."""
    probe: bool
    """Whether GPU strategies are first tried in another process."""


def allow_more(timeout: float) -> str:
    """What lifts a time limit that was reached, in seconds."""
    more = min(2 * timeout, _LONGEST)
    return f"get_gpu_context(timeout={more:g}) or {TIMEOUT_VARIABLE}={more:g} waits longer"


def refuse_foreign_systems() -> None:
    """Raise where contexts come from the system itself.

    Raises:
        GPUContextError: this is not Linux.
    """
    if sys.platform != "linux":
        raise GPUContextError(
            f"moderngl_colab serves Linux; on {sys.platform} the system itself gives GPU contexts: "
            "moderngl.create_context(standalone=True)"
        )


def options(
    require: int | None,
    device: object,
    allow_software: bool | None,
    strategies: Iterable[Strategy | str] | str | None,
    settings: Mapping[str, Any],
) -> Options:
    """The arguments of get_gpu_context(), completed from the environment; its time begins here.

    Raises:
        TypeError: an argument of a wrong type, or an unknown setting.
        ValueError: an argument or a variable of an impossible value.
    """
    if unknown := sorted(set(settings) - set(Settings.__annotations__)):
        raise TypeError(
            f"get_gpu_context() knows no {', '.join(unknown)}; beside require, device, "
            f"allow_software and strategies it takes {', '.join(Settings.__annotations__)}"
        )
    if not (standalone := settings.get("standalone", True)):
        raise ValueError(
            f"standalone={standalone!r}: get_gpu_context() makes contexts of its own; "
            "moderngl.create_context() takes over one that is current"
        )
    if settings.get("share", False):
        raise ValueError("share=True: a context of get_gpu_context() shares nothing with another")
    if (backend := settings.get("backend")) not in (None, "egl"):
        raise ValueError(
            f'backend={backend!r}: only "egl" is known; strategies=[...] orders the ways'
        )
    index = settings.get("device_index")
    index = None if index is None else _integer("device_index", index)
    seconds = _seconds(settings.get("timeout"))
    until = time.monotonic() + seconds
    return Options(
        Request(_version(require), index, _device(device, index, until), until),
        _chain(strategies),
        _switch("allow_software", allow_software, SOFTWARE_VARIABLE, otherwise=True),
        seconds,
        _switch("probe", settings.get("probe"), PROBE_VARIABLE, otherwise=False),
    )


def _device(device: object, index: int | None, until: float) -> str | None:
    if device is not None and index is not None:
        raise ValueError(
            f"device={str(device)!r} and device_index={index}: a GPU is named by one of them"
        )
    return None if index is not None else named_device(device, os.environ, until)


def named_device(device: object, environ: Mapping[str, str], until: float = math.inf) -> str | None:
    """The GPU that the caller names, or else our variable; None where neither does.

    Raises:
        TypeError: it is a bool.
        ValueError: it is written as no GPU is.
    """
    source = "device"
    if device is None:
        device, source = environ.get(DEVICE_VARIABLE, "").strip() or None, DEVICE_VARIABLE
    if device is None:
        return None
    from moderngl_colab.devices import spelled  # Few name one.

    return spelled(device, source, until)


def _version(require: int | None) -> int:
    if require is None:
        return _DEFAULT_VERSION
    version = _integer("require", require)
    if not 100 <= version <= 999 or version % 10:
        raise ValueError(f"require={version}: OpenGL 3.3 is written 330, and 4.6 is 460")
    return version


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: an int is needed")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: an int is needed, not {type(value).__name__}") from None


def _switch(name: str, value: bool | None, variable: str, *, otherwise: bool) -> bool:
    """What an argument says, or else its variable."""
    if value is not None:
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r}: True or False is needed")
        return value
    text = os.environ.get(variable, "").strip()
    if not text:
        return otherwise
    try:
        return _SWITCHES[text.lower()]
    except KeyError:
        raise ValueError(f"{variable}={quoted(text)}: 0 or 1 is possible") from None


def _seconds(timeout: float | None) -> float:
    source = "timeout"
    given: Any = timeout
    if timeout is None:
        source, given = TIMEOUT_VARIABLE, os.environ.get(TIMEOUT_VARIABLE, "").strip()
        if not given:
            return _DEFAULT_TIMEOUT
    elif isinstance(timeout, bool) or not isinstance(timeout, SupportsFloat | SupportsIndex):
        raise TypeError(f"timeout={timeout!r}: a number of seconds is needed")
    try:
        seconds = float(given)
    except OverflowError:  # an int
        seconds = math.inf
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds <= _LONGEST:  # NaN is not, either.
        shown = quoted(given) if isinstance(given, str) else f"{seconds:.15g}"
        raise ValueError(
            f"{source}={shown}: a number of seconds above 0 is needed, {_LONGEST:.0f} at most"
        )
    return seconds


def _chain(strategies: Iterable[Strategy | str] | str | None) -> tuple[Strategy, ...]:
    source = "strategies"
    if strategies is None:
        strategies = os.environ.get(STRATEGIES_VARIABLE, "").strip()
        if not strategies:
            return DEFAULT_STRATEGIES
        source = STRATEGIES_VARIABLE
    if isinstance(strategies, str):
        names = (name.strip() for name in strategies.split(","))
        strategies = tuple(dict.fromkeys(filter(None, names)))
    if not isinstance(strategies, Iterable):
        raise TypeError(f"{source}={strategies!r}: a sequence of strategies is needed")
    chain = tuple(_strategy(item, source) for item in strategies)
    if not chain:
        raise ValueError(f"{source} is empty: name at least one of {_known_names()}")
    return chain


def _strategy(item: Strategy | str, source: str) -> Strategy:
    if isinstance(item, str):
        for strategy in DEFAULT_STRATEGIES:
            if strategy.name == item:
                return strategy
        raise ValueError(f"{source}: {quoted(item)} is none of {_known_names()}")
    if isinstance(item, type) or not isinstance(item, Strategy):
        raise TypeError(
            f"{source}: {item!r} is no strategy: an object with name, vendor and create(), or one "
            f"of the names {_known_names()}"
        )
    return item


def _known_names() -> str:
    return ", ".join(strategy.name for strategy in DEFAULT_STRATEGIES)
