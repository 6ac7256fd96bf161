"""Which fleet is meant and how it is reached, and the exit codes of what can go wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleetmon.cli import _out as out
from fleetmon.control.address import checked
from fleetmon.control.client import Client, find
from fleetmon.control.protocol import AmbiguousFleetError, ControlError, NoFleetError, RequestError
from fleetmon.control.registry import DIRECTORY

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable, Collection

DONE = 0
FAILED = 1
USAGE = 2
NO_FLEET = 3
NO_AGENT = 4
REFUSED = 5

_LONGEST = 4096  # characters of a file with a token

TOKEN = "FLEETMON_CONTROL_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token for ``--url http://...``."""


def where(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Add the options that say which fleet is meant, and how its answer is printed."""
    group = parser.add_argument_group("which fleet")
    group.add_argument("--fleet", metavar="NAME", help="by name or process id, where several run")
    group.add_argument(
        "--directory",
        metavar="DIR",
        help=f"where its socket is, if the host chose another place (default: ${DIRECTORY})",
    )
    group.add_argument(
        "--url", metavar="URL", help="unix:PATH of its socket, or http(s)://HOST:PORT"
    )
    group.add_argument(
        "--token-file", metavar="FILE", help=f"with the token for HOST:PORT (default: ${TOKEN})"
    )
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        help="certificates to believe for https (default: the system's)",
    )
    group = parser.add_argument_group("how it is printed")
    if json:
        group.add_argument("--json", action="store_true", help="one JSON object, with its schema")
        group.add_argument("--jsonl", action="store_true", help="one JSON object a line, likewise")
    group.add_argument("--no-color", action="store_true", help="as NO_COLOR in the environment")


def connect(
    arguments: argparse.Namespace, *, patience: float = 10.0, but: Collection[int] = ()
) -> Client:
    """Return a client for the fleet that is meant.

    Args:
        arguments: with what :func:`where` added.
        patience: seconds for an answer.
        but: process ids of fleets that are not meant.

    Raises:
        ControlError: there is none, or several.
    """
    url = arguments.url
    if url is None:
        found = find(arguments.fleet, directory=arguments.directory, but=but)
        return Client(found.socket, patience=patience)
    if arguments.fleet is not None or arguments.directory is not None:
        other = "--directory" if arguments.fleet is None else "--fleet"
        message = f"{other} and --url both name a fleet; give one of them"
        raise AmbiguousFleetError(message)
    try:
        return Client(url, token=token(arguments), tls=_tls(arguments), patience=patience)
    except RequestError:
        raise
    except ControlError as error:  # no address at all
        raise AmbiguousFleetError(str(error)) from error


def token(arguments: argparse.Namespace) -> str:
    """Return the token for TCP, empty where there is none; raises :class:`ControlError`."""
    path = arguments.token_file
    if path is None:
        try:
            return checked(os.environ.get(TOKEN, ""))
        except ControlError as error:
            message = f"{error}; check ${TOKEN}"
            raise ControlError(message) from error
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib would cost start-up
            found = checked(file.read(_LONGEST))
    except (OSError, UnicodeDecodeError, ControlError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "it is no text"
        message = f"the token cannot be read from {path}: {reason}; check --token-file"
        raise ControlError(message) from error
    if not found:
        message = f"no token is in {path}: it is empty; check --token-file"
        raise ControlError(message)
    return found


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if arguments.ca_file is None:
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=arguments.ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        message = f"certificates cannot be read from {arguments.ca_file}: {reason}; check --ca-file"
        raise ControlError(message) from error


def answered(command: str, work: Callable[[], int]) -> int:
    """Return the exit code of ``work``; what goes wrong with the fleet is told in one line."""
    try:
        return work()
    except ControlError as error:
        out.complain(command, advice(error))
        return code_of(error)


def advice(error: ControlError) -> str:
    """Return what went wrong, and the next step where the error does not name one."""
    said = str(error)
    if isinstance(error, RequestError) and error.status == 401:  # noqa: PLR2004 - unauthorized
        return f"{said}; give the fleet's token in ${TOKEN} or with --token-file"
    if isinstance(error, NoFleetError) and ";" not in said:
        return f"{said}; `fleetmon doctor` looks for the reason"
    return said


def code_of(error: ControlError) -> int:
    """Return the exit code for what went wrong."""
    if isinstance(error, AmbiguousFleetError):
        return USAGE
    if isinstance(error, NoFleetError):
        return NO_FLEET
    if isinstance(error, RequestError):
        if error.code == "unknown_agent":
            return NO_AGENT
        if error.code in {"refused", "another_life"}:
            return REFUSED
    return FAILED
