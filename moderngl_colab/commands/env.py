"""``env``: print the variables with which other programs get the GPU."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping

from moderngl_colab import _cuda, _glvnd, _loader, _places, _x11, commands, launch
from moderngl_colab.errors import GPUContextError

__all__ = [
    "HELP",
    "UNAVAILABLE",
    "add_device",
    "configure",
    "execute",
    "prepared",
    "said",
    "written",
]

HELP = "print the variables with which any OpenGL program gets the GPU"
UNAVAILABLE = 69
"""As sysexits.h has it; os.EX_UNAVAILABLE is not there on every system."""

_VENDORS = "/etc/glvnd/egl_vendor.d"
# What this shell may have been given already.
_GIVEN = frozenset(
    {_loader.PATH_VARIABLE, _glvnd.FILENAMES_VARIABLE, _glvnd.DIRECTORIES_VARIABLE}
    | {_glvnd.GLX_VARIABLE, _cuda.VISIBLE_VARIABLE, "MUJOCO_GL", "DISPLAY"}
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_device(parser)
    parser.add_argument(
        "--format",
        choices=(*_FORMATS, "docker"),
        default="sh",
        help='sh: to be read by eval "$(...)"; json: an object; docker: lines for a Dockerfile '
        "(default: sh)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print them. The exit status is one of sysexits.h, as :func:`prepared` says."""
    # An image is not to lack what this shell has.
    environ = _of_an_image() if arguments.format == "docker" else None
    found = prepared("env", arguments.device, environ)
    if isinstance(found, int):
        return found
    if arguments.format == "docker":
        return _print_dockerfile(_without_kept(found.others))
    variables = written("env", found)
    if isinstance(variables, int):
        return variables
    if found.glx and not found.egl and _x11.unusable(os.environ.get("DISPLAY", "")):
        commands.complain(
            "moderngl-colab env: programs need a display here: `moderngl-colab run` gives them one"
        )
    return _print(_FORMATS[arguments.format](variables))


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``."""
    parser.add_argument(
        "--device",
        metavar="D",
        help="the GPU that programs take: an ordinal of CUDA (1 or cuda:1), the beginning of a "
        "UUID (GPU-57a2d1), a PCI address (pci:0000:0f:00.0); where there are several, programs "
        "get no display then, for GLX cannot choose",
    )


def prepared(
    command: str, device: str | None, environ: Mapping[str, str] | None = None
) -> launch.Prepared | int:
    """What a program is to be started with; or the exit status, once it is said why not.

    The statuses are EX_USAGE (64) for a device that is not there, and EX_UNAVAILABLE (69) where no
    program can get the GPU.
    """
    try:
        found = launch.prepare(device, environ)
    except ValueError as error:
        return said(command, str(error), commands.USAGE)
    except GPUContextError as error:
        return said(command, str(error), UNAVAILABLE)
    for note in found.notes:
        commands.complain(f"moderngl-colab {command}: {note}")
    return found


def written(command: str, found: launch.Prepared) -> dict[str, str] | int:
    """The variables, with an ICD for them; or EX_CANTCREAT (73), once it is said why not."""
    try:
        return found.variables()
    except OSError as error:
        return said(command, str(error), commands.CANNOT_CREATE)


def said(command: str, error: str, status: int) -> int:
    """Say on stderr what went wrong; the status that goes with it."""
    commands.complain(f"moderngl-colab {command}: error: {error}")
    return status


def _print(text: str) -> int:
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # Somebody reads it in this process, as text; or nobody does.
        commands.write(f"{text}\n")
        return 0
    try:
        # A path may be no text; it goes out as the bytes that it is.
        stream.write(os.fsencode(f"{text}\n"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        commands.abandon_stdout()
        return said("env", f"stdout: {error.strerror}", commands.IO_ERROR)
    return 0


def _sh(variables: dict[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _json(variables: dict[str, str]) -> str:
    return json.dumps(variables, indent=2)


def _print_dockerfile(variables: dict[str, str]) -> int:
    """Print lines for an image, in which the driver is mounted where its container starts.

    It may be another version then. So the ICD names NVIDIA's vendor library as its packages do,
    for the loader to find, and lies where libglvnd looks by itself.
    """
    given = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all", **variables}
    for name, value in given.items():
        if "\n" in value:
            why = f"{name}={value!r}: no Dockerfile can hold a line break"
            return said("env", why, commands.CANNOT_CREATE)
    icd = os.fsdecode(_glvnd.icd_content("libEGL_nvidia.so.0"))
    lines = [f"ENV {name}={_in_dockerfile(value)}" for name, value in given.items()]
    lines += [f"RUN mkdir -p {_VENDORS} && echo '{icd}' >{_VENDORS}/10_nvidia.json"]
    return _print("\n".join(lines))


def _without_kept(variables: dict[str, str]) -> dict[str, str]:
    """The variables of an image, which has nothing of what ``install-driver`` keeps here."""
    path = _loader.library_path(variables)
    left = [folder for folder in path if not _places.is_kept(folder, os.environ)]
    if left == path:
        return variables
    commands.complain(
        "moderngl-colab env: what install-driver fetched here is in no image: its containers need "
        "the OpenGL half of their host's driver"
    )
    others = {name: value for name, value in variables.items() if name != _loader.PATH_VARIABLE}
    return others | ({_loader.PATH_VARIABLE: ":".join(left)} if left else {})


def _of_an_image() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _GIVEN}


def _in_dockerfile(value: str) -> str:
    """A value as a Dockerfile's ENV takes it: backslashes escape, and variables are expanded."""
    escaped = re.sub(r'([\\"$])', r"\\\1", value)
    return f'"{escaped}"'


_FORMATS = {"sh": _sh, "json": _json}
