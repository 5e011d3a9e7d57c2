"""Which files of an archive or a folder are the GL half of the driver, and how they are taken out.

Each is written anew as a plain file under its own name: no link, no device and no path of an
archive is ever made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import tarfile
from collections.abc import Iterator

from moderngl_colab import _kernel
from moderngl_colab.installer import elf, plain, tar
from moderngl_colab.installer.source import FetchError, Wanted

__all__ = ["BLOCK", "NEEDED", "check", "ensure_room", "from_tar", "from_tree", "names"]

BLOCK = 1 << 20
"""How much of a file is in memory at once, in bytes."""

NEEDED = (
    "libEGL_nvidia",
    "libGLX_nvidia",
    "libnvidia-eglcore",
    "libnvidia-glcore",
    "libnvidia-glsi",
    "libnvidia-tls",
)
"""What every version's GL half has."""

# The last is the compiler of GL_ARB_gl_spirv's shaders, which the cores open when one comes.
_TAKEN_TOO = (
    "libGLESv1_CM_nvidia",
    "libGLESv2_nvidia",
    "libnvidia-gpucomp",
    "libnvidia-glvkspirv",
)
_LARGEST = (
    1 << 30
)  # of one library, in bytes; the largest of 550.163.01, libnvidia-gpucomp, has 44 MB


def names(wanted: Wanted) -> frozenset[str]:
    """The files that are taken."""
    return frozenset(f"{name}.so.{wanted.version}" for name in (*NEEDED, *_TAKEN_TOO))


def ensure_room(folder: str, size: int) -> None:
    """See to it that a file system has so much space left.

    Raises:
        OSError: it has not.
    """
    if (room := _free(folder)) < size:
        raise _no_room(folder, size, room)


