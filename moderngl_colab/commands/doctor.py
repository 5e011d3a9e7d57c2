"""``moderngl-colab doctor``: which cause keeps this machine from the GPU, and which cure."""

from __future__ import annotations

import argparse
import json
import os
import sys

from moderngl_colab import commands
from moderngl_colab.commands import pictures
from moderngl_colab.diagnostics.report import Report, diagnose, limit, names

__all__ = ["HELP", "configure", "execute"]

HELP = "find out what keeps this machine from the GPU, and what mends it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.epilog = (
        "exit status: 0 a GPU, proven by pixels; 1 the CPU alone; 2 no context; 3 not tried; "
        "64 wrong usage; 73 the picture could not be saved; 74 stdout cannot be written"
    )
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        action="append",
        type=_strategy,
        help="try egl, glx or mesa alone; may be repeated",
    )
    parser.add_argument(
        "--save", metavar="FILE.png", type=pictures.named, help="keep the picture that was rendered"
    )
    parser.add_argument("--no-try", action="store_true", help="look only, render nothing")
    parser.add_argument(
        "--full", action="store_true", help="tell host name, user, home path and UUIDs too"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="how long each strategy may take (60)",
    )
    parser.set_defaults(refuse=parser.error)


def execute(arguments: argparse.Namespace) -> int:
    """Print the report; its verdict is the exit status."""
    if arguments.no_try and (arguments.save is not None or arguments.strategy):
        flag = "--strategy" if arguments.strategy else "--save"
        arguments.refuse(f"argument {flag}: with --no-try nothing is rendered; leave out one")
    report = diagnose(
        strategies=arguments.strategy,
        try_strategies=not arguments.no_try,
        full=arguments.full,
        timeout=arguments.timeout,
    )
    problem = None if arguments.save is None else _save(report, arguments.save)
    _print(report, arguments.json)
    if problem is not None:
        commands.complain(f"moderngl-colab doctor: error: --save {problem}")
        return commands.CANNOT_CREATE
    return report.verdict.exit_status


def _strategy(text: str) -> str:
    try:
        names([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seconds(text: str) -> float:
    try:
        return limit(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0, and 86400 at most"
        ) from None


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        commands.write(json.dumps(report.to_dict(), indent=2) + "\n")
    elif _is_terminal():
        _show(report)
    else:
        commands.write(f"{report}\n")


def _is_terminal() -> bool:
    """Whether somebody looks at stdout who has not forbidden colour."""
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return False
    return (sys.stdout.encoding or "").lower() == "utf-8"  # rich writes nothing as escapes


def _show(report: Report) -> None:
    try:
        from moderngl_colab.diagnostics.colour import show
    except ImportError:  # There is no rich, or an old one.
        commands.write(f"{report}\n")
    else:
        show(report.to_dict(), sys.stdout)


def _save(report: Report, path: str) -> str | None:
    """Write the picture; gives what prevented it."""
    if report.picture is None:
        return f"{path}: there is no picture, for nothing was rendered as it must be"
    return pictures.save(path, report.picture)
