"""What a simulated machine consists of, and the shell script that lays it out.

The machine's own /usr and /etc are the lower layers of overlays whose upper layer is a tmpfs
inside a mount namespace, so nothing is written outside it and nothing outlives it. The upper
layer is filled before it is mounted: in a user namespace the directories of the lower one belong
to nobody, and only those that are ours can be changed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from . import driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Everything is laid out here before it is mounted; at last the machine's own /proc/driver covers
# it. The directory exists in every procfs, so none has to be made outside.
STAGE = "/proc/driver"

# What is elsewhere can only be put over a file that is there.
_OVERLAID = ("/usr/", "/etc/", "{lib}")

FAILED = 125
FAILURE = "rig: setting up the machine failed"

# The real driver of the machine the tests run on, if it has one, is never part of the picture.
_REAL_DRIVER = (
    *(
        f"{folder}/{pattern}"
        for folder in ("{lib}", "{lib}/nvidia/current", "/usr/lib64-nvidia", "/usr/local/nvidia/*")
        for pattern in ("libEGL_nvidia*", "libGLX_nvidia*", "libnvidia-*")
    ),
    "/usr/share/glvnd/egl_vendor.d/*nvidia*",
    "/etc/glvnd/egl_vendor.d/*nvidia*",
)


@dataclass(frozen=True)
class Placed:
    """Part of the stand-in driver in one folder; ``{lib}`` is the multiarch folder."""

    folder: str
    only: frozenset[str] = driver.ALL
    version: str = driver.VERSION
    mode: str = ""  # the folder's, where it is not 0755
    owner: int = 0  # the folder's and the files'; another one needs root


@dataclass(frozen=True)
class Item:
    """A file that is not the driver's. ``padded`` has a megabyte of white space before its text.

    A ``program`` is a text that everybody may start.

    ``changed`` is a copy of the file that the text names, with `replaced` bytes by others of the
    same length.
    """

    path: str
    text: str = ""
    kind: Literal["text", "program", "padded", "directory", "fifo", "changed"] = "text"
    replaced: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Machine:
    """What distinguishes a simulated machine from the one the tests run on."""

    name: str
    about: str
    libraries: tuple[Placed, ...] = ()
    items: tuple[Item, ...] = ()
    removed: tuple[str, ...] = ()  # patterns of absolute paths below /usr or /etc
    kernel: str = ""  # the kernel module's version; empty: not loaded, and no device nodes
    nodes: tuple[str, ...] = ()  # other nodes in /dev
    node_mode: str = "0666"  # of every node
    immutable: bool = False  # to open a node gives EPERM, as a control group's rules do; root only
    proc_version: str = ""  # the text of /proc/version; empty: the real one
    env: Mapping[str, str] = field(default_factory=dict)


def expand(text: str) -> str:
    """Put the multiarch folder in the place of ``{lib}``."""
    return text.replace("{lib}", str(driver.multiarch()))


def script(machine: Machine, gpus: int, drm: bool, closed: Sequence[Path]) -> str:
    """Return shell code that turns a fresh mount namespace into the machine and runs ``"$@"``.

    `gpus` is the number of /dev/nvidiaN; with `drm` they are in /sys/class/drm, too, where the
    kernel module is loaded; `closed` are folders that shall be open to everyone.
    """
    return "\n".join(_script(machine, gpus, drm, closed))


def _script(machine: Machine, gpus: int, drm: bool, closed: Sequence[Path]) -> Iterator[str]:
    yield "PATH=/usr/sbin:/usr/bin:/sbin:/bin; umask 022; here=$PWD"
    yield f"trap 'echo \"{FAILURE}\" >&2; exit {FAILED}' EXIT; set -e; S={STAGE}"
    yield "mount -t tmpfs -o mode=755 rig $S"
    yield "mkdir -p $S/up/usr $S/up/etc $S/dev $S/root"
    yield from _upper_layer(machine)
    yield _overlay("/usr", "usr")
    if _removed(machine) or any(placed.folder == "{lib}" for placed in machine.libraries):
        # Its second cache would be written outside; without -X it would make links.
        yield "[ ! -d /var/cache/ldconfig ] || mount -t tmpfs rig /var/cache/ldconfig"
        yield "ldconfig -X -C $S/up/etc/ld.so.cache"
    yield _overlay("/etc", "etc")
    for item in machine.items:
        if not item.path.startswith(_OVERLAID):
            yield f"mount --bind $S/up{item.path} {item.path}"
    yield from _open(closed)
    yield from _dev(machine, gpus)
    # Nothing can be made in sysfs, and a host without a card has no such folder.
    yield "mkdir -p $S/up/class/drm"
    yield f"[ ! -d /sys/class ] || {{ {_overlay('/sys/class', 'class')}; }}"
    others = [p.folder for p in machine.libraries if not p.folder.startswith(("{lib}", "/usr/"))]
    if others:
        yield from _new_root(others)
    yield from _proc(machine)
    yield from _sys(machine, gpus if drm else 0)
    yield 'trap - EXIT; set +e; cd "$here"; exec "$@"'


def _overlay(folder: str, name: str) -> str:
    layers = f"lowerdir={shlex.quote(folder)},upperdir=$S/up/{name},workdir=$S/work/{name}"
    return f"mkdir -p $S/work/{name}; mount -t overlay overlay -o {layers} {shlex.quote(folder)}"


def _removed(machine: Machine) -> list[str]:
    patterns = (*_REAL_DRIVER, *machine.removed)
    found = (Path("/").glob(expand(pattern).lstrip("/")) for pattern in patterns)
    return sorted(str(path) for paths in found for path in paths)


def _upper_layer(machine: Machine) -> Iterator[str]:
    removed = _removed(machine)
    for parent in sorted({PurePosixPath(path).parent for path in removed}):
        yield f"mkdir -p $S/up{parent}"
    for path in removed:
        yield f"mknod $S/up{path} c 0 0"  # a whiteout; one may be made even without privileges
    for placed in machine.libraries:
        folder = expand(placed.folder)
        sources = " ".join(map(str, driver.files(placed.version, only=placed.only)))
        yield f"mkdir -p $S/up{folder}; cp -P --remove-destination {sources} $S/up{folder}"
        yield f"chmod {placed.mode} $S/up{folder}" if placed.mode else ":"
        yield f"chown -Rh {placed.owner} $S/up{folder}" if placed.owner else ":"
    for item in machine.items:
        target = f"$S/up{expand(item.path)}"
        yield f"mkdir -p {PurePosixPath(target).parent}; rm -f {target}"
        if item.kind == "directory":
            yield f"mkdir {target}"
        elif item.kind == "fifo":
            yield f"mkfifo {target}"
        elif item.kind == "changed":
            if any(len(old) != len(new) for old, new in item.replaced):
                raise ValueError(f"{item.replaced}: what is replaced must keep its length")
            edits = " ".join(
                f"-e {shlex.quote(f's#{re.escape(old)}#{new}#g')}" for old, new in item.replaced
            )
            yield f"LC_ALL=C sed {edits} {shlex.quote(expand(item.text))} >{target}"
        else:
            padding = "head -c 1000000 /dev/zero | tr '\\0' ' '; " if item.kind == "padded" else ""
            yield f"{{ {padding}printf %s {shlex.quote(item.text)}; }} >{target}"
            yield f"chmod 755 {target}" if item.kind == "program" else ":"


def _open(closed: Sequence[Path]) -> Iterator[str]:
    """Give the folders a mode that lets everyone in; an overlay takes it from its upper layer."""
    outermost = [p for p in closed if not any(p.is_relative_to(q) for q in closed if q != p)]
    for number, folder in enumerate(outermost):
        for inner in closed:
            if inner.is_relative_to(folder):
                upper = f"open{number}/{inner.relative_to(folder)}"
                yield f"mkdir -p $S/up/{shlex.quote(upper)}"
        yield _overlay(str(folder), f"open{number}")


def _dev(machine: Machine, gpus: int) -> Iterator[str]:
    yield "mount -t tmpfs -o mode=755 rig $S/dev; mkdir $S/dev/shm $S/dev/pts"
    yield "for node in null zero full random urandom tty; do"
    yield "  [ ! -e /dev/$node ] || { : >$S/dev/$node; mount --bind /dev/$node $S/dev/$node; }"
    yield "done"
    yield "[ ! -d /dev/pts ] || mount --rbind /dev/pts $S/dev/pts; ln -s pts/ptmx $S/dev/ptmx"
    yield "mount -t tmpfs -o mode=1777 rig $S/dev/shm; ln -s /proc/self/fd $S/dev/fd"
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield f"ln -s /proc/self/fd/{number} $S/dev/{name}"
    nodes = list(machine.nodes)
    if machine.kernel:
        nodes += ["nvidiactl", "nvidia-modeset", "nvidia-uvm", *(f"nvidia{i}" for i in range(gpus))]
    for node in nodes:
        yield f": >$S/dev/{node}; chmod {machine.node_mode} $S/dev/{node}"
        if machine.immutable:
            yield f"chattr +i $S/dev/{node}"
    yield "mount --rbind $S/dev /dev"


def _new_root(folders: Sequence[str]) -> Iterator[str]:
    """Bind everything into a new /, since a folder directly in / cannot be made in the old one."""
    yield "R=$S/root; mount -t tmpfs -o mode=755 rig $R"
    ours = {PurePosixPath(folder).parts[1] for folder in folders}
    for path in sorted(path for path in Path("/").iterdir() if path.name not in ours):
        here, there = shlex.quote(str(path)), f"$R/{shlex.quote(path.name)}"
        if path.is_symlink():
            yield f"cp -P {here} {there}"
        elif path.is_dir():
            yield f"mkdir {there}; mount --rbind {here} {there}"
        else:
            yield f": >{there}; mount --bind {here} {there}"
    for folder in folders:
        yield f"mkdir -p $R{folder}; cp -P $S/up{folder}/* $R{folder}"
    yield "mkdir $R/.old; cd $R; pivot_root . .old; umount -l .old; rmdir .old"


def _proc(machine: Machine) -> Iterator[str]:
    yield f"mount -t tmpfs -o mode=755 rig {STAGE}"
    if machine.kernel:
        first = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {machine.kernel}"
        yield f"mkdir {STAGE}/nvidia"
        yield f"echo '{first}  Tue Mar  5 22:23:56 UTC 2024' >{STAGE}/nvidia/version"
        yield f"echo 'GCC version:  gcc version 12.2.0' >>{STAGE}/nvidia/version"
    if machine.proc_version:
        yield f"echo {shlex.quote(machine.proc_version)} >/dev/.version"
        yield "mount --bind /dev/.version /proc/version; rm /dev/.version"


def _sys(machine: Machine, cards: int) -> Iterator[str]:
    """Lay out the module and its cards; a sandbox may have no sysfs, or only part of one."""
    mount = "mount -t tmpfs -o mode=755 rig"
    yield "M=/sys/module D=/sys/class/drm"
    yield f"[ ! -d $M ] || {mount} $M; [ ! -d $D ] || {mount} $D"
    if not machine.kernel:
        return
    yield f"[ ! -d $M ] || {{ mkdir $M/nvidia; echo {machine.kernel} >$M/nvidia/version; }}"
    for number in range(cards):
        device = f"$M/nvidia/drivers/pci:nvidia/0000:{number:02x}:04.0"
        yield f"mkdir -p {device}; echo 0x10de >{device}/vendor"
        for node in (f"$D/card{number}", f"$D/renderD{128 + number}"):
            yield f"mkdir {node}; ln -s {device} {node}/device"
