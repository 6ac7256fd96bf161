"""A picture of a fleet in the making: taken in pieces, so that a large fleet holds up nobody."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fleetmon.record.pack import difference, plain, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetmon.record.pack import Row

_BREATH = 16  # rows after which the interpreter is given away: the host's loop may be waiting


class Sketch:
    """What is new about the agents since the picture before.

    Attributes:
        whole: every row is in it, so that reading can begin here.
        at: wall clock when it was begun, seconds; every row is at least as new.
        clock: the supervisor's, likewise.
        seq: number of the newest event then.
        rows: rows that are new or have changed.
        gone: agents that have gone.
        seconds: of CPU that it has taken.
    """

    def __init__(
        self,
        rows: Iterable[Sequence[Any]],
        before: Mapping[str, Row],
        *,
        whole: bool,
        at: float,
        clock: float,
        seq: int,
        gone: Iterable[str] = (),
    ) -> None:
        """Begin.

        Args:
            rows: of all agents when whole, otherwise of those that may have changed; the first
                value of each is the agent's id.
            before: rows of the picture before.
            whole: see above.
            at: see above.
            clock: see above.
            seq: see above.
            gone: agents that have gone since.
        """
        self.whole = whole
        self.at, self.clock, self.seq = at, clock, seq
        self.gone = [agent_id for agent_id in gone if agent_id in before]
        self.rows: dict[str, Row] = {}
        self.seconds = 0.0
        self._left = iter(rows)
        self._before = before
        self._new: list[str] = []
        self._changes: list[str] = []

    def go(self, seconds: float) -> bool:
        """Go on for so long at most; returns whether it is complete."""
        began, cpu = time.monotonic(), time.thread_time()
        try:
            for number, row in enumerate(self._left, 1):
                self._take(row)
                if number % _BREATH == 0:
                    time.sleep(0)
                    if time.monotonic() - began > seconds:
                        return False
            return True
        finally:
            self.seconds += time.thread_time() - cpu

    def _take(self, values: Sequence[Any]) -> None:
        row = plain(values)
        agent_id = row[0]
        before = None if self.whole else self._before.get(agent_id)
        if before is None or len(before) != len(row) or agent_id in self.gone:
            self._new.append(f"{json.dumps(agent_id)}:{_text(row)}")
        else:
            change = difference(before, row)
            if not change:
                return
            self._changes.append(f"{json.dumps(agent_id)}:{_text(change)}")
        self.rows[agent_id] = row

    @property
    def empty(self) -> bool:
        """Whether nothing is new."""
        return not (self.whole or self.rows or self.gone)

    def body(self, facts: str | None) -> bytes:
        """Return the packed frame; ``facts`` as JSON, ``None`` when the last ones still hold."""
        new, changes = ",".join(self._new), ",".join(self._changes)
        gone = _text([] if self.whole else self.gone)
        return squeeze(f"[{{{new}}},{{{changes}}},{gone},{facts or 'null'}]".encode())


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
