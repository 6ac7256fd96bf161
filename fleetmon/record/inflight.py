"""Which tasks have not ended: from what runs, what was accepted, and what was given back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetmon.events import EventKind
from fleetmon.record.scribe import Open

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from fleetmon.events import Event
    from fleetmon.hooks import TaskView


class Look(NamedTuple):
    """The fleet as the thread has just seen it.

    Attributes:
        at: wall clock, seconds; whatever ended before has been noted by the hooks.
        clock: the supervisor's, at the same time.
        running: tasks that had begun and not ended, seen just after.
    """

    at: float
    clock: float
    running: Sequence[TaskView]


def unfinished(
    look: Look,
    accepted: Iterable[tuple[int, Open, bytes]],
    events: Iterable[Event],
    known_open: Mapping[int, Open],
    ended: Collection[int],
) -> tuple[dict[int, Open], dict[int, bytes | None]]:
    """Return the tasks whose row in the file has to be written, and their payloads.

    A task that has ended is never among them, whatever was noted of it before. One that runs and
    was given back since goes by its higher attempt.

    Args:
        look: what runs.
        accepted: tasks that are to survive, with their payloads.
        events: among which redeliveries matter.
        known_open: what stands in the file.
        ended: tasks that have.
    """
    opened: dict[int, Open] = {}
    payloads: dict[int, bytes | None] = {}
    for task_id, task, payload in accepted:
        if task_id not in ended:
            opened[task_id] = task
            payloads[task_id] = payload
    for event in events:
        if event.kind is EventKind.TASK_REDELIVERED and event.task_id not in ended:
            data = event.data
            opened[event.task_id] = Open(
                event.agent_id, data["task_type"], data["attempt"], 0, event.at, waiting=True
            )
    for running in look.running:
        number = running.id
        if number in ended:
            continue
        known = opened.get(number) or known_open.get(number)
        if known is not None:
            if known.attempt > running.attempt:
                continue  # it was given back since the look
            if not known.waiting and known[2:4] == (running.attempt, running.generation):
                continue
        opened[number] = Open(
            running.agent_id,
            running.slot.task_type,
            running.attempt,
            running.generation,
            look.at - (look.clock - running.started_at),
            waiting=False,
        )
    return opened, payloads
