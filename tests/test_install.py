"""The GL half of the driver is fetched and unpacked, whole or not at all.

The server is NVIDIA's on loopback, and the archives are real ones of the stand-in driver; see
rig/archive.py.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderngl_colab.installer import install, kept, place
from moderngl_colab.installer.record import DriverInstall
from moderngl_colab.installer.source import DriverInstallError, Offer
from rig import archive, driver, machines

VERSION, MACHINE = driver.VERSION, archive.MACHINE
OTHER = "535.104.05"
NAME = f"{VERSION}-{MACHINE}"
LIBRARIES = sorted(f"{each.name}.so.{VERSION}" for each in driver.libraries(VERSION))
LIBRARIES.remove(f"libnvidia-ml.so.{VERSION}")
LINKS = ["libEGL_nvidia.so.0", "libGLX_nvidia.so.0"]
RECORD = "moderngl_colab.json"
SCRATCH = f".{NAME}.moderngl_colab"
INSTALLED = sorted([NAME, *(f"{NAME}/{name}" for name in (*LIBRARIES, *LINKS, RECORD))])
LICENCE = "https://www.nvidia.com/en-us/drivers/nvidia-license/linux/"
SILENCE = 0.4  # seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[archive.Server]:
    """NVIDIA's server; it is the one that is asked."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with archive.serve() as started:
        monkeypatch.setenv("MODERNGL_COLAB_DRIVER_URL", started.url)
        yield started


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drivers are installed."""
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    return folder / "data" / "moderngl_colab" / "driver"


def fetch(
    version: str = VERSION, source: str | Path | None = "nvidia", **more: object
) -> DriverInstall:
    options: dict[str, object] = {"accept_license": True, "timeout": 5.0, **more}
    return install.install_driver(version, source, **options)  # type: ignore[arg-type]


def refusal(version: str = VERSION, source: str | Path | None = "nvidia", **more: object) -> str:
    """What the error says."""
    with pytest.raises(DriverInstallError) as raised:
        fetch(version, source, **more)
    return str(raised.value)


def reason(**more: object) -> str:
    """Why NVIDIA's archive did not serve."""
    text = refusal(**more)  # type: ignore[arg-type]
    head = (
        f"nothing was installed; no source gave the libraries of exactly {VERSION} for {MACHINE}:"
        "\n  1. "
    )
    tail = (
        f"\n  possible: give the .run of {VERSION}, its packages, or a folder with its libraries "
        "as source= (--from)"
    )
    assert text.startswith(head)
    assert text.endswith(tail)
    return text.removeprefix(head).removesuffix(tail)


def below(folder: Path) -> list[str]:
    """Every path below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def seen(server: archive.Server) -> list[str]:
    """What was asked, without what all paths of NVIDIA's have in common."""
    name = os.path.basename(archive.path())
    return [line.replace(archive.path(), "RUN").replace(name, "NAME") for line in server.asked]


# ---- NVIDIA's archive ----------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_the_gl_half_is_taken_out_of_nvidias_archive_and_nothing_is_executed(
    server: archive.Server, store: Path, compression: str
) -> None:
    url = server.url + server.publish(archive.runfile(compression=compression))

    there = fetch()

    size = sum((driver.cached() / name).stat().st_size for name in LIBRARIES)
    folder = str(store / NAME)
    assert there == (
        VERSION, MACHINE, folder, "nvidia", url, size, tuple(LIBRARIES), True,
    )  # fmt: skip
    assert str(there) == f"{VERSION} for {MACHINE}: {folder} (0 MB, from {url})"
    assert below(store) == INSTALLED
    for name in LIBRARIES:
        assert (store / NAME / name).read_bytes() == (driver.cached() / name).read_bytes()
        assert (store / NAME / name).stat().st_mode & 0o7777 == 0o644
    assert [os.readlink(store / NAME / name) for name in LINKS] == [
        f"libEGL_nvidia.so.{VERSION}",
        f"libGLX_nvidia.so.{VERSION}",
    ]
    for path in (store, store.parent, store / NAME):
        assert path.stat().st_mode & 0o7777 == 0o700
    assert seen(server) == ["HEAD RUN", "GET RUN.sha256sum", "GET RUN"]


def without_zstd(monkeypatch: pytest.MonkeyPatch, *, but: str = "") -> None:
    """A Python and a PATH that know nothing of zstd."""
    for name in ("compression.zstd", "zstandard"):
        if name != but:
            monkeypatch.setitem(sys.modules, name, None)
    if but != "program":
        monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize("way", ["zstandard", "program"])