def _free(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _no_room(folder: str, size: int, room: int) -> OSError:
    text = f"{size / 1e6:.1f} MB more are needed, and {room / 1e6:.1f} MB are free"
    return OSError(errno.ENOSPC, text, folder)


def from_tar(
    stream: tar.Readable, folder: str, wanted: Wanted, *, of_a_system: bool = False
) -> None:
    """Take the libraries out of an archive, which is read once from its beginning to its end.

    Arguments:
        stream: the archive, no more compressed.
        folder: where they are put.
        wanted: which they have to be; those for another machine are passed over.
        of_a_system: whether its paths are a system's, whose links may be absolute.

    Raises:
        FetchError: the archive is damaged, or is made to write elsewhere.
        OSError: the file system refuses something.
    """
    wanted_names = names(wanted)
    taken = _Taken(folder, wanted)
    for member, content in tar.members(stream, of_a_system=of_a_system):
        if posixpath.basename(member.name) in wanted_names and not member.isdir():
            if content is not None:
                taken.add(member, content)
            elif not of_a_system:
                raise FetchError(f"the archive has no file where a library is: {member.name!r}")
    taken.refuse_lack_of_room()


class _Taken:
    """The libraries out of one archive; where there is no room for all, their sizes are told."""

    def __init__(self, folder: str, wanted: Wanted) -> None:
        self._folder, self._wanted, self._room = folder, wanted, _free(folder)
        self._depths: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._is_room = True

    def add(self, member: tarfile.TarInfo, content: tar.Readable) -> None:
        """Take a library, if it is for this machine and none of its name lies higher."""
        name, depth = posixpath.basename(member.name), posixpath.normpath(member.name).count("/")
        path = os.path.join(self._folder, name)
        header = content.read(elf.HEADER)
        if not elf.is_for(self._wanted.machine, header):
            return
        known = self._depths.get(name)
        if known is not None and depth >= known:
            if depth == known:
                raise FetchError(f"the archive has {name} twice")
            return
        if known is not None and self._is_room:
            os.unlink(path)
        _refuse_giant(name, member.size)
        self._depths[name], self._sizes[name] = depth, member.size
        self._is_room = self._is_room and sum(self._sizes.values()) <= self._room
        if self._is_room:
            _write(header, content, member.size, path)

    def refuse_lack_of_room(self) -> None:
        if not self._is_room:
            raise _no_room(self._folder, sum(self._sizes.values()), self._room)


def from_tree(tree: str, folder: str, wanted: Wanted) -> None:
    """Copy the libraries out of a folder and those below it; links are not followed.

    Where there are several of a name, it is the one that lies highest.

    Arguments:
        tree: the folder.
        folder: where they are put.
        wanted: which they have to be; those for another machine are passed over.

    Raises:
        FetchError: one of them is no longer what it was when it was found.
        OSError: the file system refuses something.
    """
    found: dict[str, str] = {}
    wanted_names = names(wanted)
    # os.walk goes from the top down, and a folder's own files come before those below it.
    for path in sorted(_files_below(tree), key=lambda path: (path.count("/"), path)):
        name = os.path.basename(path)
        if name in wanted_names and name not in found:
            with contextlib.suppress(OSError), plain.opened(path, os.O_NOFOLLOW) as stream:
                if elf.is_for(wanted.machine, stream.read(elf.HEADER)):
                    found[name] = path
    ensure_room(folder, sum(os.lstat(path).st_size for path in found.values()))
    for name, path in found.items():
        with plain.opened(path, os.O_NOFOLLOW) as stream:
            size = os.fstat(stream.fileno()).st_size
            _refuse_giant(name, size)
            _write(b"", stream, size, os.path.join(folder, name))


def _files_below(tree: str) -> Iterator[str]:
    for at, _, files in os.walk(tree):
        yield from (os.path.join(at, name) for name in files)


def _refuse_giant(name: str, size: int) -> None:
    if size > _LARGEST:
        raise FetchError(f"{name} has {size} bytes, which no library has")


def _write(header: bytes, content: tar.Readable, size: int, path: str) -> None:
    """Write a library, whose first bytes are read already, and nothing else under its name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(header)
        while block := content.read(BLOCK):
            stream.write(block)
        if stream.tell() != size:
            raise FetchError(f"{os.path.basename(path)} ends before its {size} bytes do")
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())  # Or a crash could leave an empty file under the final name.


def check(folder: str, wanted: Wanted, source: str) -> None:
    """See to it that a folder has all that is needed, and link the names by which it is asked for.

    Arguments:
        folder: where the libraries are.
        wanted: which they have to be.
        source: what they were taken out of, for the error.

    Raises:
        FetchError: one is missing, damaged, or another version's.
        OSError: the file system refuses something.
    """
    have = sorted(name for name in names(wanted) if os.path.exists(os.path.join(folder, name)))
    needed = {f"{name}.so.{wanted.version}" for name in NEEDED}
    links = {}
    for name in have:
        said = _dynamic(folder, name)
        _refuse_other_versions(name, said, wanted.version)
        needed |= {other for other in said.needed if other.endswith(f".so.{wanted.version}")}
        if said.soname not in ("", name):
            links[said.soname] = name
    if missing := sorted(needed - {*have}):
        if not have:
            raise FetchError(f"{source} has nothing of the GL half of {wanted}")
        raise FetchError(f"{source} lacks {', '.join(missing)}")
    for link, name in links.items():
        if not link.startswith(f"{name.partition('.so.')[0]}.so.") or "/" in link:
            raise FetchError(f"{name} calls itself {link!r}")
        os.symlink(name, os.path.join(folder, link))


def _dynamic(folder: str, name: str) -> elf.Dynamic:
    with open(os.path.join(folder, name), "rb") as stream:
        try:
            return elf.dynamic(stream)
        except ValueError as error:
            raise FetchError(f"{name} is damaged: {error}") from error


def _refuse_other_versions(name: str, said: elf.Dynamic, version: str) -> None:
    """NVIDIA's libraries name each other by the version: the content tells a wrong file name."""
    for other in (said.soname, *said.needed):
        library, _, suffix = other.partition(".so.")
        if "nvidia" in library and _kernel.is_version(suffix) and suffix != version:
            raise FetchError(f"{name} is not of {version}: it names {other}")
