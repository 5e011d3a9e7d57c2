"""NVIDIA's own archive, over HTTPS: the ``.run`` of exactly one version, by its published checksum.

Drivers for data centres lie on another path than those for workstations, and on another server.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping

from moderngl_colab.installer import download, runfile, web
from moderngl_colab.installer.source import FetchError, NotOffered, Offer, Progress, Wanted

__all__ = ["ADDRESS_VARIABLE", "Archive"]

ADDRESS_VARIABLE = "MODERNGL_COLAB_DRIVER_URL"

_ADDRESSES = ("https://download.nvidia.com", "https://us.download.nvidia.com")
_PATHS = (
    "XFree86/Linux-{0.machine}/{0.version}/NVIDIA-Linux-{0.machine}-{0.version}.run",
    "tesla/{0.version}/NVIDIA-Linux-{0.machine}-{0.version}.run",
)
_BLOCK = 1 << 20  # bytes
_MOST = 4096  # bytes of a checksum's file
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})(?:\s+\*?(\S+))?\s*")


class Archive:
    """NVIDIA's archive, or a copy of it.

    Arguments:
        environ: where ``MODERNGL_COLAB_DRIVER_URL`` is read, the address of a copy.
        kept: the beginning of the path of a download that is not finished yet; the checksum
            follows. None where nothing is fetched.
        timeout: how long a server may be silent, in seconds.
    """

    name = "nvidia"

    def __init__(self, environ: Mapping[str, str], kept: str | None, timeout: float) -> None:
        own = environ.get(ADDRESS_VARIABLE, "").rstrip("/")
        self._addresses = (own, own) if own else _ADDRESSES
        self._kept = kept
        self._timeout = timeout

    def offer(self, wanted: Wanted) -> Offer:
        """Look for exactly that version; see :class:`source.Source`."""
        try:
            for address in self._addresses:
                web.check_address(address)
        except FetchError as error:
            raise NotOffered(f"{ADDRESS_VARIABLE}: {error}") from error
        reasons = []
        for address, path in zip(self._addresses, _PATHS, strict=True):
            url = f"{address}/{path.format(wanted)}"
            try:
                return self._offer(url, wanted)
            except FetchError as error:
                reasons.append(str(error))
                absent = isinstance(error, web.AbsentError)
                if not absent and address == self._addresses[-1]:
                    break  # It will not be better on the other path.
        raise NotOffered("; ".join(reasons))

    def _offer(self, url: str, wanted: Wanted) -> Offer:
        with _named(url):
            size = download.size(url, self._timeout)
        with _named(f"{url}.sha256sum"):
            digest = self._checksum(url)
        kept = f"{self._kept}.{digest}.part"
        have = 0 if self._kept is None else _size(kept)

        def fetch(folder: str, progress: Progress) -> None:
            with _noted(kept):
                # Where there was no room to unpack it, or no time, it is whole.
                if not (have and size in (have, None) and _digest(kept, progress) == digest):
                    self._download(url, kept, digest, progress)
                progress(f"unpacking {os.path.basename(url)}", 0, None)
                try:
                    runfile.take(kept, folder, wanted)
                except FetchError:  # It is not to be had from this file.
                    os.unlink(kept)
                    raise
            os.unlink(kept)

        left = None if size is None else max(0, size - have)
        return Offer(self.name, url, left, nvidias=True, fetch=fetch)

    def _checksum(self, url: str) -> str:
        said = download.text(f"{url}.sha256sum", _MOST, self._timeout)
        found = _CHECKSUM.fullmatch(said)
        if found is None:
            raise FetchError("it is no checksum (is there a login page in between?)")
        named = os.path.basename(found[2] or url)
        if named != os.path.basename(url):
            raise FetchError(f"it is the checksum of another file, {named!r}")
        return found[1].lower()

    def _download(self, url: str, kept: str, digest: str, progress: Progress) -> None:
        """Fetch the file; what was kept of it and turns out to be another's is fetched anew."""
        before = _size(kept)
        try:
            download.to_file(url, kept, self._timeout, progress)
            if (came := _digest(kept, progress)) == digest:
                return
        except OSError:
            if _size(kept) != before:  # Nothing is kept on a disk that became full.
                os.unlink(kept)
            raise
        os.unlink(kept)
        if not before:
            raise FetchError(f"{url} is not what was published: its sha256 is {came}")
        self._download(url, kept, digest, progress)


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    """Errors begin with the address at which they came up."""
    try:
        yield
    except FetchError as error:
        raise type(error)(f"{url}: {error}") from error


@contextlib.contextmanager
def _noted(kept: str) -> Iterator[None]:
    """An error, or an interrupt, has a note that says where the download is, if it is kept."""
    try:
        yield
    except BaseException as error:
        if _size(kept):
            error.add_note(
                f"what came is kept in {os.path.dirname(kept)}, and the same command goes on there"
            )
        raise


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _digest(path: str, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, os.path.getsize(path)
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress("checking its sha256", done, total)
    return digest.hexdigest()
