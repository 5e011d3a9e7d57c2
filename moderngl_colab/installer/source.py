"""What a source of the driver's libraries is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = [
    "LICENCE",
    "DriverInstallError",
    "FetchError",
    "NotOffered",
    "Offer",
    "Progress",
    "Source",
    "Wanted",
    "one_line",
]

LICENCE = "https://www.nvidia.com/en-us/drivers/nvidia-license/linux/"
"""NVIDIA's, of the driver."""

Progress = Callable[[str, int, int | None], None]
"""What is done, how many bytes of it are, and of how many; None where nobody tells."""


def one_line(text: str) -> str:
    """A text of somebody else's without line ends, and without what a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class DriverInstallError(RuntimeError):
    """Nothing was installed, and what was there before still is; the text says why."""


class NotOffered(Exception):
    """A source has not exactly that version; the text is one line that says why."""


class FetchError(Exception):
    """What a source offered could not be had from it; the text is one line that says why."""


class Wanted(NamedTuple):
    """Which driver it has to be."""

    version: str
    """Exactly the kernel module's, for instance ``"550.54.15"``."""
    machine: str
    """As ``os.uname()`` says it: ``"x86_64"`` or ``"aarch64"``."""

    def __str__(self) -> str:
        return f"{self.version}-{self.machine}"


class Offer(NamedTuple):
    """What a source has of the driver that is wanted."""

    source: str
    """Its name: ``"from"``, ``"apt"``, ``"nvidia"``."""
    what: str
    """One line: a path, packages with their versions, or a URL."""
    download: int | None
    """How many bytes are fetched for it; 0 for what is here, None where nobody tells."""
    nvidias: bool
    """Whether it comes from NVIDIA, whose licence has to be accepted first."""
    fetch: Callable[[str, Progress], None]
    """Puts the libraries into a folder, which is empty and this user's alone; it raises
    :class:`FetchError`, or OSError where the file system refuses something. What it needs in
    between lies beside that folder, and is removed by whoever called."""


class Source(Protocol):
    """Where a driver may be had."""

    name: str

    def offer(self, wanted: Wanted) -> Offer:
        """Look for exactly that version.

        Raises:
            NotOffered: it is not there.
        """
        ...
