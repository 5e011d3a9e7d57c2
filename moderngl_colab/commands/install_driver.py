"""``moderngl-colab install-driver``: the OpenGL half of the driver, for this user alone."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from functools import partial

from moderngl_colab import _kernel, commands
from moderngl_colab.commands import progress
from moderngl_colab.commands.env import UNAVAILABLE, said
from moderngl_colab.errors import GPUContextError
from moderngl_colab.installer.source import LICENCE, DriverInstallError, Offer, one_line
from moderngl_colab.options import refuse_foreign_systems

__all__ = ["HELP", "configure", "execute"]

_NOTEBOOK = "JPY_PARENT_PID"  # Jupyter sets it for its kernels.

HELP = "fetch the OpenGL half of the driver, for this user alone"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "Sources, in their order: apt, then NVIDIA's archive, each only where it has exactly that "
        "version. exit status: 0 it is installed, listed or removed; 64 wrong usage; 69 it could "
        "not be, and what was there before still is, or no source has it (--dry-run)"
    )
    parser.add_argument(
        "--version",
        metavar="VERSION",
        help="which one, for instance 550.54.15 (the kernel module's)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="the path of a .run, of a .deb, or of a folder of packages or libraries; or apt, or "
        "nvidia",
    )
    parser.add_argument(
        "--dest",
        metavar="FOLDER",
        help="install it there, for MODERNGL_COLAB_DRIVER_DIR to name, and not to "
        "$XDG_DATA_HOME/moderngl_colab/driver (~/.local/share)",
    )
    parser.add_argument(
        "--accept-license",
        action="store_true",
        help=f"accept NVIDIA's licence, {LICENCE}, and do not ask",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="say what each source has, and fetch nothing"
    )
    instead.add_argument("--list", action="store_true", help="list what is installed, or half done")
    instead.add_argument(
        "--remove", metavar="VERSION", nargs="+", help="remove what there is of these versions"
    )
    parser.set_defaults(refuse=parser.error)


def execute(arguments: argparse.Namespace) -> int:
    """Install it, or do what is asked instead."""
    instead = arguments.list or arguments.remove is not None
    given = (arguments.version, arguments.source, arguments.dest)
    if instead and (any(value is not None for value in given) or arguments.accept_license):
        flag = "--list" if arguments.list else "--remove"
        arguments.refuse(f"argument {flag}: it takes no other flag beside it")
    try:
        refuse_foreign_systems()
        if arguments.list:
            _list()
        elif arguments.remove is not None:
            _remove(arguments.remove)
        elif arguments.dry_run:
            return _offers(arguments)
        else:
            _install(arguments)
    except (DriverInstallError, GPUContextError) as error:
        return said("install-driver", str(error), UNAVAILABLE)
    return 0


def _install(arguments: argparse.Namespace) -> None:
    from moderngl_colab.installer import install

    _warn_of_another(arguments.version)
    try:
        with progress.shown(in_bytes=True) as display:
            done = install.install_driver(
                arguments.version,
                arguments.source,
                arguments.dest,
                accept_license=arguments.accept_license or partial(_ask, display),
                progress=display or progress.Lines(),  # It takes minutes, and may wait for another.
            )
    except KeyboardInterrupt as error:
        for note in getattr(error, "__notes__", ()):
            commands.complain(f"moderngl-colab install-driver: {note}")
        raise
    commands.write(f"{'installed' if done.fetched else 'already there'}: {done}\n")
    if arguments.dest is not None:
        folder = shlex.quote(done.folder)
        commands.write(f"to use it: export MODERNGL_COLAB_DRIVER_DIR={folder}\n")


def _warn_of_another(version: str | None) -> None:
    """Say so where the kernel module is not of the version that is asked for."""
    module = _kernel.version()
    if version is None or module in (None, version) or not _kernel.is_version(version):
        return
    commands.complain(
        f"moderngl-colab install-driver: {version} is not the kernel module's version ({module}): "
        f"it will not be used until a module of {version} runs"
    )


def _ask(display: progress.Display | None, offer: Offer) -> bool:
    """Whether who sits at the terminal accepts NVIDIA's licence; nobody does elsewhere."""
    # A notebook gives what a cell starts a terminal on which nobody can answer.
    if display is None or sys.stdin is None or not sys.stdin.isatty() or _NOTEBOOK in os.environ:
        return False
    with display.aside():
        commands.complain(f"{offer.what}{_size(offer)} is NVIDIA's, under its licence: {LICENCE}")
        print(
            "Do you accept it, and is it to be fetched? [y/N] ", end="", file=sys.stderr, flush=True
        )
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _offers(arguments: argparse.Namespace) -> int:
    from moderngl_colab.installer import install

    offers = install.offers(arguments.version, arguments.source)
    for name, offer in offers:
        text = offer if isinstance(offer, str) else f"{offer.what}{_size(offer)}"
        commands.write(f"{name:8}{one_line(text)}\n")
    return UNAVAILABLE if all(isinstance(offer, str) for _, offer in offers) else 0


def _size(offer: Offer) -> str:
    return "" if not offer.download else f" ({offer.download / 1e6:.0f} MB to fetch)"


def _remove(versions: list[str]) -> None:
    from moderngl_colab.installer import kept

    for version in versions:
        commands.write(f"removed {kept.remove(version)}\n")


def _list() -> None:
    from moderngl_colab.installer import kept

    there = (*kept.installed(), *kept.unfinished())
    commands.write("".join(f"{each}\n" for each in there) or "nothing is installed\n")
