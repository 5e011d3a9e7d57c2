"""What each source of the driver does with servers, proxies and files that are not as they ought.

The server is NVIDIA's on loopback, and the archives are real ones of the stand-in driver; see
rig/archive.py.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moderngl_colab.installer import deb
from moderngl_colab.installer.local import Local
from moderngl_colab.installer.nvidia import Archive
from moderngl_colab.installer.source import FetchError, NotOffered, Source, Wanted
from rig import archive, driver

OTHER = "535.104.05"
WANTED = Wanted(driver.VERSION, archive.MACHINE)
RUN = archive.path()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[archive.Server]:
    """NVIDIA's server, which has the driver."""
    with archive.serve() as started:
        started.publish(archive.runfile())
        yield started


def source(url: str, folder: Path, timeout: float = 5.0) -> Archive:
    """NVIDIA's archive at an address."""
    return Archive({"MODERNGL_COLAB_DRIVER_URL": url}, str(folder / "kept"), timeout)


def fetch(source: Source, folder: Path) -> list[str]:
    """Have a source's offer fetched; it gives the names of the files."""
    new = folder / "new"
    new.mkdir()
    source.offer(WANTED).fetch(str(new), lambda *_: None)
    return sorted(path.name for path in new.iterdir())


LIBRARIES = sorted(
    f"{each.name}.so.{driver.VERSION}"
    for each in driver.libraries(driver.VERSION)
    if each.name != "libnvidia-ml"
)


def refusal(source: Source) -> str:
    """Why there is no offer."""
    with pytest.raises(NotOffered) as raised:
        source.offer(WANTED)
    return str(raised.value)


# ---- addresses -----------------------------------------------------------------------------------

WRITTEN_SO = (
    "a space is written as %20 in one, and others than ASCII's characters are written so, too"
)
LABEL = "a part of its host's name is empty, or has more than 63 characters"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://mirror..example.org", f"'https://mirror..example.org' is no address: {LABEL}"),
        (f"https://{'a' * 64}.org", f"'https://{'a' * 64}.org' is no address: {LABEL}"),
        ("https://example.org/für", f"'https://example.org/für' is no address: {WRITTEN_SO}"),
        ("https://example.org/a b", f"'https://example.org/a b' is no address: {WRITTEN_SO}"),
        (
            "https://example.org/a\nb",
            f"'https://example.org/a\\nb' is no address: {WRITTEN_SO}",
        ),
        ("https://me:secret@[::1", "'https://[::1' is no address: Invalid IPv6 URL"),
        ("https://me:secret@", "'https://' is no server's address"),
    ],
)
def test_an_address_that_is_none_is_told_before_anybody_is_asked(
    folder: Path, url: str, why: str
) -> None:
    assert refusal(source(url, folder)) == f"MODERNGL_COLAB_DRIVER_URL: {why}"


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("https://[::1/x", "there is an address that is none: Invalid IPv6 URL"),
        (
            "https://mirror..example.org/x",
            "the server redirects elsewhere: 'https://mirror..example.org/x' is no address: "
            + LABEL,
        ),
        (
            "http://127.0.0.1:port/",
            "the server redirects elsewhere: 'http://127.0.0.1:port/' is no address: Port could "
            "not be cast to integer value as 'port'",
        ),
    ],
)
def test_a_redirection_to_no_address_is_told(
    server: archive.Server, folder: Path, where: str, why: str
) -> None:
    server.on(RUN, archive.redirect(where))

    assert refusal(source(server.url, folder)) == f"{server.url}{RUN}: {why}"


@pytest.mark.parametrize(
    "where", ["https://[::1/x", "http://example.invalid/x", "file:///x", "/again"]
)
def test_a_redirection_that_is_not_followed_leaves_no_connection(
    server: archive.Server, folder: Path, where: str
) -> None:
    for path in (RUN, "/again"):
        server.on(path, archive.redirect(where))

    # As long as the error lives, what was forgotten is not closed by its end.
    with pytest.raises((NotOffered, FetchError)) as raised:
        fetch(source(server.url, folder), folder)

    assert raised.value.__traceback__ is not None
    clients = [
        each
        for each in gc.get_objects()
        if isinstance(each, socket.socket) and each.proto == socket.IPPROTO_TCP
    ]
    assert [each for each in clients if each.fileno() != -1] == []


@pytest.mark.parametrize(
    "proxy",
    [
        "http:/me:secret@proxy:3128",
        "http://me:secret@proxy:port",
        "http://me:secret@proxy:65536",
        "http://me:secret@proxy:100000",
        "http://me:secret@proxy..org:3128",
        "socks5://me:secret@proxy:1080",
        "me:secret@",
    ],
)
def test_what_is_no_proxy_is_named_without_its_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    assert refusal(source("https://example.invalid", folder)) == (
        f"https://example.invalid{RUN}: the environment's https_proxy is no address of an HTTP "
        "proxy: one is written like http://proxy.example.org:3128"
    )


