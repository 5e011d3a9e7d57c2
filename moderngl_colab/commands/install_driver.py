"""``moderngl-colab install-driver``: the OpenGL half of the driver, for this user alone."""

from __future__ import annotations

import argparse
import sys

from moderngl_colab import commands
from moderngl_colab.commands import progress
from moderngl_colab.commands.env import UNAVAILABLE, said
from moderngl_colab.installer import install
from moderngl_colab.installer.source import LICENCE, DriverInstallError, Offer

__all__ = ["HELP", "configure", "execute"]

HELP = "fetch the OpenGL half of the driver, for this user alone"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "Sources, in their order: apt, then NVIDIA's archive, each only where it has exactly that "
        "version. exit status: 0 it is installed, listed or removed; 64 wrong usage; 69 it could "
        "not be installed or removed, and what was there before still is"
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
    instead.add_argument("--list", action="store_true", help="list what is installed")
    instead.add_argument("--remove", metavar="VERSION", help="remove what is installed of it")
    parser.set_defaults(refuse=parser.error)


def execute(arguments: argparse.Namespace) -> int:
    """Install it, or do what is asked instead."""
    instead = arguments.list or arguments.remove is not None
    given = (arguments.version, arguments.source, arguments.dest)
    if instead and (any(value is not None for value in given) or arguments.accept_license):
        flag = "--list" if arguments.list else "--remove"
        arguments.refuse(f"argument {flag}: it takes no other flag beside it")
    try:
        if arguments.list:
            _list()
        elif arguments.remove is not None:
            commands.write(f"removed {install.remove(arguments.remove)}\n")
        elif arguments.dry_run:
            _offers(arguments)
        else:
            _install(arguments)
    except DriverInstallError as error:
        return said("install-driver", str(error), UNAVAILABLE)
    return 0


def _install(arguments: argparse.Namespace) -> None:
    with progress.shown(in_bytes=True) as told:
        done = install.install_driver(
            arguments.version,
            arguments.source,
            arguments.dest,
            accept_license=arguments.accept_license or _ask,
            progress=told,
        )
    commands.write(f"{'installed' if done.fetched else 'already there'}: {done}\n")
    if arguments.dest is not None:
        commands.write(f"to use it: export MODERNGL_COLAB_DRIVER_DIR={done.folder}\n")


def _ask(offer: Offer) -> bool:
    """Whether who sits at the terminal accepts NVIDIA's licence; nobody does elsewhere."""
    streams = (sys.stdin, sys.stderr)
    if not all(stream is not None and stream.isatty() for stream in streams):
        return False
    commands.complain(f"{offer.what}{_size(offer)} is NVIDIA's, under its licence: {LICENCE}")
    print("Do you accept it, and is it to be fetched? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _offers(arguments: argparse.Namespace) -> None:
    for name, offer in install.offers(arguments.version, arguments.source):
        text = offer if isinstance(offer, str) else f"{offer.what}{_size(offer)}"
        commands.write(f"{name:8}{text}\n")


def _size(offer: Offer) -> str:
    return "" if not offer.download else f" ({offer.download / 1e6:.0f} MB to fetch)"


def _list() -> None:
    for each in install.installed():
        commands.write(f"{each}\n")