def test_zstd_is_read_by_whichever_way_there_is(
    server: archive.Server, store: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "zstandard":
        pytest.importorskip("zstandard")
    server.publish(archive.runfile(compression="zstd"))
    without_zstd(monkeypatch, but=way)

    fetch()

    assert below(store) == INSTALLED


def test_an_archive_that_only_it_itself_can_read_unpacks_itself_and_nothing_more(
    server: archive.Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive.runfile(compression="zstd")
    server.publish(content)
    without_zstd(monkeypatch)
    monkeypatch.setenv("LD_PRELOAD", "")

    fetch()

    started = f"{SCRATCH}/download.{hashlib.sha256(content).hexdigest()}.started"
    assert below(store) == sorted([*INSTALLED, SCRATCH, started])
    assert (store / started).read_text() == (
        f"--extract-only --target {store}/{SCRATCH}/new/extracted\n"
    )


def test_an_archive_that_cannot_unpack_itself_either_is_an_error(
    server: archive.Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(archive.runfile(compression="zstd").replace(b"zstd -cdq", b"nonesuch "))
    without_zstd(monkeypatch)

    assert reason().startswith("nvidia: it does not unpack itself (status 2): ")
    assert NAME not in below(store)


def test_progress_is_told_in_bytes(server: archive.Server, store: Path) -> None:
    content = archive.runfile()
    name = os.path.basename(server.publish(content))
    told: list[tuple[str, int, int | None]] = []

    fetch(progress=lambda *each: told.append(each))

    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "asking nvidia", f"to fetch: {len(content) / 1e6:.1f} MB", name, "checking its sha256",
        f"unpacking {name}",
    ]  # fmt: skip
    downloaded = [(done, total) for what, done, total in told if what == name]
    assert downloaded[0] == (0, len(content))
    assert downloaded[-1] == (len(content), len(content))


def test_drivers_for_data_centres_are_on_another_path(server: archive.Server, store: Path) -> None:
    url = server.url + server.publish(archive.runfile(), archive.path(tesla=True))

    assert fetch().what == url
    assert below(store) == INSTALLED


# ---- what is there already -----------------------------------------------------------------------


def test_what_is_there_and_whole_is_left_as_it_is(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    first = fetch()
    server.asked.clear()

    assert fetch() == first._replace(fetched=False)
    assert install.install_driver(VERSION) == first._replace(fetched=False)
    assert server.asked == []


def _cut(folder: Path) -> None:
    os.truncate(folder / LIBRARIES[0], 100)


def _change(folder: Path) -> None:
    with open(folder / LIBRARIES[1], "r+b") as stream:
        stream.seek(1000)
        stream.write(b"?")


def _remove(folder: Path) -> None:
    (folder / LIBRARIES[2]).unlink()


def _remove_link(folder: Path) -> None:
    (folder / LINKS[0]).unlink()


def _turn_into_link(folder: Path) -> None:
    (folder / LIBRARIES[0]).rename(folder.parent / "elsewhere")
    (folder / LIBRARIES[0]).symlink_to(folder.parent / "elsewhere")


def _remove_record(folder: Path) -> None:
    (folder / RECORD).unlink()


def _nonsense_record(folder: Path) -> None:
    (folder / RECORD).write_text('{"version": 1, "files": [[[')


def _turn_into_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("text")


def _turn_into_dangling_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nonesuch")


def _in_record(old: str, new: str) -> Callable[[Path], None]:
    """Write something else into the record."""

    def damage(folder: Path) -> None:
        text = (folder / RECORD).read_text()
        assert old in text
        (folder / RECORD).write_text(text.replace(old, new, 1))

    return damage


DAMAGED_RECORDS = {
    "infinity": _in_record('"bytes": ', '"bytes": Infinity, "were": '),
    "negative": _in_record('"bytes": ', '"bytes": -'),
    "huge": _in_record('"bytes": ', '"bytes": 9' + "9" * 400 + ', "were": '),
    "nul-file": _in_record('"libEGL', '"\\u0000libEGL'),
    "nul-link": _in_record('"libEGL_nvidia.so.0', '"\\u0000'),
    "list": lambda folder: (folder / RECORD).write_text("[]") and None,
    "deep": lambda folder: (folder / RECORD).write_text("[" * 100_000) and None,
}


@pytest.mark.parametrize("damage", DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS)
def test_a_damaged_record_is_listed_replaced_and_removed(
    server: archive.Server, store: Path, damage: Callable[[Path], None]
) -> None:
    server.publish(archive.runfile())
    whole = fetch()
    damage(store / NAME)

    (listed,) = kept.installed()
    assert (listed.version, listed.machine, listed.folder) == whole[:3]
    assert fetch() == whole
    damage(store / NAME)
    assert kept.remove(VERSION).folder == whole.folder
    assert below(store) == []


@pytest.mark.parametrize(
    "damage",
    [
        _cut, _change, _remove, _remove_link, _turn_into_link, _remove_record, _nonsense_record,
        _turn_into_file, _turn_into_dangling_link,
    ],
)  # fmt: skip
def test_what_is_damaged_is_replaced(
    server: archive.Server, store: Path, damage: Callable[[Path], None]
) -> None:
    server.publish(archive.runfile())
    fetch()
    damage(store / NAME)

    assert fetch().fetched
    (store / "elsewhere").unlink(missing_ok=True)
    assert below(store) == INSTALLED
    assert not fetch().fetched


# ---- servers -------------------------------------------------------------------------------------

RUN, SUM = ".run", ".sha256sum"
Case = Callable[[archive.Server], tuple[str, archive.Answer]]
ABSENT = "the server answers 404 Not Found"


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (lambda _: (SUM, archive.refuse(500)), "the server answers 500 Internal Server Error"),
        (lambda _: (RUN, archive.refuse(503)), "the server answers 503 Service Unavailable"),
        (lambda s: (SUM, archive.hang(s)), f"the server was silent for {SILENCE} s"),
        (lambda s: (RUN, archive.hang(s)), f"the server was silent for {SILENCE} s"),
        (
            lambda _: (SUM, archive.redirect("file:///etc/passwd")),
            "the server answers 302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
        ),
        (
            lambda _: (SUM, archive.redirect("http://example.invalid/x")),
            "the server redirects elsewhere: http://example.invalid/x is not served by HTTPS: "
            "whoever is on the way could change it",
        ),
        (
            lambda _: (SUM, archive.redirect("http://127.0.0.2/x")),
            "the server redirects to this machine: http://127.0.0.2/x",
        ),
        (
            lambda s: (SUM, archive.redirect(f"{s.url}/again{SUM}")),
            "the server redirects in a circle",
        ),
        (
            lambda _: (SUM, archive.slowly(SILENCE / 2)),
            "the server was too slow: ",
        ),
        (
            lambda _: (SUM, lambda h, _: archive.give(h, b"<html>Log in to our Wi-Fi</html>")),
            "it is no checksum (is there a login page in between?)",
        ),
        (
            lambda _: (SUM, lambda h, _: archive.give(h, b"0" * 64 + b"  other.run\n")),
            "it is the checksum of another file, 'other.run'",
        ),
        (lambda _: (SUM, lambda h, _: h.wfile.write(b"\0" * 9)), "the connection broke (BadStatus"),
    ],
)  # fmt: skip
def test_a_server_that_fails_is_named_with_the_reason(
    server: archive.Server, store: Path, case: Case, why: str
) -> None:
    url = server.url + server.publish(archive.runfile())
    ending, answer = case(server)
    server.on(ending, answer)

    failed = url if ending == RUN else url + SUM
    assert reason(timeout=SILENCE).startswith(f"nvidia: {failed}: {why}")
    assert below(store) == []


@pytest.mark.parametrize("code", [403, 404])
@pytest.mark.parametrize("ending", [RUN, SUM])
def test_what_is_absent_is_looked_for_on_both_paths(
    server: archive.Server, store: Path, code: int, ending: str
) -> None:
    paths = [server.publish(archive.runfile(), archive.path(tesla=way)) for way in (False, True)]
    server.on(ending, archive.refuse(code))

    words = {403: "403 Forbidden", 404: "404 Not Found"}[code]
    absent = [f"{server.url}{path}{'' if ending == RUN else SUM}" for path in paths]
    both = "; ".join(f"{url}: the server answers {words}" for url in absent)
    assert reason() == f"nvidia: {both}"
    assert below(store) == []


def test_a_file_that_is_not_what_was_published_is_refused(
    server: archive.Server, store: Path
) -> None:
    content = archive.runfile()
    changed = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    url = server.url + server.publish(content)
    server.files[archive.path()] = changed

    digest = hashlib.sha256(changed).hexdigest()
    assert reason() == f"nvidia: {url} is not what was published: its sha256 is {digest}"
    assert below(store) == []


def part(content: bytes) -> str:
    """Where a download lies that is not finished."""
    return f"{SCRATCH}/download.{hashlib.sha256(content).hexdigest()}.part"


def went_on_with(store: Path) -> str:
    """What is said of a download that broke off."""
    return f"; what came is kept in {store / SCRATCH}, and the same command goes on there"


def test_what_came_of_a_broken_download_is_kept_and_continued(
    server: archive.Server, store: Path
) -> None:
    content = archive.runfile()
    server.publish(content)
    server.on(RUN, archive.truncate(20_000))

    assert reason() == (
        f"nvidia: the connection broke after 60000 of {len(content)} bytes{went_on_with(store)}"
    )
    assert below(store) == [SCRATCH, part(content)]
    assert (store / part(content)).read_bytes() == content[:60_000]
    assert seen(server)[2:] == ["GET RUN", "GET RUN bytes=20000-", "GET RUN bytes=40000-"]

    server.answers.clear()
    server.asked.clear()
    assert fetch().fetched
    assert below(store) == INSTALLED
    assert seen(server)[2:] == ["GET RUN bytes=60000-"]


def test_a_server_that_falls_silent_is_given_up_and_what_came_is_kept(
    server: archive.Server, store: Path
) -> None:
    content = archive.runfile()
    server.publish(content)
    server.on(RUN, archive.hang(server, after=30_000))

    assert reason(timeout=SILENCE) == (
        f"nvidia: the server was silent for {SILENCE} s{went_on_with(store)}"
    )
    assert (store / part(content)).read_bytes() == content[:30_000]


def test_a_server_that_is_slow_is_waited_for(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    server.on(RUN, archive.slowly(SILENCE / 2))

    assert fetch(timeout=SILENCE).fetched
    assert below(store) == INSTALLED


def test_a_server_that_gives_no_parts_starts_anew(server: archive.Server, store: Path) -> None:
    content = archive.runfile()
    server.publish(content)
    (store / SCRATCH).mkdir(parents=True, mode=0o700)
    (store / part(content)).write_bytes(content[:5000])
    server.ranges = False

    assert fetch().fetched
    assert below(store) == INSTALLED
    assert seen(server)[2:] == ["GET RUN bytes=5000-"]


@pytest.mark.parametrize("excess", [-5000, 0, 5000])
def test_what_was_kept_and_is_another_files_is_fetched_anew(
    server: archive.Server, store: Path, excess: int
) -> None:
    content = archive.runfile()
    server.publish(content)
    (store / SCRATCH).mkdir(parents=True, mode=0o700)
    (store / part(content)).write_bytes(b"?" * (len(content) + excess))

    assert fetch().fetched
    assert below(store) == INSTALLED
    assert seen(server)[-1] == "GET RUN"


def test_a_redirection_on_the_same_host_is_followed(server: archive.Server, store: Path) -> None:
    content = archive.runfile()
    server.publish(content)
    server.files["/elsewhere"] = content
    server.on(RUN, archive.redirect("/elsewhere"))

    assert fetch().fetched
    assert seen(server) == [
        "HEAD RUN", "HEAD /elsewhere", "GET RUN.sha256sum", "GET RUN", "GET /elsewhere",
    ]  # fmt: skip


HTTPS = "is not served by HTTPS: whoever is on the way could change it"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://192.0.2.1", f"http://192.0.2.1 {HTTPS}"),
        ("ftp://example.invalid", f"ftp://example.invalid {HTTPS}"),
        ("file:///srv", "file:///srv is a file: give its path as source= (--from)"),
        (
            "https://me:secret@example.invalid",
            "the address of example.invalid has a user's name in it, which is not sent",
        ),
        ("nonsense", "'nonsense' is no server's address"),
        ("https://[::1", "'https://[::1' is no address: Invalid IPv6 URL"),
    ],
)
def test_an_address_by_which_others_could_answer_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    monkeypatch.setenv("MODERNGL_COLAB_DRIVER_URL", url)

    assert reason() == f"nvidia: MODERNGL_COLAB_DRIVER_URL: {why}"


