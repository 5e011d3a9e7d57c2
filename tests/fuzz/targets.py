"""Where hostile input comes in: for each way a function that takes bytes, whichever they are.

An exception that a user is promised is caught, and looked at. Any other one is a defect, as are a
crash, a hang, and memory without bound.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from moderngl_colab import (
    _cache,
    _cuda,
    _driver,
    _egl,
    _files,
    _glvnd,
    _kernel,
    _loader,
    _nvml,
    _x11,
    devices,
    options,
    survey,
)
from moderngl_colab.findings.every import blocking, findings

__all__ = ["TARGETS", "Target", "case"]

Take = Callable[[bytes], object]
_LONGEST_MESSAGE = 1000  # characters

# ---- what cases are made of ----------------------------------------------------------------------

# What a parser stumbles over: ends, escapes, depths, lengths, and what is no text.
_TOKENS = (
    b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe[\0", b"\r\n", b"\t", b" ",
    b"[" * 10_000, b'{"ICD":' * 2_000, b"9" * 5000, b"A" * 100_000, b"/" * 5000, b"../" * 2000,
    b"\\ud800", b"\\u0000", b'"', b"\\", b"{", b"}", b":", b";", b",", b"=", b"@/",
    b"-1", b"0", b"1e999", b"NaN", b"null", b"4294967296", b"2147483648", b"99999999999999999999",
    "\u0661\u00b2\uff11".encode(), b"GPU-", b"MIG-", b"cuda:", b"pci:", b"/dev/zero", b"/proc/self",
    b"\n" * 50, b"1,2,3,4," * 8000,
    b"libEGL_nvidia.so", b"libEGL_mesa.so", b"%s%n", b"$PATH",
)  # fmt: skip
_RAW = 64  # of the 256 first bytes, those after which the rest is a case as it is
_MOST = 200_000  # bytes


def case(data: bytes, samples: tuple[bytes, ...]) -> bytes:
    """Make a case of what an engine came up with: as it is, or as what it does to a good sample."""
    if not data or data[0] < _RAW or not samples:
        return data[1:]
    made, steps = bytearray(samples[data[0] % len(samples)]), data[1:]
    for kind, where, what in zip(steps[::3], steps[1::3], steps[2::3], strict=False):
        if len(made) > _MOST:
            break
        at = where * (len(made) + 1) // 256
        if kind % 5 == 0:
            del made[at:]
        elif kind % 5 == 1:
            made[at:at] = _TOKENS[what % len(_TOKENS)]
        elif kind % 5 == 2:
            del made[at : at + what % 16]
        elif kind % 5 == 3:
            made[at : at + 1] = bytes([what])
        else:
            made[at:at] = made[at : at + what]
    return bytes(made)


class Target(NamedTuple):
    """One way in."""

    prepare: Callable[[Path], Take]
    """Gives what takes a case; an empty folder is its own."""
    samples: tuple[bytes, ...] = ()
    """Good ones, of which bad ones are made."""


# ---- files ---------------------------------------------------------------------------------------

_ICD = b'{"file_format_version" : "1.0.0", "ICD" : {"library_path" : "libEGL_nvidia.so.0"}}'
_VERSION = (
    b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n",
    b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release Build\n",
)
_ELF = Path("/proc/self/exe").read_bytes()[:64]


def _icd(folder: Path) -> Take:
    """The content of an ICD."""
    path = folder / "icd.json"
    environ = {_glvnd.FILENAMES_VARIABLE: str(path)}

    def take(data: bytes) -> None:
        path.write_bytes(data)
        (icd,) = _glvnd.icds(environ=environ)
        library = _glvnd.library_of(icd)
        assert library is None or b"\0" not in os.fsencode(library)
        assert not icd.waits

    return take


def _vendors(folder: Path) -> Take:
    """The two variables that name ICDs, in a folder in which nothing is what it seems; ``@`` is it.

    The strings of a libEGL, too.
    """
    (folder / "10_nvidia.json").write_bytes(_ICD)
    (folder / "20_folder.json").mkdir()
    os.mkfifo(folder / "30_fifo.json")
    (folder / "40_endless.json").symlink_to("/dev/zero")
    (folder / "45_loop.json").symlink_to("45_loop.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "50_socket.json"))
    (folder / "60_closed.json").write_bytes(_ICD)
    (folder / "60_closed.json").chmod(0)
    (folder / os.fsdecode(b"70_\xff.json")).write_bytes(_ICD)
    (folder / "80_deep.json").write_bytes(b"[" * 10_000)
    libegl = folder / "libEGL.so.1"
    os.environ.clear()

    def take(data: bytes) -> None:
        which, _, text = (
            data.replace(b"\0", b"").replace(b"@", os.fsencode(folder), 1).partition(b" ")
        )
        libegl.write_bytes(b"\0__EGL\0" + text + b"\0")
        if which[:1] in (b"f", b"d"):
            files = which[:1] == b"f"
            variable = _glvnd.FILENAMES_VARIABLE if files else _glvnd.DIRECTORIES_VARIABLE
            os.environ[variable] = os.fsdecode(text)
        before = dict(os.environ)
        with _glvnd.offering(None if which[1:2] == b"n" else "/a/libEGL_nvidia.so.0", str(libegl)):
            pass
        assert dict(os.environ) == before
        for icd in _glvnd.icds(str(libegl)):
            assert icd.waits or isinstance(_glvnd.library_of(icd), str | None)
        os.environ.clear()

    return take


def _kernel_module(folder: Path) -> Take:
    """The two files that tell the kernel module's version, and what is taken for one."""
    proc, module = folder / "proc/driver/nvidia/version", folder / "sys/module/nvidia/version"
    for path in (proc, module):
        path.parent.mkdir(parents=True)

    def take(data: bytes) -> None:
        first, _, second = data.partition(b"\n\n")
        proc.write_bytes(first)
        module.write_bytes(second)
        found = _kernel.version(str(folder))
        assert found is None or found.isascii()
        for line in data.decode(errors="surrogateescape").splitlines()[:8]:
            assert not _kernel.is_version(line) or all(map(int, line.split("."))) in (True, False)
            address = _kernel.pci_address(line)
            assert address is None or address.isascii()

    return take


