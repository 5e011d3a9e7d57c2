"""``env``: print the variables with which other programs get the GPU."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys

from moderngl_colab import _glvnd, commands, launch
from moderngl_colab.errors import GPUContextError

__all__ = ["HELP", "add_device", "configure", "execute", "prepared", "said"]

HELP = "print the variables with which any OpenGL program gets the GPU"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_device(parser)
    parser.add_argument(
        "--format",
        choices=tuple(_FORMATS),
        default="sh",
        help='sh: to be read by eval "$(...)"; json: an object; docker: arguments for docker run '
        "of this very image (default: sh)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print them. The exit status is one of sysexits.h, as :func:`prepared` says."""
    found = prepared("env", arguments.device)
    if isinstance(found, int):
        return found
    if sys.stdout is None:  # The process was started without one.
        return 0
    text = _FORMATS[arguments.format](found.variables)
    try:
        # A path may be no text; it goes out as the bytes that it is.
        sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        commands.abandon_stdout()
        return said("env", f"stdout: {error.strerror}", commands.IO_ERROR)
    return 0


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``."""
    parser.add_argument(
        "--device",
        type=int,
        metavar="D",
        help="the EGL device that MuJoCo, VTK, pyglet and glcontext take, from 0",
    )


def prepared(command: str, device: int | None) -> launch.Prepared | int:
    """What a program is to be started with; or the exit status, once it is said why not.

    The statuses are EX_USAGE (64) for a device that is not there, EX_UNAVAILABLE (69) where no
    program can get the GPU, EX_CANTCREAT (73) where the ICD cannot be written.
    """
    try:
        return launch.prepare(device)
    except ValueError as error:
        return said(command, str(error), commands.USAGE)
    except GPUContextError as error:
        return said(command, str(error), os.EX_UNAVAILABLE)
    except OSError as error:
        return said(command, str(error), commands.CANNOT_CREATE)


def said(command: str, error: str, status: int) -> int:
    """Say on stderr what went wrong; the status that goes with it."""
    print(f"moderngl-colab {command}: error: {error}", file=sys.stderr)
    return status


def _sh(variables: dict[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _json(variables: dict[str, str]) -> str:
    return json.dumps(variables, indent=2)


def _docker(variables: dict[str, str]) -> str:
    words = ["--gpus", "all", "--env", "NVIDIA_DRIVER_CAPABILITIES=all"]
    for name, value in variables.items():
        words += ["--env", f"{name}={value}"]
    icd = variables.get(_glvnd.FILENAMES_VARIABLE, os.devnull)
    if icd != os.devnull:
        words += ["--volume", f"{icd}:{icd}:ro"]
    return shlex.join(words)


_FORMATS = {"sh": _sh, "json": _json, "docker": _docker}