def test_proxies_of_the_environment_are_asked(
    server: archive.Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODERNGL_COLAB_DRIVER_URL")
    monkeypatch.setenv("https_proxy", server.url)

    said = reason()

    assert [line.split()[0] for line in said.split("; ")] == [
        "nvidia:",
        f"https://us.download.nvidia.com{archive.path(tesla=True)}:",
    ]
    assert said.count("the server cannot be reached: Tunnel connection failed: 501") == 2


def test_a_certificate_that_nobody_vouches_for_is_refused(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    import ssl

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key",
         "-out", folder / "cert", "-subj", "/CN=localhost", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv(
            "MODERNGL_COLAB_DRIVER_URL", f"https://127.0.0.1:{listener.getsockname()[1]}"
        )
        listener.settimeout(20)  # seconds; where nobody comes the test fails, and does not wait

        def shake_hands() -> None:
            connection, _ = listener.accept()
            with (
                pytest.raises(OSError, match="ALERT"),
                context.wrap_socket(connection, server_side=True) as secured,
            ):
                secured.read()

        thread = threading.Thread(target=shake_hands)
        thread.start()
        said = reason()
        thread.join()

    assert "the server cannot be reached: " in said
    assert "CERTIFICATE_VERIFY_FAILED" in said


# ---- the licence ---------------------------------------------------------------------------------


def test_nothing_is_fetched_before_the_licence_is_accepted(
    server: archive.Server, store: Path
) -> None:
    content = archive.runfile()
    url = server.url + server.publish(content)
    asked: list[Offer] = []

    def decline(offer: Offer) -> bool:
        asked.append(offer)
        return False

    why = (
        f"nvidia: {url} is there, but NVIDIA's licence was not accepted ({LICENCE}): "
        "pass accept_license=True (--accept-license)"
    )
    assert reason(accept_license=False) == why
    assert reason(accept_license=decline) == why
    assert reason(accept_license=lambda _: "no") == why
    assert [each[:4] for each in asked] == [("nvidia", url, len(content), True)]
    assert seen(server) == ["HEAD RUN", "GET RUN.sha256sum"] * 3
    assert below(store) == []

    assert fetch(accept_license=lambda _: True).fetched


def test_a_dry_run_says_what_each_source_has(server: archive.Server, store: Path) -> None:
    content = archive.runfile()
    url = server.url + server.publish(content)

    ((name, offer),) = install.offers(VERSION, "nvidia")
    assert isinstance(offer, Offer)
    assert (name, *offer[:4]) == ("nvidia", "nvidia", url, len(content), True)
    assert install.offers(OTHER, "nvidia") == ((
        "nvidia",
        "; ".join(
            f"{server.url}{archive.path(OTHER, tesla=tesla)}: {ABSENT}" for tesla in (False, True)
        ),
    ),)  # fmt: skip
    assert not store.parent.exists()


# ---- what comes is hostile, or not what it says --------------------------------------------------


def with_member(*more: archive.Member) -> tuple[archive.Member, ...]:
    """What NVIDIA's archive has, and more in front of it."""
    return (*more, *archive.members())


LINK, HARD, DEVICE, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
GLCORE = f"libnvidia-glcore.so.{VERSION}"


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (
            archive.Member(f"../../{GLCORE}", b"x"),
            f"the archive has a member that lies outside it: '../../{GLCORE}'",
        ),
        (
            archive.Member(f"./a/../../{GLCORE}", b"x"),
            f"the archive has a member that lies outside it: './a/../../{GLCORE}'",
        ),
        (
            archive.Member(f"/tmp/{GLCORE}", b"x"),
            f"the archive has a member that lies outside it: '/tmp/{GLCORE}'",
        ),
        (
            archive.Member("./here", type=LINK, target="/etc"),
            "the archive has a link that leads out of it: './here' to '/etc'",
        ),
        (
            archive.Member("./a/here", type=LINK, target="../../etc"),
            "the archive has a link that leads out of it: './a/here' to '../../etc'",
        ),
        (
            archive.Member("./here", type=HARD, target="/etc/passwd"),
            "the archive has a link that leads out of it: './here' to '/etc/passwd'",
        ),
        (
            archive.Member("./a/here", type=HARD, target="../etc/passwd"),
            "the archive has a link that leads out of it: './a/here' to '../etc/passwd'",
        ),
        (
            archive.Member("./null", type=DEVICE),
            "the archive has a member that is no file: './null'",
        ),
        (archive.Member("./fifo", type=FIFO), "the archive has a member that is no file: './fifo'"),
        (
            archive.Member(f"./{GLCORE}", type=LINK, target="nvidia-installer"),
            f"the archive has no file where a library is: './{GLCORE}'",
        ),
        (
            archive.Member(f"./{GLCORE}", b""),
            None,
        ),
        (
            archive.Member(f"./{GLCORE}", (driver.SOURCES / "nvml.c").read_bytes()),
            None,
        ),
        (
            archive.members()[4],
            f"the archive has {os.path.basename(archive.members()[4].name)} twice",
        ),
        (
            archive.Member("x", b"y" * (1 << 17), type=tarfile.GNUTYPE_LONGNAME),
            f"the archive is damaged: a name of {1 << 17} bytes",
        ),
    ],
)  # fmt: skip
def test_a_hostile_archive_is_refused(
    server: archive.Server, store: Path, member: archive.Member, why: str | None
) -> None:
    server.publish(archive.runfile(content=with_member(member)))

    if why is None:  # It is no library, and passed over.
        assert fetch().fetched
        assert below(store) == INSTALLED
    else:
        assert reason() == f"nvidia: {why}"
        assert below(store) == []
    assert not Path("/tmp", GLCORE).exists()


def changed(name: str, content: bytes | None) -> tuple[archive.Member, ...]:
    """NVIDIA's archive, with another library of a name, or without it."""
    path = f"./{name}"
    others = tuple(each for each in archive.members() if each.name != path)
    return others if content is None else (*others, archive.Member(path, content))


def _content(name: str, version: str = VERSION) -> bytes:
    return (driver.cached(version) / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (changed(GLCORE, None), f"RUN lacks {GLCORE}"),
        (
            changed(f"libnvidia-gpucomp.so.{VERSION}", None),
            f"RUN lacks libnvidia-gpucomp.so.{VERSION}",
        ),
        (changed(GLCORE, archive.of_32_bits(_content(GLCORE))), f"RUN lacks {GLCORE}"),
        (
            changed(GLCORE, _content(f"libnvidia-glcore.so.{OTHER}", OTHER)),
            f"{GLCORE} is not of {VERSION}: it names libnvidia-glcore.so.{OTHER}",
        ),
        (
            changed(GLCORE, _content(GLCORE)[:5000]),
            f"{GLCORE} is damaged: its dynamic section cannot be read",
        ),
        (changed(GLCORE, _content(GLCORE)[:70]), f"{GLCORE} is damaged: "),
        (archive.members()[:4], f"RUN has nothing of the GL half of {NAME}"),
    ],
)
def test_what_is_not_the_whole_half_of_that_version_is_refused(
    server: archive.Server, store: Path, content: tuple[archive.Member, ...], why: str
) -> None:
    url = server.url + server.publish(archive.runfile(content=content))

    assert reason().replace(url, "RUN").startswith(f"nvidia: {why}")
    assert below(store) == []


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (1 << 31, f"{GLCORE} has {1 << 31} bytes, which no library has"),
        (1 << 20, "the archive is damaged: unexpected end of data"),
    ],
)
def test_a_library_that_is_said_to_be_larger_than_it_is_is_refused(
    server: archive.Server, store: Path, size: int, why: str
) -> None:
    lie = archive.Member(f"./{GLCORE}", _content(GLCORE), size=size)
    server.publish(archive.runfile(content=(*changed(GLCORE, None), lie)))

    assert reason() == f"nvidia: {why}"
    assert below(store) == []