def _nodes(folder: Path) -> Take:
    """The names of device nodes."""
    dev = folder / "dev"
    (dev / "dri").mkdir(parents=True)

    def take(data: bytes) -> None:
        names = [name for name in data.split(b"\0")[:4] if name and b"/" not in name]
        paths = [os.fsencode(dev) + b"/nvidia" + name[:240] for name in names]
        paths += [os.fsencode(dev) + b"/dri/renderD" + name[:240] for name in names]
        for path in paths:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        for node in _kernel.nodes(str(folder)):
            assert not node.is_gpu or int(node.path.rpartition("nvidia")[2]) >= 0
            _kernel.pci_of(node.path, str(folder))
        assert _kernel.count_gpus(str(folder)) >= 0
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(path)

    return take


def _userland(folder: Path) -> Take:
    """The names of the driver's libraries, and the variables that tell where they are."""
    place = folder / "usr/lib64-nvidia"
    place.mkdir(parents=True)
    stems = ("libEGL_nvidia.so.", "libnvidia-glsi.so.", "libnvidia-eglcore.so.")

    def take(data: bytes) -> None:
        for path in place.iterdir():
            path.unlink()
        for number, piece in enumerate(data.split(b"\0")[:2]):
            version = os.fsdecode(piece.replace(b"/", b"_"))[:50]
            for stem in stems:
                (place / f"{stem}{version}").write_bytes(_ELF)
            if number == 0 and version != "0":
                (place / "libEGL_nvidia.so.0").symlink_to(f"libEGL_nvidia.so.{version}")
        text = os.fsdecode(data)
        environ = {"LD_LIBRARY_PATH": text, "MODERNGL_COLAB_DRIVER_DIR": text}
        found = _driver.find(environ, str(folder))
        for library in found.libraries:
            found.missing_siblings(library)
        _driver.exposed(environ, str(folder))

    return take


