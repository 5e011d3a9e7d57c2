"""What mends a driver that is passed over because others could replace it."""

from __future__ import annotations

import os
import shlex

from moderngl_colab import _driver
from moderngl_colab.machine import Machine
from moderngl_colab.remedies import NOTEBOOKS, shell

__all__ = ["protect"]

# Folders that hold nothing but the driver.
_DRIVERS_OWN = ("/usr/lib64-nvidia", "/usr/local/nvidia")


def protect(machine: Machine) -> str:
    """What has the libraries taken that are passed over, because others could replace them.

    Only folders that hold nothing but the driver are given to root; any other one may be somebody's
    work, and what is in it is copied to where nobody else may write.
    """
    at = [breach.path for _, breach in machine.exposed]
    folders = [own for own in _DRIVERS_OWN if any(_is_below(path, own) for path in at)]
    if not machine.is_root or not all(any(_is_below(path, own) for own in folders) for path in at):
        return _copy(machine)
    every = " ".join(folders)
    done = shell(machine, f"chown -hR root {every} && chmod -R o-w {every}")
    # An attempt that found a part of them has had libEGL read its vendors.
    return f"{done}  # if you trust what is in it; then start this program anew"


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _copy(machine: Machine) -> str:
    """Copies of this user's own, of whatever a link leads to, in a folder of this user's own."""
    variable, version = _driver.DIRECTORY_VARIABLE, machine.module and machine.module.version
    paths = [path for path, _ in machine.exposed]
    fitting = [path for path in paths if version and path.endswith(f".so.{version}")]
    folders = dict.fromkeys(map(os.path.dirname, fitting or paths))
    # The last one overwrites the others, and the search takes the first.
    globs = [f"{shlex.quote(folder)}/lib*nv*.so.*" for folder in reversed(folders)]
    if machine.platform in NOTEBOOKS:
        name = f'os.environ["{variable}"] = tempfile.mkdtemp()'
        copied = [f"os.system({f'install -m 755 {each} ${variable}'!r})" for each in globs]
        done = "; ".join(["import os, tempfile", name, *copied])
        return f"{done}  # if you trust what is in it; first of all in a new session"
    copied = [f'install -m 755 {each} "${variable}"' for each in globs]
    done = " && ".join([f'export {variable}="$(mktemp -d)"', *copied])
    return f"{done}  # if you trust what is in it; then start this program anew"