DAMAGED = "the archive is damaged: "
ENDS = f"{DAMAGED}its script ends before its contents begin"
NONE = "it is none of NVIDIA's .run archives: its first lines do not say so"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[: len(data) // 2], DAMAGED),
        (lambda data: data[:-5000] + bytes(5000), DAMAGED),
        (lambda data: data[:400], ENDS),
        (lambda data: data.replace(b"skip=", b"skip=9", 1), ENDS),
        (lambda data: data.replace(b"skip=", b"skip=-", 1), NONE),
        (lambda data: data.replace(b"exit $?\n", b"exit $?\n??", 1), DAMAGED),
        (lambda _: b"<html></html>", NONE),
        (lambda _: b"#!/bin/sh\nexit 0\n", NONE),
    ],
)
@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_damaged_archive_is_refused_though_its_checksum_is_right(
    server: archive.Server,
    store: Path,
    change: Callable[[bytes], bytes],
    why: str,
    compression: str,
) -> None:
    server.publish(change(archive.runfile(compression=compression)))

    said = reason()

    assert said == f"nvidia: {why}" or (why == DAMAGED and said.startswith(f"nvidia: {why}"))
    assert below(store) == []


# ---- what the user has ---------------------------------------------------------------------------


def package(folder: Path, version: str = VERSION, compression: str = "xz") -> Path:
    """A package as Debian's are, made by dpkg-deb, with an absolute link in it."""
    root = folder / f"root-{version}"
    libraries = root / "usr/lib/here/nvidia/current"
    libraries.mkdir(parents=True)
    for each in driver.files(version):
        if each.name.endswith(version):
            shutil.copy(each, libraries)
    (root / "usr/lib/here/libEGL_nvidia.so.0").symlink_to("/etc/alternatives/libEGL_nvidia.so.0")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        f"Package: libegl-nvidia0\nVersion: 1:{version}-2\nArchitecture: all\n"
        "Maintainer: nobody\nDescription: the stand-in\n"
    )
    path = folder / f"driver-{version}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", root, path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_a_run_file_of_the_users_own_is_used(store: Path, folder: Path) -> None:
    path = folder / "driver.run"
    path.write_bytes(archive.runfile())

    there = fetch(source=path, accept_license=False)

    assert (there.source, there.what) == ("from", str(path))
    assert below(store) == INSTALLED
    assert below(folder)[:2] == ["data", "data/moderngl_colab"]
    assert path.read_bytes() == archive.runfile()


@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_packages_of_the_users_own_are_used(
    store: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: str,
    whole_folder: bool,
) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    if whole_folder:
        package(folder, OTHER, compression)
    path = package(folder, VERSION, compression)
    if compression == "zstd":  # dpkg-deb itself knows it, wherever it is.
        program = shutil.which("dpkg-deb")
        without_zstd(monkeypatch)
        (folder / "path").mkdir()
        (folder / "path" / "dpkg-deb").symlink_to(str(program))
        monkeypatch.setenv("PATH", str(folder / "path"))

    there = fetch(source=folder if whole_folder else path)

    source = folder if whole_folder else path
    assert there.what == f"{source}: libegl-nvidia0 1:{VERSION}-2"
    assert below(store) == INSTALLED


def test_a_folder_of_libraries_is_used_and_links_in_it_are_not(store: Path, folder: Path) -> None:
    driver.build(folder / "lib" / "deep")
    (folder / "lib" / f"libEGL_nvidia.so.{VERSION}").symlink_to("/dev/zero")
    os.mkfifo(folder / "lib" / GLCORE)

    there = fetch(source=folder / "lib")

    assert there.what == str(folder / "lib")
    assert below(store) == INSTALLED


def test_what_the_user_names_is_the_only_source_and_says_what_it_has(
    store: Path, folder: Path
) -> None:
    other = folder / "other.run"
    other.write_bytes(archive.runfile(OTHER))
    foreign = folder / "foreign.run"
    foreign.write_bytes(archive.runfile(machine="riscv64"))
    driver.build(folder / "lib", OTHER)
    for name in ("empty", "debs"):
        (folder / name).mkdir()
    shutil.copy(folder / "other.run", folder / "debs" / "no.deb")

    said = {
        path: reason(source=path).removeprefix("from: ").replace(f"{folder}/", "")
        for path in (other, foreign, *(folder / name for name in ("lib", "empty", "debs")))
    }
    assert [*said.values()] == [
        f"other.run is {OTHER}-{MACHINE}, not {NAME}",
        f"foreign.run is {VERSION}-riscv64, not {NAME}",
        f"lib has libraries of {OTHER}, nothing of {VERSION}",
        f"empty has no driver, nothing of {VERSION}",
        "debs/no.deb: it is no Debian package: it has no control.tar",
    ]
    assert refusal(source="nonesuch") == (
        "'nonesuch' is no source: it is to be apt, nvidia, or the path of a .run, of a .deb, or of "
        "a folder of packages or libraries"
    )
    assert below(store) == []


def test_every_source_is_named_with_its_reason(
    server: archive.Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    url = f"{server.url}{archive.path()}"
    tesla = f"{server.url}{archive.path(tesla=True)}"
    assert refusal(source=None) == (
        f"nothing was installed; no source gave the libraries of exactly {VERSION} for {MACHINE}:\n"
        "  1. apt: apt-get is not on the PATH\n"
        f"  2. nvidia: {url}: {ABSENT}; {tesla}: {ABSENT}\n"
        f"  possible: give the .run of {VERSION}, its packages, or a folder with its libraries as "
        "source= (--from)"
    )
    assert [name for name, _ in install.offers(VERSION)] == ["apt", "nvidia"]


@pytest.mark.parametrize("source", ["nonesuch", "\0", "~\0", "a\nb", ""])
def test_what_is_no_source_is_named_though_the_version_is_there(
    server: archive.Server, store: Path, source: str
) -> None:
    server.publish(archive.runfile())
    fetch()

    assert refusal(source=source) == (
        f"{source!r} is no source: it is to be apt, nvidia, or the path of a .run, of a .deb, or "
        "of a folder of packages or libraries"
    )


@pytest.mark.parametrize("version", ["550", "550.54.15-1", "../x", "", "\u0665\u0665\u0660.54"])
def test_a_version_that_is_none_is_named(store: Path, version: str) -> None:
    assert refusal(version) == (
        f"{version!r} is no version of NVIDIA's driver; they are written like 550.54.15"
    )
    assert not store.exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"version": 550.54}, "version=550.54: a text is needed, such as '550.54.15'"),
        ({"source": 5}, "source=5: a path is needed, not int"),
        ({"dest": ["x"]}, "dest=['x']: a path is needed, not list"),
        ({"accept_license": "no"}, "accept_license='no': True, False or a function is needed"),
        ({"accept_license": None}, "accept_license=None: True, False or a function is needed"),
        ({"progress": True}, "progress=True: a function is needed"),
        ({"timeout": "5"}, "timeout='5': a number of seconds is needed"),
        ({"timeout": None}, "timeout=None: a number of seconds is needed"),
        ({"timeout": True}, "timeout=True: a number of seconds is needed"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    server: archive.Server, store: Path, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(TypeError) as raised:
        fetch(**given)

    assert str(raised.value) == why
    if not {*given} & {"dest", "accept_license", "progress"}:
        with pytest.raises(TypeError, match=re.escape(why)):
            install.offers(**given)
    assert (server.asked, store.exists()) == ([], False)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 86401, 10**400])
def test_a_time_limit_that_is_none_is_named(
    server: archive.Server, store: Path, timeout: float
) -> None:
    why = f"timeout={timeout}: a number of seconds above 0 is needed, 86400 at most"
    for call in (fetch, install.offers):
        with pytest.raises(ValueError, match=f"^{why}$"):
            call(VERSION, "nvidia", timeout=timeout)
    assert (server.asked, store.exists()) == ([], False)


# ---- where it is put -----------------------------------------------------------------------------