def _loaders(folder: Path) -> Take:
    """The loader's cache, the head of a library, and the strings of a libEGL."""
    cache, library = folder / "etc/ld.so.cache", folder / "libEGL.so.1"
    cache.parent.mkdir()

    def take(data: bytes) -> None:
        cache.write_bytes(data)
        library.write_bytes(data)
        _loader.where("libEGL_nvidia.so.0", {"LD_LIBRARY_PATH": str(folder)}, str(folder))
        for path in _loader.cached("libEGL_nvidia.so.0", str(folder)):
            assert path.startswith(str(folder))
        _loader.loadable(str(library))
        _loader.loadable(os.fsdecode(data))
        _files.names(os.fsdecode(data))

    return take


# ---- variables -----------------------------------------------------------------------------------


def _visible(_: Path) -> Take:
    """What CUDA reads."""

    def take(data: bytes) -> None:
        text = os.fsdecode(data)
        for gpu in _cuda.visible({"CUDA_VISIBLE_DEVICES": text}) or ():
            assert isinstance(gpu, int) or gpu.startswith(("GPU-", "MIG-"))
        _cuda.by_pci({"CUDA_DEVICE_ORDER": text})

    return take


_OURS = (
    options.DEVICE_VARIABLE,
    options.SOFTWARE_VARIABLE,
    options.STRATEGIES_VARIABLE,
    options.TIMEOUT_VARIABLE,
    options.PROBE_VARIABLE,
)


def _refusal(function: Callable[..., object], *arguments: object) -> str | None:
    """What the error says by which a user's word is refused."""
    try:
        function(*arguments)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _variables(_: Path) -> Take:
    """Our own variables, and ``device=``."""

    def take(data: bytes) -> None:
        variable = _OURS[data[0] % len(_OURS)] if data else _OURS[0]
        text = os.fsdecode(data[1:].replace(b"\0", b""))
        os.environ[variable] = text
        said = _refusal(options.options, None, None, None, None, {})
        del os.environ[variable]
        assert said is None or (variable in said and len(said) < _LONGEST_MESSAGE)
        said = _refusal(devices.spelled, text, "device")
        assert said is None or (said.startswith("device=") and len(said) < _LONGEST_MESSAGE)

    return take


_OTHERS = (
    "LD_LIBRARY_PATH",
    "DISPLAY",
    "HOME",
    "XDG_CACHE_HOME",
    "PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "MODERNGL_COLAB_DRIVER_DIR",
    "MODERNGL_COLAB_STRATEGIES",
    "__EGL_VENDOR_LIBRARY_FILENAMES",
    "__EGL_VENDOR_LIBRARY_DIRS",
    "__GLX_VENDOR_LIBRARY_NAME",
    "GALLIUM_DRIVER",
    "NVIDIA_VISIBLE_DEVICES",
)


def _environment(folder: Path) -> Take:
    """Other people's variables, as the survey takes them, and findings are made of it."""
    (folder / "dev").mkdir()
    for node in ("nvidiactl", "nvidia0"):
        (folder / "dev" / node).touch()

    def take(data: bytes) -> None:
        environ = {}
        for number, value in enumerate(data.replace(b"\0", b"").split(b"\n")):
            index = value[0] if value else number
            environ[_OTHERS[index % len(_OTHERS)]] = os.fsdecode(value[1:])
        machine = survey.look(environ, str(folder))
        findings(machine)
        blocking(machine)
        _x11.unusable(environ.get("DISPLAY", ""))
        unwritable = environ.get("XDG_CACHE_HOME", "relative")
        if not os.path.isabs(unwritable):
            return
        with suppress(_cache.CacheError):
            _cache.icd(
                "/a/libEGL_nvidia.so.0", {"XDG_CACHE_HOME": f"{folder}/dev/null/{unwritable}"}
            )

    return take


# ---- libraries and servers -----------------------------------------------------------------------


