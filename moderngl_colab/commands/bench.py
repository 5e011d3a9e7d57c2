"""``moderngl-colab bench``: what the GPU is worth, by frames that were looked at."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

from moderngl_colab import commands
from moderngl_colab.bench import Benchmark, bench, benchmark, result
from moderngl_colab.commands import pictures, progress
from moderngl_colab.commands.env import UNAVAILABLE, said
from moderngl_colab.diagnostics import report
from moderngl_colab.errors import GPUContextError
from moderngl_colab.options import refuse_foreign_systems

__all__ = ["HELP", "configure", "execute"]

HELP = "measure what the GPU is worth, against Mesa"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "exit status: 0 a GPU was measured; 1 the CPU alone; 2 nothing; 3 a frame was wrong, or "
        "not everything could be measured; 64 wrong usage; 69 matplotlib is not installed, or "
        "this is not Linux; 73 the picture could not be saved; 74 stdout cannot be written"
    )
    parser.add_argument(
        "--size",
        metavar="WxH",
        action="append",
        type=_size,
        help="pixels, for instance 1280x720; may be repeated (1280x720 and 3840x2160)",
    )
    parser.add_argument(
        "--seconds",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="how long each scene is measured at each size; one frame is, in any case (2)",
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        action="append",
        type=_strategy,
        help="measure egl, glx or mesa alone; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.add_argument(
        "--save",
        metavar="FILE.png",
        type=pictures.named,
        help="keep a picture of the scenes and a bar chart",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_timeout,
        default=60.0,
        help="how long a driver may be silent (60)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measure, print the table and save the picture."""
    try:
        refuse_foreign_systems()
    except GPUContextError as error:
        return said("bench", str(error), UNAVAILABLE)
    if arguments.save is not None and (status := _unable(arguments.save)) is not None:
        return status
    with progress.shown() as told:
        done = bench(
            sizes=arguments.size or benchmark.SIZES,
            seconds=arguments.seconds,
            strategies=arguments.strategy,
            timeout=arguments.timeout,
            progress=told,
        )
    problem = None if arguments.save is None else _save(done, arguments.save)
    text = json.dumps(done.to_dict(), indent=2) if arguments.json else str(done)
    commands.write(f"{text}\n")
    if problem is not None:
        return said("bench", f"--save {problem}", commands.CANNOT_CREATE)
    return done.exit_status


def _unable(path: str) -> int | None:
    """The exit status where no picture can be drawn or kept, once it is said why."""
    try:
        result.chart()
    except ImportError as error:
        return said("bench", f"--save: {error}", UNAVAILABLE)
    if (problem := pictures.refused(path)) is not None:
        return said("bench", f"--save {problem}", commands.CANNOT_CREATE)
    return None


def _save(done: Benchmark, path: str) -> str | None:
    """Write the picture; gives what prevented it."""
    try:
        content = done.png()
    except ValueError as error:
        return f"{path}: {error}"
    return pictures.save(path, content)


def _size(text: str) -> Any:
    pair = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text, re.ASCII)
    if pair is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no width and height as 1280x720 has them")
    return _checked(benchmark.size, (int(pair[1]), int(pair[2])))


def _seconds(text: str) -> Any:
    return _checked(benchmark.duration, _number(text))


def _timeout(text: str) -> Any:
    return _checked(report.limit, _number(text))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None


def _strategy(text: str) -> str:
    _checked(report.names, [text])
    return text


def _checked(check: Callable[[Any], Any], given: object) -> Any:
    try:
        return check(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