def test_it_can_be_put_elsewhere(server: archive.Server, store: Path, folder: Path) -> None:
    server.publish(archive.runfile())
    server.publish(archive.runfile(OTHER), archive.path(OTHER))
    dest = folder / "opt" / "nvidia"

    assert fetch(dest=dest).folder == str(dest)
    assert below(dest) == sorted([*LIBRARIES, *LINKS, RECORD])
    assert dest.stat().st_mode & 0o7777 == 0o755
    assert not fetch(dest=dest).fetched
    assert fetch(OTHER, dest=dest).version == OTHER
    assert f"libEGL_nvidia.so.{OTHER}" in below(dest)
    assert f"libEGL_nvidia.so.{VERSION}" not in below(dest)
    assert below(dest.parent)[0] == "nvidia"
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("empty")
    assert fetch(dest=folder / "link").folder == str(folder / "empty")
    assert kept.installed() == ()
    assert not store.exists()


@pytest.mark.parametrize("version", [VERSION, OTHER])
def test_what_lies_beside_a_folder_of_the_users_own_is_left_alone(
    server: archive.Server, store: Path, folder: Path, version: str
) -> None:
    server.publish(archive.runfile())
    beside = folder / "beside"
    for name in (".nvidia.old", ".nvidia.new", ".nvidia.lock", f".{NAME}.moderngl_colab/new"):
        (beside / name).mkdir(parents=True)
        (beside / name / "precious").touch()
    before = below(beside)

    if version == VERSION:
        fetch(dest=beside / "nvidia")
        shutil.rmtree(beside / "nvidia")
    else:
        refusal(version, dest=beside / "nvidia")

    assert below(beside) == before


@pytest.mark.parametrize(
    ("dest", "why"),
    [
        ("", "'' is no folder to install to"),
        (b"", "'' is no folder to install to"),
        ("a\0b", "'a\\x00b' is no folder to install to"),
    ],
)
def test_a_folder_that_is_none_is_named(store: Path, dest: str | bytes, why: str) -> None:
    assert refusal(dest=dest) == why
    assert not store.exists()


def test_a_folder_of_others_is_left_alone(
    server: archive.Server, store: Path, folder: Path
) -> None:
    server.publish(archive.runfile())
    (folder / "precious").write_text("text")

    assert refusal(dest=folder) == f"{folder} has files that no installation put there"
    assert refusal(dest=folder / "precious") == (
        f"nothing can be installed in {folder}/precious (Not a directory): choose another folder "
        "of your own"
    )
    assert below(folder) == ["precious"]
    (folder / "open").mkdir()
    (folder / "open").chmod(0o1777)
    assert refusal(dest=folder / "open" / "nvidia") == (
        f"nothing can be installed in {folder}/open/nvidia (everybody can write to {folder}/open): "
        "choose another folder of your own"
    )
    assert server.asked == []
    dest = folder / "nvidia"
    fetch(dest=dest)
    (dest / "precious").touch()
    assert refusal(OTHER, dest=dest) == f"{dest} has files that no installation put there"
    assert (dest / "precious").exists()


def test_the_current_folder_is_not_exchanged(
    server: archive.Server, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(archive.runfile())
    (folder / "new").mkdir()
    (folder / "link").symlink_to("new")
    monkeypatch.chdir(folder / "new")
    why = (
        f"{folder}/new is the current folder, which would be exchanged for another one: choose a "
        "folder below it, or go to another one before"
    )

    for dest in (".", folder / "new", "../link"):
        assert refusal(dest=dest) == why
    assert (server.asked, below(folder)) == ([], ["link", "new"])
    assert fetch(dest="below").folder == f"{folder}/new/below"
    monkeypatch.chdir("below")
    assert not fetch(dest=".").fetched  # It is whole: nothing is exchanged.
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert refusal(dest="x") == "'x' is in a folder that was removed"


@pytest.mark.parametrize("name", ["$LIB", "a$ORIGIN-b", "x${PLATFORM}y"])
def test_a_path_that_the_loader_changes_is_refused(
    server: archive.Server, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server.publish(archive.runfile())
    token = name.lstrip("ax").removesuffix("y").removesuffix("-b")
    monkeypatch.setenv("XDG_DATA_HOME", f"{folder}/{name}")
    why = f"(no library can be loaded from there: the loader replaces {token}): "

    assert refusal(dest=folder / name) == (
        f"nothing can be installed in {folder}/{name} {why}choose another folder of your own"
    )
    assert refusal() == (
        f"nothing can be installed in {folder}/{name}/moderngl_colab/driver/{NAME} {why}"
        "set XDG_DATA_HOME to another folder of your own"
    )
    assert (server.asked, below(folder)) == ([], [])
    fetch(dest=folder / "whole")
    (folder / "whole").rename(folder / name)
    assert refusal(dest=folder / name) == (
        f"nothing can be installed in {folder}/{name} {why}choose another folder of your own"
    )


@pytest.mark.parametrize("name", ["$LIBRARY", "${LIB", "$lib", "LIB$"])
def test_a_path_that_the_loader_takes_as_it_is_serves(
    server: archive.Server, store: Path, folder: Path, name: str
) -> None:
    server.publish(archive.runfile())

    installed = fetch(dest=folder / name).folder

    mapped = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print('opened')"
    library = f"{installed}/libnvidia-tls.so.{VERSION}"
    opened = subprocess.check_output([sys.executable, "-c", mapped, library], text=True)
    assert opened == "opened\n"


def test_no_home_no_trust_and_no_right_are_named_with_the_cure(
    server: archive.Server, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(archive.runfile())
    cure = "set XDG_DATA_HOME to another folder of your own"
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "file").touch()
    said = {}
    for name in ("open", "file"):
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / name))
        said[name] = refusal()

    assert said == {
        "open": f"nothing can be installed in {folder}/open/moderngl_colab/driver/{NAME} "
        f"({folder}/open can be written to by everybody): {cure}",
        "file": f"nothing can be installed in {folder}/file/moderngl_colab/driver/{NAME} "
        f"({folder}/file is no folder): {cure}",
    }
    assert server.asked == []


WITHOUT_HOME = f"""
import os, sys
from moderngl_colab.installer import install
del os.environ["HOME"]
try:
    print(install.install_driver("{VERSION}", sys.argv[1]).folder)
except install.DriverInstallError as error:
    print(error)
"""


