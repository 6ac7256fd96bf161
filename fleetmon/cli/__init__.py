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

PIPE = 141
"""Exit code when whoever read standard output has gone (128 + SIGPIPE)."""

GROUPS = {
    "Look": {
        "tui": "the live view of a fleet, or of a recording",
        "status": "the fleet as it is now, and what is the matter with it",
        "agents": "one row an agent, all or a selection",
        "agent": "all there is to know about one agent",
        "events": "what happened, and with --watch what happens",
        "history": "what happened to one agent, out of a record",
        "metrics": "what a scrape of /metrics gets",
        "config": "how the fleet and its agents are set up",
    },
    "Steer": {
        "restart": "end the incarnations of agents and begin others",
        "pause": "let agents take nothing new",
        "resume": "let paused or drained agents take tasks again",
        "drain": "let agents finish what they have, then stop them",
        "stop": "stop agents",
        "start": "start agents that were stopped",
        "quarantine": "take agents out until they are reset",
        "reset": "forget streaks and conditions; bring back from quarantine",
        "dead-letters": "the tasks that were given up: list them, try them again",
    },
    "Else": {
        "doctor": "find out why nothing can be reached, and what is misconfigured",
        "completion": "print a script that completes commands and agents in your shell",
        "demo": "forty agents at work on real files, with faults on demand",
    },
}
"""Commands by what they are for; each in ``fleetmon.cli.NAME``, or where :data:`_HOMES` says."""

COMMANDS = {name: purpose for group in GROUPS.values() for name, purpose in group.items()}

_HOMES = dict.fromkeys(
    ("start", "stop", "restart", "pause", "resume", "drain", "quarantine", "reset"), "commands"
) | {"dead-letters": "dead_letters"}
"""Modules of commands that share one, or whose name is no module's."""

_VALUED = frozenset(("--fleet", "--directory", "--url", "--token-file", "--ca-file"))
"""Options that may stand before the command and take a value."""

_HELP = """\
usage: fleetmon [--fleet NAME | --url URL] COMMAND [OPTIONS] [AGENT ...]

Sees and steers a fleet of agents that runs in another process on this machine,
found by itself, or elsewhere with --url. `fleetmon COMMAND --help` has the
options of a command.

{commands}

Agents are named by id, alias or number (APEX, @apex, 01), or selected with
--tier 2, --failed, --state paused or --all. What would be touched is listed and
asked about first, unless --yes; --dry-run only lists it.

  fleetmon status                               how is it?
  fleetmon status --watch                       tell me as it goes on
  fleetmon agent APEX                           what is the matter with it?
  fleetmon restart APEX --reason stuck --wait   and stay until it has recovered
  fleetmon resume --tier 2 --yes                a whole tier, without a question
  fleetmon events --kind command --jsonl        who did what, for a program

--json prints one object with its schema, --jsonl one a line; neither is ever
cut. Exit codes: 0 done or answered; 1 failed; 2 usage; 3 no fleet reachable;
4 no such agent; 5 refused; `status --check`: 0 healthy, 10 degraded, 11 failed.
"""


class CommandModule(Protocol):
    """What ``fleetmon.cli.NAME`` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Carry the command out; returns the exit code."""


class _Format(argparse.HelpFormatter):
    """Knows how wide the terminal is without loading what argparse would ask."""

    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns - 2
        except OSError:
            width = 98
        super().__init__(prog, max_help_position=28, width=max(40, min(width, 98)))


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
        would help), 2 usage, 3 to 11 as ``fleetmon --help`` says, 130 interrupted, 141 when
        standard output was closed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _ready_streams()
    try:
        return _dispatch(arguments)
    except SystemExit as leaving:  # argparse leaves this way; a function returns
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read standard output has gone; keep the interpreter from flushing it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except OSError as error:  # standard output cannot be written
        sys.stderr.write(f"fleetmon: {error.strerror}\n")
        return FAILED


def _ready_streams() -> None:
    # a stream that was closed (`>&-`) is None, and its number would be the first socket's
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))
    # a name that the terminal's encoding lacks is spelt out, rather than the end of the command
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and getattr(sys.stdout, "errors", "") == "strict":
        reconfigure(errors="backslashreplace")


def parser_of(name: str) -> tuple[argparse.ArgumentParser, CommandModule]:
    """Return the parser of one command, with its options, and its module."""
    module = cast("CommandModule", import_module(f"fleetmon.cli.{_HOMES.get(name, name)}"))
    parser = _Parser(
        prog=f"fleetmon {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        allow_abbrev=False,
        formatter_class=_Format,
    )
    module.configure(parser)
    return parser, module


def _dispatch(arguments: list[str]) -> int:
    at = _command_at(arguments)
    before, name = arguments[:at], arguments[at] if at < len(arguments) else ""
    if "-h" in before or "--help" in before or name == "help":
        sys.stdout.write(_help())
        return 0
    if "--version" in before:
        sys.stdout.write(f"fleetmon {__version__}\n")
        return 0
    if name not in COMMANDS:
        sys.stderr.write(f"fleetmon: {_unknown(name, before)} (see fleetmon --help)\n")
        return USAGE
    parser, module = parser_of(name)
    known = parser.parse_intermixed_args([*before, *arguments[at + 1 :]])
    known.command = name
    from fleetmon.errors import FleetmonError  # kept off the way of --help and --version

    try:
        return module.run(known)
    except (FleetmonError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        said = str(error)
        if isinstance(error, OSError) and error.filename is None and error.strerror:
            said = error.strerror  # without its number
        sys.stderr.write(f"fleetmon {name}: {' '.join(said.split())}\n")
        return FAILED


def _command_at(arguments: list[str]) -> int:
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] in _VALUED else 1
    return at


def _unknown(name: str, before: list[str]) -> str:
    if not name:
        strange = [word for word in before if word.startswith("-") and word not in _VALUED]
        if strange:
            return f"no option {strange[0]!r} before a command"
        return f"name a command: {', '.join(COMMANDS)}"
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
    return f"no command {name!r}; {hint}"


def _help() -> str:
    groups = (
        "\n".join([f"{title}:", *(f"  {name:<14}{purpose}" for name, purpose in group.items())])
        for title, group in GROUPS.items()
    )
    return _HELP.format(commands="\n\n".join(groups))