def liar(folder: Path) -> tuple[str, Callable[[bytes], None]]:
    """The library of ``hostile.c``, and what gives it its answers."""
    path = os.environ["HOSTILE_LIBRARY"]
    library = ctypes.CDLL(path)
    library.hostile.argtypes, library.hostile.restype = (ctypes.c_char_p, ctypes.c_size_t), None
    kept: list[bytes] = [b""]

    def say(data: bytes) -> None:
        kept[0] = data
        library.hostile(data, len(data))

    return path, say


def _libegl(folder: Path) -> Take:
    """What libEGL says of its devices."""
    path, say = liar(folder)

    def take(data: bytes) -> None:
        say(data)
        egl = _egl.LibEGL(path)
        with suppress(_egl.EGLError):
            listed = egl.devices()
            assert len({device.number for device in listed}) == len(listed)
            for device in listed[:4]:
                assert device.handle
                str(egl.details(device))
                egl.initialize(device)
        egl.current()

    return take


def _libnvml(folder: Path) -> Take:
    """What NVML says of its GPUs."""
    path, say = liar(folder)

    def take(data: bytes) -> None:
        say(data)
        answer = _nvml.ask_here(path)
        assert str(answer).isprintable()
        assert (answer.error is None) == (answer.code is None)
        used = _nvml.used("GPU-57a2d1", path)
        assert used is None or used[0] > 0

    return take


def _x_server(folder: Path) -> Take:
    """What an X server answers, to whoever asks for a connection."""
    number = int(os.environ["HOSTILE_DISPLAY"])
    path = Path(f"/tmp/.X11-unix/X{number}")
    path.parent.mkdir(mode=0o1777, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    answer = [b""]

    def serve() -> None:
        while True:
            with listener.accept()[0] as connection, suppress(OSError):
                connection.sendall(answer[0])
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

    threading.Thread(target=serve, daemon=True).start()

    def take(data: bytes) -> None:
        answer[0] = data
        with suppress(_x11.RefusedError, OSError):
            connection = _x11.connect(number, b"0123456789abcdef", time.monotonic() + 5)
            if connection is not None:
                connection.close()

    return take


TARGETS: dict[str, Target] = {
    "icd": Target(
        _icd,
        (
            _ICD,
            _ICD.replace(b"libEGL", b"/usr/lib/libEGL"),
            _ICD.decode().encode("utf-16"),
            _ICD.decode().encode("utf-32"),
            b"\xef\xbb\xbf" + _ICD,
        ),
    ),
    "vendors": Target(
        _vendors,
        (b"f @/10_nvidia.json:@/30_fifo.json", b"d @:/etc/glvnd/egl_vendor.d", b"- @/egl_vendor.d"),
    ),
    "kernel": Target(_kernel_module, (*_VERSION, b"\n\n550.54.15\n", b"00000000:0F:00.0")),
    "nodes": Target(_nodes, (b"0\0001\000128\0ctl", b"-caps\0uvm\0007")),
    "userland": Target(_userland, (b"550.54.15\000535.98", b"@:/tmp;/usr/lib64-nvidia")),
    "loader": Target(
        _loaders,
        (
            b"glibc-ld.so.cache1.1\0libEGL_nvidia.so.0\0/opt/libEGL_nvidia.so.0\0",
            _ELF,
            b"\0/etc/glvnd/egl_vendor.d:/usr/share/glvnd/egl_vendor.d\0",
        ),
    ),
    "cuda": Target(_visible, (b"0,1,2", b"GPU-57a2d1,GPU-0", b"MIG-57a2d1", b" +1 , -0", b"")),
    "variables": Target(
        _variables,
        (
            b"\0cuda:1",
            b"\0GPU-57a2d1",
            b"\0pci:0000:0f:00.0",
            b"\0010",
            b"\2egl,mesa",
            b"\00330",
            b"\0041",
        ),
    ),
    "environment": Target(_environment, (b"\0/usr/lib\n\1:0.0\n\2/root\n\5GPU-57a2d1,0", b"\1a:0")),
    "libegl": Target(_libegl),
    "nvml": Target(_libnvml),
    "x11": Target(_x_server, (b"\1", b"\0\x0a", struct.pack("<BxHHH", 1, 11, 0, 2) + b"\0" * 8)),
}
