"""The command line: :func:`main`. One module a command, each loaded when its command is called."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from fleetmon._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

FAILED = 1
"""Exit code of a command that could not be carried out."""

USAGE = 2
"""Exit code of a command line that makes no sense."""

INTERRUPTED = 130
"""Exit code after a Ctrl-C that nothing had started to handle (128 + SIGINT)."""

_COMMANDS = {
    "demo": "forty agents doing real work on real files, with faults on demand",
    "status": "the fleet as it is now, and what is the matter with it",
    "agents": "one row an agent, all or a selection",
    "agent": "all there is to know about one agent",
    "events": "what happened, and with --watch what happens",
    "dead-letters": "the tasks that were given up",
    "start": "start agents that were stopped",
    "stop": "stop agents",
    "restart": "end the incarnations of agents and begin others",
    "pause": "let agents take nothing new",
    "resume": "let paused or drained agents take tasks again",
    "drain": "let agents finish what they have, then stop them",
    "quarantine": "take agents out until they are reset",
    "reset": "forget streaks and conditions of agents; brings them back from quarantine",
}
"""Commands and what they are for; each in ``fleetmon.cli.NAME``, or where :data:`_HOMES` says."""

_HOMES = dict.fromkeys(
    ("start", "stop", "restart", "pause", "resume", "drain", "quarantine", "reset"), "commands"
) | {"dead-letters": "dead_letters"}
"""Modules of commands that share one."""


class CommandModule(Protocol):
    """What ``fleetmon.cli.NAME`` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Carry the command out; returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read more."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave with :data:`USAGE`."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; the process's own by default.

    Returns:
        Exit code: 0 done, 1 the command failed (one line on standard error says why and what
        would help), 2 usage, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except SystemExit as leaving:  # argparse leaves this way; a function returns
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read standard output has gone; keep the interpreter from flushing it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _dispatch(arguments: list[str]) -> int:
    parser = _Parser(
        prog="fleetmon",
        description="An in-process supervisor for fleets of AI agents.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fleetmon {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    # Options are added to the command that was named only: none pays for another's module.
    named = next((word for word in arguments if not word.startswith("-")), "")
    module: CommandModule | None = None
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=purpose, allow_abbrev=False, add_help=True
        )
        if name == named:
            module = cast("CommandModule", import_module(f"fleetmon.cli.{_HOMES.get(name, name)}"))
            module.configure(command)
    known = parser.parse_args(arguments)
    if module is None:
        parser.error(f"name a command: {', '.join(_COMMANDS)}")
    from fleetmon.errors import FleetmonError  # kept off the way of --help and --version

    try:
        return module.run(known)
    except (FleetmonError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        sys.stderr.write(f"fleetmon {named}: {' '.join(str(error).split())}\n")
        return FAILED