@pytest.mark.parametrize("proxy", ["{}", "{}/", "me:a-password@{}", "http://me:a%40b@{}"])
def test_a_proxy_is_asked_for_another_machines_files(
    server: archive.Server, folder: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    where = server.url.removeprefix("http://")
    monkeypatch.setenv("https_proxy", proxy.format(where))

    assert refusal(source("https://example.invalid", folder)) == (
        f"https://example.invalid{RUN}: the server cannot be reached: Tunnel connection failed: "
        "501 Unsupported method ('CONNECT')"
    )


@pytest.mark.parametrize("port", [61000, 65535])
def test_a_proxy_may_have_any_port(
    folder: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")

    assert refusal(source("https://example.invalid", folder)) == (
        f"https://example.invalid{RUN}: the server cannot be reached: Connection refused"
    )


def test_what_a_slow_proxy_took_is_not_taken_from_the_servers_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = 5.0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(20)  # seconds; where nobody comes the test fails, and does not wait

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                time.sleep(0.6 * timeout)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                time.sleep(0.1)  # What comes in one piece is read at once.
                connection.sendall(b"\r\n")
                connection.recv(1 << 16)
                time.sleep(0.6 * timeout)
                with contextlib.suppress(OSError):  # It hung up.
                    connection.sendall(b"this is not TLS")
                    connection.recv(1 << 16)

        thread = threading.Thread(target=serve)
        thread.start()
        said = refusal(source("https://example.invalid", folder, timeout))
        thread.join()

    head = f"https://example.invalid{RUN}: the server cannot be reached: "
    assert re.fullmatch(re.escape(head) + r"\[SSL(: \w+)?\] .*", said), said


def test_no_proxy_is_asked_for_what_is_on_this_machine(
    server: archive.Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive.serve() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)

        assert fetch(source(server.url, folder), folder) == LIBRARIES
        https = server.url.replace("http", "https")
        assert "SSL" in refusal(source(https, folder))
        assert proxy.asked == []


# ---- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [405, 501])
def test_a_server_that_does_not_tell_sizes_serves(
    server: archive.Server, folder: Path, code: int
) -> None:
    def answer(handler: archive.Handler, content: bytes) -> None:
        if handler.command == "HEAD":
            handler.send_error(code)
        else:
            archive.give(handler, content)

    server.on(RUN, answer)

    assert source(server.url, folder).offer(WANTED).download is None
    assert fetch(source(server.url, folder), folder) == LIBRARIES


def test_what_was_kept_whole_serves_where_sizes_are_not_told(
    server: archive.Server, folder: Path
) -> None:
    server.on(RUN, archive.refuse(405))
    digest = server.files[f"{RUN}.sha256sum"].decode().split()[0]
    (folder / f"kept.{digest}.part").write_bytes(archive.runfile())

    assert fetch(source(server.url, folder), folder) == LIBRARIES


def _header_by_header(handler: archive.Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        pause(handler)


def _provisionally(handler: archive.Handler) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pause(handler)


def _provisionally_without_a_pause(handler: archive.Handler) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def pause(handler: archive.Handler) -> None:
    """Wait for less than a timeout, and see whether the other side is still there."""
    handler.connection.settimeout(0.05)
    try:
        handler.connection.recv(1)
    except TimeoutError:
        return
    raise ConnectionError  # It hung up.


@pytest.mark.parametrize(
    "forever", [_header_by_header, _provisionally, _provisionally_without_a_pause]
)
def test_a_server_that_never_comes_to_its_answer_is_given_up(
    server: archive.Server, folder: Path, forever: Callable[[archive.Handler], None]
) -> None:
    server.on(RUN, lambda handler, _: forever(handler))

    assert refusal(source(server.url, folder, 0.4)) == (
        f"{server.url}{RUN}: the server did not answer within 0.4 s"
    )


def test_a_server_that_answers_piece_by_piece_and_in_time_serves(
    server: archive.Server, folder: Path
) -> None:
    def answer(handler: archive.Handler, content: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pause(handler)
        archive.slowly(0.1)(handler, content)  # This takes longer than an answer may.

    server.on(RUN, answer)

    assert fetch(source(server.url, folder, 0.6), folder) == LIBRARIES


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipe.run", "pipe.deb"])
def test_a_pipe_is_no_file_and_nobody_is_waited_for(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)

    assert refusal(Local(str(folder / name))) == f"{folder / name}: it is no plain file"


def test_a_pipe_among_packages_is_named(folder: Path) -> None:
    os.mkfifo(folder / "pipe.deb")

    assert refusal(Local(str(folder))) == f"{folder / 'pipe.deb'}: it is no plain file"


def package(control: bytes, data: bytes = b"") -> bytes:
    """A package as Debian's are, with these two archives."""
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": control, "data.tar.gz": data}
    content = b"!<arch>\n"
    for name, part in parts.items():
        content += f"{name:16}{0:<12}{0:<6}{0:<6}{0:<8}{len(part):<10}`\n".encode()
        content += part + b"\n" * (len(part) % 2)
    return content


def driver_package(name: str, version: str, libraries: str) -> bytes:
    """A package with those of the driver's libraries whose names match."""
    control = f"Package: {name}\nVersion: {version}-1\n".encode()
    members = tuple(m for m in archive.members(version) if re.fullmatch(libraries, m.name))
    return package(
        gzip.compress(archive.tar((archive.Member("./control", control),)), 1),
        gzip.compress(archive.tar(members), 1),
    )


def test_packages_that_cannot_be_read_are_passed_over_and_named(folder: Path) -> None:
    downloads = folder / "downloads"
    downloads.mkdir()
    (downloads / "half.deb").write_text("half")
    os.mkfifo(downloads / "pipe.deb")
    broken = (
        f"{downloads}/half.deb: it is no Debian package: it has no control.tar; "
        f"{downloads}/pipe.deb: it is no plain file"
    )

    assert refusal(Local(str(downloads))) == broken
    (downloads / "other.deb").write_bytes(driver_package("other", OTHER, ".*"))
    assert refusal(Local(str(downloads))) == (
        f"{downloads} has other {OTHER}-1, nothing of {driver.VERSION}; {broken}"
    )
    (downloads / "whole.deb").write_bytes(driver_package("whole", driver.VERSION, ".*"))
    offer = Local(str(downloads)).offer(WANTED)
    assert offer.what == f"{downloads}: whole {driver.VERSION}-1 (not readable: half.deb, pipe.deb)"
    assert fetch(Local(str(downloads)), folder) == LIBRARIES


def test_of_several_packages_it_is_the_damaged_one_that_is_named(folder: Path) -> None:
    downloads = folder / "downloads"
    downloads.mkdir()
    for name, libraries in {"egl": ".*EGL.*", "the-rest": "(?!.*EGL).*"}.items():
        content = driver_package(name, driver.VERSION, libraries)
        (downloads / f"{name}.deb").write_bytes(content)
    os.truncate(downloads / "the-rest.deb", (downloads / "the-rest.deb").stat().st_size // 2)

    with pytest.raises(FetchError) as raised:
        fetch(Local(str(downloads)), folder)

    assert str(raised.value) == (
        f"{downloads}/the-rest.deb: the archive is damaged: Compressed file ended before the "
        "end-of-stream marker was reached"
    )


def test_a_link_to_a_run_file_serves(folder: Path) -> None:
    (folder / "real").write_bytes(archive.runfile())
    (folder / "link.run").symlink_to("real")

    assert fetch(Local(str(folder / "link.run")), folder) == LIBRARIES


# ---- hostile archives ----------------------------------------------------------------------------


def header(kind: bytes, size: int = 0) -> bytes:
    """A member's header."""
    member = tarfile.TarInfo("./README")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(size: str) -> bytes:
    """A header that says of the next member how large it is, and that member's."""
    record = f" size={size}\n"
    length = len(record) + 2
    text = f"{length + (length > 99)}{record}".encode()
    return header(b"x", len(text)) + text.ljust(-(-len(text) // 512) * 512, b"\0") + header(b"0")


SIZE = "the archive is damaged: a member has an impossible size"
HEADERS = "the archive is damaged: its headers make no sense"
HOSTILE = {
    "a size beyond any": (header(b"0", 1 << 60), SIZE),
    "a size beyond any in a header of its own": (pax("1000000000000"), SIZE),
    "headers about headers": (header(b"x") * 1000, HEADERS),
    "names of names": (header(b"L") * 1000, HEADERS),
}


def runfile(content: bytes) -> bytes:
    """A self-extracting archive whose tar is that."""
    whole = archive.runfile()
    return whole[: whole.index(b"\x1f\x8b")] + gzip.compress(content, 1)


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_would_be_read_without_end_is_refused(folder: Path, case: str) -> None:
    hostile, why = HOSTILE[case]
    path = folder / "hostile.run"
    path.write_bytes(runfile(hostile + archive.tar(archive.members())))

    with pytest.raises(FetchError) as raised:
        fetch(Local(str(path)), folder)

    assert str(raised.value) == f"{path}: {why}"
    assert list((folder / "new").iterdir()) == []


@pytest.mark.parametrize("case", HOSTILE)
def test_a_package_that_would_be_read_without_end_is_refused(folder: Path, case: str) -> None:
    hostile, why = HOSTILE[case]
    content = gzip.compress(hostile + archive.tar((archive.Member("./control", b"Package: x\n"),)))
    path = folder / "hostile.deb"
    path.write_bytes(package(content))

    with pytest.raises(FetchError) as raised:
        deb.control(str(path))

    assert str(raised.value) == why
