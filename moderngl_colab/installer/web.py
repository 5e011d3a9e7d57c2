"""Web servers, of which no more is trusted than the address that was asked for.

Redirections lead to HTTPS and to nothing of this machine, and no silence is waited for without end.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from moderngl_colab.installer.source import FetchError

__all__ = ["AbsentError", "BrokenError", "RangeError", "answer", "check_address", "told"]

_GONE = (403, 404, 410)
_UNSATISFIABLE = 416


class AbsentError(FetchError):
    """The server has no such file."""


class BrokenError(FetchError):
    """What may be otherwise a moment later: the connection broke, or the server failed."""


class RangeError(BrokenError):
    """What is here already is longer than the server's file."""


def check_address(url: str) -> None:
    """Refuse an address by which others could answer.

    Raises:
        FetchError: it is neither HTTPS nor this machine's own HTTP, on a loopback address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise FetchError(f"{url!r} is no address: {error}") from error
    if parts.scheme == "file":
        raise FetchError(f"{url} is a file: give its path as source= (--from)")
    if not host:
        raise FetchError(f"{url!r} is no server's address")
    if parts.username is not None:
        raise FetchError(f"the address of {host} has a user's name in it, which is not sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise FetchError(f"{url} is not served by HTTPS: whoever is on the way could change it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Redirections(urllib.request.HTTPRedirectHandler):
    max_redirections = max_repeats = 5

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        """Follow it, if that is safe; given are the request, the answer, and where it leads."""
        asked, newurl = given[0], given[-1]
        try:
            check_address(newurl)
        except FetchError as error:
            raise FetchError(f"the server redirects elsewhere: {error}") from error
        was, is_ = urllib.parse.urlsplit(asked.full_url), urllib.parse.urlsplit(newurl)
        if is_.scheme != "https" and is_.hostname != was.hostname:
            raise FetchError(f"the server redirects to this machine: {newurl}")
        request = super().redirect_request(*given)
        if request is not None:
            request.method = asked.get_method()  # urllib makes a GET of a HEAD.
        return request


def _opener() -> urllib.request.OpenerDirector:
    """What speaks HTTP and HTTPS, by the environment's proxies; no file: and no ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirections(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def answer(
    url: str, timeout: float, method: str = "GET", start: int = 0
) -> Iterator[http.client.HTTPResponse]:
    """A server's answer, whose content is read within :func:`told`.

    Arguments:
        url: what is asked for.
        timeout: how long the server may be silent, in seconds.
        method: ``"GET"`` or ``"HEAD"``.
        start: from which byte on it is wanted.

    Raises:
        AbsentError, RangeError, BrokenError: as their names say.
        FetchError: anything else went wrong.
    """
    check_address(url)
    headers = {"User-Agent": "moderngl_colab", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310  - checked
    with told(timeout):
        got = _opener().open(request, timeout=timeout)
    with contextlib.closing(got):
        yield got


@contextlib.contextmanager
def told(timeout: float) -> Iterator[None]:
    """What goes wrong between here and a server becomes a :class:`FetchError`.

    Arguments:
        timeout: how long it may be silent, in seconds.
    """
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        words = " ".join(f"the server answers {error.code} {error.reason}".split())
        if "infinite loop" in words:  # as urllib says it, over three lines
            raise FetchError("the server redirects in a circle") from error
        if error.code in _GONE:
            raise AbsentError(words) from error
        if error.code == _UNSATISFIABLE:
            raise RangeError(words) from error
        raise (BrokenError if error.code >= 500 else FetchError)(words) from error
    except urllib.error.URLError as error:
        raise _unreachable(error.reason, timeout) from error
    except (http.client.HTTPException, OSError) as error:
        raise _unreachable(error, timeout) from error


def _unreachable(error: object, timeout: float) -> FetchError:
    if isinstance(error, TimeoutError):
        return FetchError(f"the server was silent for {timeout:g} s")
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return BrokenError(f"the connection broke ({type(error).__name__})")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FetchError(f"the server cannot be reached: {words}")
