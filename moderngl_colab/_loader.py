"""What the loader of a fresh process finds (ld.so(8)), told from its files."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderngl_colab import _files

__all__ = ["PATH_VARIABLE", "cached", "library_path", "where"]

PATH_VARIABLE = "LD_LIBRARY_PATH"


def library_path(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The directories that ``LD_LIBRARY_PATH`` names.

    The loader takes an empty entry for the current directory; nothing is searched there.
    """
    entries = environ.get(PATH_VARIABLE, "").replace(";", ":").split(":")
    return list(filter(os.path.isabs, entries))


def cached(name: str, root: str = "/") -> list[str]:
    """The paths of a library in the loader's cache, ``/etc/ld.so.cache``."""
    content, wanted = _files.read(os.path.join(root, "etc/ld.so.cache")), os.fsencode(f"/{name}\0")
    paths, end = [], content.find(wanted)
    while end >= 0:
        path = content[content.rfind(b"\0", 0, end) + 1 : end + len(wanted) - 1]
        if path.startswith(b"/"):
            paths.append(os.path.join(root, os.fsdecode(path).lstrip("/")))
        end = content.find(wanted, end + 1)
    return paths


def where(name: str, environ: Mapping[str, str] = os.environ, root: str = "/") -> str | None:
    """Where a fresh process's loader finds a library, if nothing has an RPATH.

    Arguments:
        name: for instance ``"libEGL_nvidia.so.0"``.
        environ: where ``LD_LIBRARY_PATH`` is read.
        root: the directory that stands for ``/``.

    Returns:
        The absolute path, or None.
    """
    multiarch = f"{os.uname().machine}-linux-gnu"
    places = (f"lib/{multiarch}", f"usr/lib/{multiarch}", "lib64", "usr/lib64", "lib", "usr/lib")
    candidates = [os.path.join(folder, name) for folder in library_path(environ)]
    candidates += cached(name, root)
    candidates += [os.path.join(root, place, name) for place in places]
    return _files.first_there(candidates)
