"""``fleetmon events --record FILE``: keeps a record of a fleet that runs in another process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.control.protocol import NoFleetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

_AGAIN = 60  # times that a lost connection is tried again, a second apart


def keep(arguments: argparse.Namespace) -> int:
    """Record until the fleet ends or a Ctrl-C; returns the exit code.

    Raises:
        RecordError: the file cannot be written, or cannot any more.
        ControlError: the fleet cannot be reached.
    """
    from fleetmon.record import record

    frames = _frames(arguments)
    first = next(frames)  # who cannot be reached leaves no file behind
    out.say(f"recording {out.clean(first['name'])} into {arguments.record}; Ctrl-C ends it")
    try:
        done = record(_after(first, frames), arguments.record)
    except KeyboardInterrupt:  # between two frames; what came before stands in the file
        return fleet.DONE
    lost = f", {done.lost} were lost" if done.lost else ""
    end = "; the fleet has ended" if done.ended else ""
    out.say(f"{done.events} events{lost}{end}")
    return fleet.DONE


def _after(
    first: Mapping[str, Any], frames: Iterator[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    yield first
    try:
        yield from frames
    except KeyboardInterrupt:
        return


def _frames(arguments: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Yield the frames of a stream, taken up again where a connection was lost."""
    seq, epoch, lost = 0, None, 0
    while True:
        try:
            for frame in fleet.connect(arguments).stream(events=seq, epoch=epoch):
                told: Mapping[str, Any] = frame
                lost = 0
                if told["type"] == "hello":
                    seq, epoch = (seq if told["epoch"] == epoch else 0), told["epoch"]
                elif told["type"] == "events" and told["events"]:
                    seq = told["events"][-1]["seq"]
                yield told
                if told["type"] == "end":
                    return
        except NoFleetError as error:
            lost += 1
            if epoch is None or lost > _AGAIN:
                raise
            out.complain("events", f"{error}; trying again")
            time.sleep(1.0)
