"""The command line, ``python -m moderngl_colab`` or ``moderngl-colab``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from moderngl_colab import __version__, commands

__all__ = ["main"]

_PROGRAM = "moderngl-colab"
_COMMANDS = ("doctor", "env", "run", "bench", "install-driver")
_INTERRUPTED = 130  # as a shell gives it for SIGINT, 128 + 2
_NOBODY_READS = 141  # and for SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Arguments:
        argv: its arguments, the program's name not among them. Default: this process's.

    Returns:
        The exit status.

    Raises:
        SystemExit: wrong usage (64), or help was asked for (0).
    """
    try:
        status = _execute(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        commands.abandon_stdout()
        return _NOBODY_READS


def _execute(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        commands.write(_help())
        return 0
    if words == ["--version"]:
        commands.write(f"moderngl_colab {__version__}\n")
        return 0
    name = "doctor" if not words or words[0].startswith("-") else words.pop(0)
    if name not in _COMMANDS:
        commands.complain(
            f"{_usage()}\n{_PROGRAM}: error: {name!r} is no command; possible: "
            f"{', '.join(_COMMANDS)}"
        )
        return commands.USAGE
    command = _command(name)
    parser = commands.Parser(f"{_PROGRAM} {name}", command.HELP)
    command.configure(parser)
    return int(command.execute(parser.parse_args(words)))


def _command(name: str) -> Any:
    return import_module(f"moderngl_colab.commands.{name.replace('-', '_')}")


def _usage() -> str:
    return f"usage: {_PROGRAM} [{' | '.join(_COMMANDS)}] ..."


def _help() -> str:
    lines = [
        *(_usage(), "", "commands:"),
        *(f"  {name:16}{_command(name).HELP}" for name in _COMMANDS),
        "",
        f"Without a command it is doctor. {_PROGRAM} COMMAND --help tells the flags of each.",
        f"{_PROGRAM} --version tells the version.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