@pytest.mark.parametrize("known", [True, False])
def test_without_a_variable_the_home_is_that_of_the_password_database(
    python: Callable[..., machines.Finished], folder: Path, known: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    uid = 61234
    home = folder / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    (folder / "driver.run").write_bytes(archive.runfile())
    line = f"somebody:x:{uid}:{uid}::{home}:/bin/sh\n" if known else ""
    item = machines.Item("/etc/passwd", f"root:x:0:0:root:/root:/bin/sh\n{line}")
    machine = replace(machines.MACHINES["compute-only"], items=(item,))

    done = python(machine, WITHOUT_HOME, str(folder / "driver.run"), uid=uid)

    assert done.stdout == (
        f"{home}/.local/share/moderngl_colab/driver/{NAME}\n"
        if known
        else "this user has no home folder: set XDG_DATA_HOME to a folder of your own\n"
    )


def test_what_another_user_installed_is_not_taken_for_ones_own(
    server: archive.Server, store: Path, folder: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    server.publish(archive.runfile())
    fetch()
    for path in (store.parent.parent, *store.parent.parent.rglob("*")):
        os.chown(path, 61234, 61234, follow_symlinks=False)

    data = store.parent.parent
    assert refusal() == (
        f"nothing can be installed in {store}/{NAME} ({data} belongs to user 61234): set "
        "XDG_DATA_HOME to another folder of your own"
    )
    os.chown(data, 0, 0)
    for path in (store.parent, store):
        os.chown(path, 0, 0)
    assert fetch().fetched
    assert (store / NAME).stat().st_uid == 0


WRITE_PROTECTED = f"""
import os, subprocess
from moderngl_colab.installer import install, kept

def protected(dest=None):
    there = install.install_driver("{VERSION}", "nvidia", dest, accept_license=True)
    print(there.fetched, os.listdir(os.path.dirname(there.folder)))
    subprocess.run(["chmod", "-R", "a-w", there.folder], check=True)
    return there.folder

def damaged(folder):
    path = f"{{folder}}/libGLX_nvidia.so.{VERSION}"
    os.chmod(path, 0o600)
    os.truncate(path, 100)

damaged(protected())
protected()
kept.remove("{VERSION}")
print(kept.installed(), kept.unfinished())
own = os.environ["XDG_DATA_HOME"] + "/below/own"
damaged(protected(own))
protected(own)
"""


def test_what_its_user_has_write_protected_is_replaced_and_removed(
    python: Callable[..., machines.Finished], server: archive.Server, folder: Path
) -> None:
    uid = 61234 if os.geteuid() == 0 else None
    home = folder / "home"
    home.mkdir()
    if uid is not None:
        os.chown(home, uid, uid)
    server.publish(archive.runfile())
    env = {"XDG_DATA_HOME": str(home), "MODERNGL_COLAB_DRIVER_URL": server.url}

    done = python("compute-only", WRITE_PROTECTED, str(home), uid=uid, env=env)

    assert done.stdout == 2 * f"True {[NAME]}\n" + "() ()\n" + 2 * "True ['own']\n"


@pytest.mark.parametrize("asked", [True, False])
def test_an_error_of_the_callers_own_is_the_callers(
    server: archive.Server, store: Path, asked: bool
) -> None:
    server.publish(archive.runfile())
    own = OSError(5, "the terminal is gone")

    def fail(*_: object) -> bool:
        raise own

    with pytest.raises(OSError, match="the terminal is gone") as raised:
        fetch(accept_license=fail if asked else True, progress=None if asked else fail)

    assert raised.value is own
    assert below(store) == []


# ---- listing and removing ------------------------------------------------------------------------


def test_what_is_installed_is_listed_and_removed(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    server.publish(archive.runfile(OTHER), archive.path(OTHER))
    assert kept.installed() == ()
    assert _error(lambda: kept.remove(VERSION)) == (
        f"{VERSION!r} is not installed for {MACHINE}; what is: nothing"
    )
    first, second = fetch(OTHER)._replace(fetched=False), fetch()._replace(fetched=False)
    (store / "stray").mkdir()
    foreign = "aarch64" if MACHINE == "x86_64" else "x86_64"
    (store / f"1.2-{foreign}").mkdir()

    assert [each for each in kept.installed() if each.machine == MACHINE] == [first, second]
    assert [str(each) for each in kept.installed() if each.machine == foreign] == [
        f"1.2 for {foreign}: {store}/1.2-{foreign} (damaged)"
    ]
    assert _error(lambda: kept.remove("1.2")) == (
        f"'1.2' is not installed for {MACHINE}; what is: {OTHER}, {VERSION}"
    )
    assert kept.remove(OTHER) == first
    (store / f"1.2-{foreign}").rmdir()
    assert kept.installed() == (second,)
    (store / "stray").rmdir()
    assert below(store) == INSTALLED
    assert kept.remove(VERSION) == second
    assert below(store) == []


def test_a_record_cannot_tell_the_terminal_what_to_do(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    url = fetch().what
    _in_record('"what": "', '"what": "x\\u001b]0;title\\u0007\\nto use it: ')(store / NAME)

    (there,) = kept.installed()

    assert str(there) == (
        f"{VERSION} for {MACHINE}: {store}/{NAME} "
        f"(0 MB, from x\\x1b]0;title\\x07\\nto use it: {url})"
    )


def _error(call: Callable[[], object]) -> str:
    with pytest.raises(DriverInstallError) as raised:
        call()
    return str(raised.value)


# ---- processes -----------------------------------------------------------------------------------

INSTALL = f"""
import json, os, signal, sys
from moderngl_colab.installer import install
from moderngl_colab.installer.source import DriverInstallError

def say(what, done, total):
    if not told or told[-1] != what:
        told.append(what)
        print("said", what, flush=True)
    if what.startswith(sys.argv[1]) and sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

told = []
try:
    there = install.install_driver(
        "{VERSION}", "nvidia", accept_license=True, progress=say, timeout=5
    )
    print("fetched" if there.fetched else "there")
except DriverInstallError as error:
    print(error)
"""


def start(die_at: str = "") -> subprocess.Popen[str]:
    """Install in a process of its own, which kills itself when it says what begins so."""
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", INSTALL, die_at],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_of_two_processes_one_installs_and_the_other_waits_for_it(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    server.on(RUN, archive.slowly(0.25))
    first = start()
    wait_for(lambda: "GET RUN" in seen(server))
    second = start()
    waited = f"said waiting for process {first.pid}, which is at work on {NAME}\n"
    assert second.stdout is not None
    assert second.stdout.readline() == waited

    assert _error(lambda: kept.remove(VERSION)) == (
        f"process {first.pid} is at work on {store / NAME}"
    )
    assert [process.communicate(timeout=30)[0].splitlines()[-1] for process in (first, second)] == [
        "fetched",
        "there",
    ]
    assert seen(server) == ["HEAD RUN", "GET RUN.sha256sum", "GET RUN"]
    assert below(store) == INSTALLED


def test_what_is_being_replaced_is_not_removed(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    fetch()
    _cut(store / NAME)
    server.on(RUN, archive.slowly(0.25))
    process = start()
    wait_for(lambda: seen(server).count("GET RUN") == 2)

    assert _error(lambda: kept.remove(VERSION)) == (
        f"process {process.pid} is at work on {store / NAME}"
    )
    assert process.communicate(timeout=30)[0].endswith("\nfetched\n")
    assert kept.remove(VERSION).version == VERSION


def test_who_holds_a_place_and_could_not_write_its_name_is_another_process(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    fetch()

    with place.locked(place.of_store(NAME, os.environ)):
        (store / SCRATCH / "lock").write_text("")  # As on a full disk.
        assert _error(lambda: kept.remove(VERSION)) == (
            f"another process is at work on {store / NAME}"
        )


def test_of_many_threads_one_installs(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    fetched = []
    threads = [threading.Thread(target=lambda: fetched.append(fetch().fetched)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(fetched) == [False] * 5 + [True]
    assert below(store) == INSTALLED


def test_an_interrupt_leaves_nothing_but_what_can_be_continued(
    server: archive.Server, store: Path
) -> None:
    content = archive.runfile()
    server.publish(content)

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        fetch(progress=interrupt)
    assert [f"; {note}" for note in raised.value.__notes__] == [went_on_with(store)]
    assert below(store) == [SCRATCH, part(content)]
    assert fetch().fetched
    assert below(store) == INSTALLED


def test_no_umask_keeps_it_from_this_user(server: archive.Server, store: Path) -> None:
    server.publish(archive.runfile())
    before = os.umask(0o777)
    try:
        fetch()
    finally:
        os.umask(before)

    modes = {(store / name).lstat().st_mode & 0o777 for name in INSTALLED}
    assert modes == {0o700, 0o644, 0o777}  # The folder, files, and links.


@pytest.mark.parametrize("there_before", [False, True])
def test_a_process_that_is_killed_amid_the_download_leaves_what_was_there_and_is_continued(
    server: archive.Server, store: Path, there_before: bool
) -> None:
    content = archive.runfile()
    server.publish(content)
    if there_before:
        fetch()
        _cut(store / NAME)
    before = below(store)
    server.on(RUN, archive.slowly(0.1, pieces=20))
    process = start()
    wait_for(lambda: (store / part(content)).exists() and (store / part(content)).stat().st_size)
    process.kill()
    process.communicate()

    scratch = [f"{SCRATCH}{path}" for path in ("", "/lock", "/new", "/new/libraries")]
    assert below(store) == sorted([*before, *scratch, part(content)])
    had = (store / part(content)).stat().st_size
    server.answers.clear()
    assert fetch().fetched
    assert below(store) == INSTALLED
    assert seen(server)[-1] == f"GET RUN bytes={had}-"


def test_a_process_that_is_killed_amid_the_unpacking_leaves_nothing_half(
    server: archive.Server, store: Path
) -> None:
    # What comes last takes its time to be read.
    long = (*archive.members(), archive.Member("./long", bytes(1 << 28)))
    server.publish(content := archive.runfile(content=long))
    process = start()
    wait_for((store / f"{SCRATCH}/new/libraries/{LIBRARIES[-1]}").exists)
    process.kill()
    assert process.communicate()[0].splitlines()[-1].startswith("said unpacking ")

    assert kept.installed() == ()
    assert not (store / NAME).exists()
    assert (store / part(content)).stat().st_size == len(content)
    server.asked.clear()
    assert fetch().fetched
    assert below(store) == INSTALLED
    assert seen(server) == ["HEAD RUN", "GET RUN.sha256sum"]


def test_what_was_put_aside_when_a_process_ended_is_put_back(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    first = fetch()._replace(fetched=False)
    (store / SCRATCH).mkdir(mode=0o700)
    (store / NAME).rename(store / SCRATCH / "old")  # As between two renames.
    server.asked.clear()

    assert fetch() == first
    assert server.asked == []
    assert below(store) == INSTALLED


def test_what_dead_processes_left_of_other_versions_is_swept_away(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    other = store / f".{OTHER}-{MACHINE}.moderngl_colab"
    for name in ("new", "old"):
        (other / name).mkdir(parents=True)
        (other / name / "file").touch()
    download = other / f"download.{'0' * 64}.part"
    download.touch()
    os.utime(download, 2 * (time.time() - 8 * 86400,))
    (other / "lock").write_text("1\n")
    (store / ".precious").touch()

    fetch()

    # What had been put aside of it is back.
    back = f"{OTHER}-{MACHINE}"
    assert below(store) == sorted([".precious", back, f"{back}/file", *INSTALLED])


def test_another_versions_download_is_left_alone_for_a_week(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    server.publish(other := archive.runfile(OTHER), archive.path(OTHER))
    server.on(f"{OTHER}{RUN}", archive.truncate(20_000))
    assert went_on_with(store).replace(VERSION, OTHER) in refusal(OTHER)
    (half,) = kept.unfinished()

    fetch()

    assert kept.unfinished() == (half,)
    server.answers.clear()
    assert fetch(OTHER).fetched
    assert seen(server)[-1].endswith(f" {archive.path(OTHER)} bytes=60000-")
    assert len(other) > half.bytes == 60_000
    assert kept.unfinished() == ()


# A kernel of before renameat2(2): BPF refuses it, seccomp(2).
WITHOUT_EXCHANGE = """
import ctypes, struct, sys
number = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
steps = (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)
program = b"".join(struct.pack("HBBI", *step) for step in steps)
kept = ctypes.create_string_buffer(program)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(kept)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.addressof(filter), 0, 0) == 0, ctypes.get_errno()
"""


def test_a_system_that_cannot_exchange_two_folders_replaces_them_too(
    server: archive.Server, store: Path
) -> None:
    server.publish(archive.runfile())
    fetch()
    _cut(store / NAME)

    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import os{WITHOUT_EXCHANGE}{INSTALL}", ""],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.stdout.splitlines()[-1:], done.stderr) == (["fetched"], "")
    assert below(store) == INSTALLED
    assert not fetch().fetched


# ---- disks and users -----------------------------------------------------------------------------

# $1: mount options; the rest is run there.
MOUNTED = 'mount -t tmpfs -o "$1" tests "$XDG_DATA_HOME" && shift && exec "$@"'
ON_SMALL_DISKS = f"""
import os, subprocess, sys
from moderngl_colab.installer import install
from moderngl_colab.installer.source import DriverInstallError

for size in range(40, 520, 16):
    data = os.environ["XDG_DATA_HOME"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={{size}}k", "tests", data], check=True)
    try:
        there = install.install_driver("{VERSION}", "nvidia", accept_license=True, timeout=5)
        print(size, "installed", install.install_driver("{VERSION}").fetched)
    except DriverInstallError as error:
        left = [more for _, *names in os.walk(data + "/moderngl_colab/driver") for more in names]
        print(size, str(error).replace(data, "DATA"), sum(left, []))
    subprocess.run(["umount", data], check=True)
"""


def in_mounts(command: list[str], folder: Path) -> str:
    """Run a command where it may mount; it gives what that printed."""
    if (why := machines.available()) is not None:
        pytest.skip(why)
    (folder / "data").mkdir()
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    done = subprocess.run(
        [*unshare, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("said", [True, False])
def test_a_disk_that_fills_up_at_any_moment_leaves_nothing_half(
    server: archive.Server, store: Path, folder: Path, said: bool
) -> None:
    server.publish(content := archive.runfile())
    if not said:  # Nobody knows how much will come.
        server.on(RUN, without_length)

    lines = in_mounts([sys.executable, "-P", "-c", ON_SMALL_DISKS], folder).splitlines()

    refused = [line for line in lines if "installed False" not in line]
    assert 5 < len(refused) < len(lines)
    for line in refused:
        _, _, text = line.partition(" ")
        assert text.startswith(f"there is no room for DATA/moderngl_colab/driver/{NAME}: ")
        left = [SCRATCH, os.path.basename(part(content))] if "is kept" in text else []
        assert text.endswith(f"; nothing was installed {left}")
    assert len({line.endswith(" []") for line in refused}) == 2
    assert lines[len(refused) :] == [line for line in lines if "installed False" in line]


def without_length(handler: archive.Handler, content: bytes) -> None:
    """Give a file, and do not say how long it is."""
    handler.send_response(200)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


ON_A_DISK_OF = f"""
import os, subprocess, sys
from moderngl_colab.installer import install

def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tests", data], check=True)

data = os.environ["XDG_DATA_HOME"]
mount(f"size={{sys.argv[1]}}")
try:
    install.install_driver("{VERSION}", "nvidia", accept_license=True)
except install.DriverInstallError as error:
    print(error)
mount("remount,size=100m")
there = install.install_driver("{VERSION}", "nvidia", accept_license=True)
print(there.bytes, os.listdir(os.path.dirname(there.folder)))
"""


@pytest.mark.parametrize("libraries", [0, 2, 4])
def test_a_download_that_there_was_no_room_to_unpack_is_kept_and_all_that_is_needed_is_said(
    server: archive.Server, store: Path, folder: Path, libraries: int
) -> None:
    large = tuple(
        replace(each, content=each.content + os.urandom(1_000_000))
        if each.name.removeprefix("./") in LIBRARIES
        else each
        for each in archive.members()
    )
    size = sum(len(each.content) for each in large if each.name.removeprefix("./") in LIBRARIES)
    content = archive.runfile(content=large)
    server.publish(content)
    room = str(len(content) + 200_000 + libraries * 1_000_000)

    said = in_mounts([sys.executable, "-P", "-c", ON_A_DISK_OF, room], folder)

    free = re.findall(r"(?<=, and )\d+\.\d MB(?= are free)", said)
    assert said == (
        f"there is no room for {store}/{NAME}: {size / 1e6:.1f} MB more are needed, and "
        f"{''.join(free)} are free{went_on_with(store)}; nothing was installed\n"
        f"{size} {[NAME]}\n"
    )
    assert libraries < float(free[0].split()[0]) < libraries + 0.3
    assert seen(server).count("GET RUN") == 1


TWICE = f"""
import os, subprocess
from moderngl_colab.installer import install

data = os.environ["XDG_DATA_HOME"]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tests", data], check=True)
for again in (False, True):
    try:
        install.install_driver("{VERSION}", "nvidia", accept_license=True)
    except install.DriverInstallError as error:
        print(str(error).splitlines()[-1] if again else "broken")
    if not again:
        with open(data + "/full", "wb") as file:
            file.write(bytes(os.statvfs(data).f_bavail * 4096))
"""


def test_a_download_that_there_is_no_room_to_go_on_with_is_kept(
    server: archive.Server, store: Path, folder: Path
) -> None:
    def answer(handler: archive.Handler, content: bytes) -> None:
        """Do not say beforehand how much will come, and give a part of it."""
        given = archive.refuse(405) if handler.command == "HEAD" else archive.truncate(200_000)
        given(handler, content)

    server.publish(bytes(700_000))
    server.on(RUN, answer)

    assert in_mounts([sys.executable, "-P", "-c", TWICE], folder) == (
        f"broken\nthere is no room for {store}/{NAME}: 0.1 MB more are needed, and 0.0 MB are "
        f"free{went_on_with(store)}; nothing was installed\n"
    )


ON_FULL_DISKS = f"""
import itertools, os, shutil, subprocess
from moderngl_colab.installer import install, kept

data = os.environ["XDG_DATA_HOME"]
for options, state in itertools.product(("size=2m", "nr_inodes=64"), ("", "protected", "half")):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tests", data], check=True)
    there = install.install_driver("{VERSION}", "nvidia", accept_license=True)
    if state == "protected":
        os.chmod(there.folder, 0o500)
    if state == "half":  # As a download that broke off leaves it.
        at, name = os.path.split(there.folder)
        os.mkdir(f"{{at}}/.{{name}}.moderngl_colab", 0o700)
        with open(f"{{at}}/.{{name}}.moderngl_colab/download.{{'0' * 64}}.part", "x") as file:
            file.write("half")
        shutil.rmtree(there.folder)
    try:
        for number in itertools.count():
            with open(f"{{data}}/{{number}}", "wb", buffering=0) as file:
                while options.startswith("size") and file.write(bytes(4096)):
                    pass
    except OSError as error:
        print(options, error.strerror)
    print(kept.remove("{VERSION}").version, os.listdir(data + "/moderngl_colab/driver"))
    subprocess.run(["umount", data], check=True)
"""


def test_on_a_full_disk_a_driver_is_removed(
    server: archive.Server, store: Path, folder: Path
) -> None:
    server.publish(archive.runfile())

    said = in_mounts([sys.executable, "-P", "-W", "error", "-c", ON_FULL_DISKS], folder)

    assert said == (
        3 * f"size=2m No space left on device\n{VERSION} []\n"
        + 3 * f"nr_inodes=64 No space left on device\n{VERSION} []\n"
    )


WHERE_NOTHING_IS_MADE = f"""
import os, subprocess
from moderngl_colab.installer import install

data = os.environ["XDG_DATA_HOME"]
os.mkdir(data + "/gone")
os.mkdir(data + "/at")
subprocess.run(["mount", "--bind", data + "/gone", data + "/at"], check=True)
os.rmdir(data + "/gone")
os.environ["XDG_DATA_HOME"] = data + "/at"
for dest in (data + "/at/x", None, "/proc/x"):
    try:
        install.install_driver("{VERSION}", "nvidia", dest, accept_license=True)
    except install.DriverInstallError as error:
        print(str(error).replace(data, "DATA"))
"""


def test_a_folder_in_which_no_other_one_can_be_made_is_named(
    server: archive.Server, store: Path, folder: Path
) -> None:
    said = in_mounts([sys.executable, "-P", "-W", "error", "-c", WHERE_NOTHING_IS_MADE], folder)

    why, cure = "(No such file or directory): ", "another folder of your own"
    assert said == (
        f"nothing can be installed in DATA/at/x {why}choose {cure}\n"
        f"nothing can be installed in DATA/at/moderngl_colab/driver/{NAME} {why}"
        f"set XDG_DATA_HOME to {cure}\n"
        f"nothing can be installed in /proc/x {why}choose {cure}\n"
    )
    assert server.asked == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("ro", "Read-only file system"),
        ("noexec", "no library can be loaded from there: it is mounted noexec"),
    ],
)
def test_a_disk_that_cannot_hold_libraries_is_named(
    server: archive.Server, store: Path, folder: Path, options: str, why: str
) -> None:
    server.publish(archive.runfile())
    program = [sys.executable, "-P", "-W", "error", "-c", INSTALL, ""]

    said = in_mounts(["sh", "-c", MOUNTED, "sh", options, *program], folder)

    assert said == (
        f"nothing can be installed in {store}/{NAME} ({why}): set XDG_DATA_HOME to another folder "
        "of your own\n"
    )


REMOUNTED = f"""
import os, subprocess
from moderngl_colab.installer import install, kept

data = os.environ["XDG_DATA_HOME"]
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tests", data], check=True)
for dest in (None, data + "/own"):
    install.install_driver("{VERSION}", "nvidia", dest, accept_license=True)
for options in ("remount,noexec", "remount,exec,ro"):
    subprocess.run(["mount", "-o", options, data], check=True)
    for dest in (None, data + "/own"):
        try:
            print(install.install_driver("{VERSION}", "nvidia", dest).fetched)
        except install.DriverInstallError as error:
            print(error)
try:
    kept.remove("{VERSION}")
except install.DriverInstallError as error:
    print(error)
"""


def test_a_disk_that_became_another_is_named_though_the_driver_is_there(
    server: archive.Server, store: Path, folder: Path
) -> None:
    server.publish(archive.runfile())

    said = in_mounts([sys.executable, "-P", "-W", "error", "-c", REMOUNTED], folder)

    why = "(no library can be loaded from there: it is mounted noexec): "
    assert said == (
        f"nothing can be installed in {store}/{NAME} {why}set XDG_DATA_HOME to another folder of "
        "your own\n"
        f"nothing can be installed in {folder}/data/own {why}choose another folder of your own\n"
        f"False\nFalse\n{store}/{NAME} cannot be removed: Read-only file system\n"
    )


ON_MOUNT_POINTS = f"""
import os, subprocess, sys
from moderngl_colab.installer import install

data = os.environ["XDG_DATA_HOME"]
HOW = {{"tmpfs": "-t tmpfs -o mode=755 tests".split(), "same system": ["--bind", data + "/other"]}}
for name, how in HOW.items():
    os.makedirs(at := f"{{data}}/{{name}}")
    os.makedirs(data + "/other", exist_ok=True)
    subprocess.run(["mount", *how, at], check=True)
    try:
        install.install_driver("{VERSION}", "nvidia", at, accept_license=True, timeout=5)
    except install.DriverInstallError as error:
        print(str(error).replace(data, "DATA"), os.listdir(at))
    below = install.install_driver("{VERSION}", "nvidia", at + "/x", accept_license=True, timeout=5)
    print(below.folder.replace(data, "DATA"), below.fetched)
    os.rename(at + "/x", at + "/y")
    for file in os.listdir(at + "/y"):  # As where the driver was put into the volume itself.
        os.rename(f"{{at}}/y/{{file}}", f"{{at}}/{{file}}")
    os.rmdir(at + "/y")
    print(install.install_driver("{VERSION}", "nvidia", at).fetched)
    subprocess.run(["umount", at], check=True)
"""


def test_a_mount_point_is_refused_before_anything_is_fetched(
    server: archive.Server, store: Path, folder: Path
) -> None:
    server.publish(archive.runfile())

    said = in_mounts([sys.executable, "-P", "-W", "error", "-c", ON_MOUNT_POINTS], folder)

    assert said == "".join(
        f"DATA/{name} is a mount point, which cannot be exchanged: choose a folder below it []\n"
        f"DATA/{name}/x True\nFalse\n"
        for name in ("tmpfs", "same system")
    )
    assert seen(server).count("GET RUN") == 2


OF_THE_KERNEL = """
import os
from moderngl_colab.installer import install
there = install.install_driver(accept_license=True, source="nvidia")
print(there.version, os.getuid(), os.stat(there.folder).st_uid, len(there.files))
print(*os.listdir(os.path.dirname(there.folder)))
"""


@pytest.mark.parametrize("uid", [None, 65534])
def test_the_version_is_the_kernel_modules_and_no_root_is_needed(
    python: Callable[..., machines.Finished], server: archive.Server, store: Path, uid: int | None
) -> None:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    home = store.parent.parent
    home.mkdir()
    if uid is not None:
        os.chown(home, uid, uid)
    server.publish(archive.runfile())

    done = python(
        "compute-only", OF_THE_KERNEL, str(home), uid=uid,
        env={"XDG_DATA_HOME": str(home), "MODERNGL_COLAB_DRIVER_URL": server.url},
    )  # fmt: skip

    user = os.geteuid() if uid is None else uid
    assert done.stdout == f"{VERSION} {user} {user} {len(LIBRARIES)}\n{NAME}\n"


def test_without_a_kernel_module_and_nvml_the_version_has_to_be_said(
    python: Callable[..., machines.Finished], store: Path
) -> None:
    code = """
from moderngl_colab.installer import install
try:
    install.install_driver()
except install.DriverInstallError as error:
    print(error)
"""
    say = "say version= (--version), such as 550.54.15\n"
    env = {"XDG_DATA_HOME": str(store)}
    bare = machines.MACHINES["no-nvidia"]
    hidden = replace(bare, nodes=("nvidiactl", "nvidia0"))

    assert python(hidden, code, env=env).stdout == (
        "which version is wanted cannot be told: no NVIDIA kernel module is loaded, and NVML: "
        f"NVML Shared Library Not Found (12): {say}"
    )
    assert python(bare, code, env=env).stdout == (
        "this machine has been given no NVIDIA GPU, as far as can be seen: there is no "
        "/dev/nvidiactl, no NVIDIA kernel module is loaded, and NVML: NVML Shared Library Not "
        f"Found (12); to install a driver all the same, {say}"
    )
    assert not store.exists()
