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
    free = os.statvfs(folder)
    if (left := free.f_bavail * free.f_frsize) < size:
        text = f"{size / 1e6:.1f} MB more are needed, and {left / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, text, folder)


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
    depths: dict[str, int] = {}
    wanted_names = names(wanted)
    for member, content in tar.members(stream, of_a_system=of_a_system):
        if posixpath.basename(member.name) in wanted_names and not member.isdir():
            if content is not None:
                _take_member(member, content, folder, wanted, depths)
            elif not of_a_system:
                raise FetchError(f"the archive has no file where a library is: {member.name!r}")


def _take_member(
    member: tarfile.TarInfo,
    content: tar.Readable,
    folder: str,
    wanted: Wanted,
    depths: dict[str, int],
) -> None:
    name = posixpath.basename(member.name)
    header = content.read(elf.HEADER)
    if not elf.is_for(wanted.machine, header):
        return
    depth = posixpath.normpath(member.name).count("/")
    known = depths.get(name)
    if known is not None and depth >= known:
        if depth == known:
            raise FetchError(f"the archive has {name} twice")
        return
    if known is not None:
        os.unlink(os.path.join(folder, name))
    depths[name] = depth
    _write(header, content, member.size, os.path.join(folder, name))


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
            _write(b"", stream, size, os.path.join(folder, name))


def _files_below(tree: str) -> Iterator[str]:
    for at, _, files in os.walk(tree):
        yield from (os.path.join(at, name) for name in files)


def _write(header: bytes, content: tar.Readable, size: int, path: str) -> None:
    """Write a library, whose first bytes are read already, and nothing else under its name."""
    if size > _LARGEST:
        raise FetchError(f"{os.path.basename(path)} has {size} bytes, which no library has")
    ensure_room(os.path.dirname(path), size)
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
