"""What says whose machine it is, left out of a report."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["cleaned", "host", "redacted", "user"]

# They are nobody's own, or words without which a report could not be read.
_COMMON = frozenset(
    {"bin", "data", "dev", "etc", "lib", "lib64", "local", "media", "mnt", "opt", "proc", "sbin"}
    | {"scratch", "share", "srv", "sys", "test", "tmp", "usr", "var", "work"}
    | {
        "admin",
        "colab",
        "conda",
        "debian",
        "docker",
        "doctor",
        "driver",
        "egl",
        "env",
        "glx",
        "gpu",
    }
    | {"home", "jovyan", "linux", "localhost", "machine", "mesa", "nobody", "nvidia", "python"}
    | {"root", "run", "server", "ubuntu", "user", "xvfb"}
)
_SHORT = 3
# Fields whose words are ours, whatever somebody's name is.
_OURS = frozenset(
    {"cause", "code", "installer", "outcome", "platform", "severity", "strategy", "system"}
    | {"verdict"}
)
# As NVML and CUDA write them; CUDA takes the beginning of one too, and older drivers named a MIG
# slice by its GPU and two numbers.
_DEVICE = r"\b(MIG-GPU|MIG|GPU)-(?=[0-9a-fA-F]{4})[0-9a-fA-F-]+(?:/[0-9]+)*(?![0-9A-Za-z])"
_UUID = r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def user() -> str:
    """The name of the user who runs this process; empty where there is none."""
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    return os.environ.get("USER", "")


def redacted(data: Any) -> Any:
    """Plain data without home path, host name, user name and UUIDs.

    Arguments:
        data: what ``json`` can write; keys are left as they are.
    """
    rules = [(re.compile(pattern), to) for pattern, to in _rules()]

    def redact(text: str) -> str:
        for pattern, replacement in rules:
            text = pattern.sub(replacement, text)
        return text

    return _mapped(data, redact)


def cleaned(data: Any) -> Any:
    """Plain data in which every string is one of Unicode; the name of a file need not be one."""
    return _mapped(data, lambda text: text.encode(errors="surrogatepass").decode(errors="replace"))


def _mapped(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        return {
            key: value if key in _OURS else _mapped(value, change) for key, value in data.items()
        }
    return [_mapped(item, change) for item in data] if isinstance(data, list | tuple) else data


def _rules() -> Iterator[tuple[str, str]]:
    for home in _homes():
        yield rf"(?<![\w.-]){re.escape(home)}(?![\w-])", "~"
    yield _DEVICE, r"\1-<uuid>"
    yield _UUID, "<uuid>"
    for name in _longest_first(host(), host().partition(".")[0], os.environ.get("HOSTNAME", "")):
        yield _word(name), "<host>"
    display, colon, _ = os.environ.get("DISPLAY", "").partition(":")
    if colon and display not in ("", "localhost", "unix"):
        yield rf"(?<![0-9A-Za-z.-]){re.escape(display)}(?=:)", "<host>"
    variables = (os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "SUDO_USER"))
    for name in _longest_first(user(), *variables):
        yield _word(name), "<user>"


def _homes() -> list[str]:
    homes = {os.path.expanduser("~"), os.environ.get("HOME", "")}
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    homes |= {os.path.realpath(home) for home in homes if os.path.isabs(home)}
    homes = {home.rstrip("/") for home in homes if os.path.isabs(home)}
    return sorted(homes - {"", "/nonexistent"}, key=len, reverse=True)


def _longest_first(*names: str) -> list[str]:
    return sorted({name for name in names if name and name.lower() not in _COMMON}, key=len)[::-1]


def _word(name: str) -> str:
    """A name where it stands by itself; one that is short, in paths alone."""
    if len(name) < _SHORT:
        return rf"(?<=/){re.escape(name)}(?![^/\s:])"
    return rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])"
