"""Web servers, of which no more is trusted than the address that was asked for.

Redirections lead to HTTPS or to the host that was asked, no proxy is asked for what is on this
machine, and no silence is waited for without end.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO, Any

from moderngl_colab.installer import connection
from moderngl_colab.installer.source import FetchError

__all__ = [
    "AbsentError",
    "BrokenError",
    "MethodError",
    "RangeError",
    "answer",
    "check_address",
    "told",
]

_GONE = (403, 404, 410)
_UNKNOWN_METHOD = (405, 501)
_UNSATISFIABLE = 416
_LAST_PORT = 65535
_PROXY = re.compile(
    r"(https?://)?([^/\s]*@)?([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)


class AbsentError(FetchError):
    """The server has no such file."""


class BrokenError(FetchError):
    """What may be otherwise a moment later: the connection broke, or the server failed."""


class MethodError(FetchError):
    """The server does not know what it is asked to do with the file."""


class RangeError(BrokenError):
    """What is here already is longer than the server's file."""


def check_address(url: str) -> None:
    """Refuse an address by which others could answer.

    Raises:
        FetchError: it is no address, or neither HTTPS nor this machine's own HTTP, on a loopback
            address.
    """
    shown = re.sub("//.*@", "//", url, flags=re.DOTALL)  # There may be a password in it.
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        why = str(error)
        if isinstance(error, UnicodeError):
            why = "a part of its host's name is empty, or has more than 63 characters"
        raise FetchError(f"{shown!r} is no address: {why}") from error
    if parts.scheme == "file":
        raise FetchError(f"{shown} is a file: give its path as source= (--from)")
    if not host:
        raise FetchError(f"{shown!r} is no server's address")
    if parts.username is not None:
        raise FetchError(f"the address of {host} has a user's name in it, which is not sent")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise FetchError(
            f"{url!r} is no address: a space is written as %20 in one, and others than ASCII's "
            "characters are written so, too"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise FetchError(f"{url} is not served by HTTPS: whoever is on the way could change it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Redirections(urllib.request.HTTPRedirectHandler):
    max_redirections = max_repeats = 5

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        """Follow it, if that is safe; the answer that leads on is closed in any case."""
        with contextlib.closing(fp):
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

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


class _Proxies(urllib.request.ProxyHandler):
    def proxy_open(
        self,
        req: urllib.request.Request,
        proxy: str,
        type: str,  # noqa: A002  - It is what urllib calls the address's scheme.
    ) -> Any:
        """Have a proxy asked, if it is one, and the address is another machine's."""
        host = urllib.parse.urlsplit(req.full_url).hostname or ""
        if _is_loopback(host) or urllib.request.proxy_bypass(req.host):
            return None
        found = _PROXY.fullmatch(proxy)
        if found is None or int(found["port"] or 0) > _LAST_PORT:
            # It is not shown: there may be a password in it.
            raise FetchError(
                f"the environment's {type}_proxy is no address of an HTTP proxy: one is written "
                "like http://proxy.example.org:3128"
            )
        return super().proxy_open(req, proxy.rstrip("/"), type)


def _opener() -> urllib.request.OpenerDirector:
    """What speaks HTTP and HTTPS, by the environment's proxies; no file: and no ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Proxies(),
        connection.HTTP(),
        connection.HTTPS(),
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
        timeout: how long the server may be silent, and how long it may take until it answers,
            in seconds.
        method: ``"GET"`` or ``"HEAD"``.
        start: from which byte on it is wanted.

    Raises:
        AbsentError, MethodError, RangeError, BrokenError: as their names say.
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
        if error.code in _UNKNOWN_METHOD:
            raise MethodError(words) from error
        if error.code == _UNSATISFIABLE:
            raise RangeError(words) from error
        raise (BrokenError if error.code >= 500 else FetchError)(words) from error
    except urllib.error.URLError as error:
        raise _unreachable(error.reason, timeout) from error
    except (http.client.HTTPException, OSError) as error:
        raise _unreachable(error, timeout) from error
    except ValueError as error:  # an address that a server, or a proxy's variable, gave
        raise FetchError(f"there is an address that is none: {error}") from error


def _unreachable(error: object, timeout: float) -> FetchError:
    if isinstance(error, TimeoutError):
        return FetchError(f"the server was silent for {timeout:g} s")
    if isinstance(error, http.client.InvalidURL):
        return FetchError(f"there is an address that is none: {error}")
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return BrokenError(f"the connection broke ({type(error).__name__})")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FetchError(f"the server cannot be reached: {words}")
