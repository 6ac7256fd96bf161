"""Those who hear of every end of a task: the host's log, a recorder, a stream that somebody reads.

The hot path knows one hook, ``fleet.log``. Where several want to hear, that hook is a
:class:`Several`; where nobody does, it is ``None`` and costs one comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetmon.hooks import EndObserver, TaskLog, TaskView
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.task import Task


class Observers:
    """Puts together the one hook of the hot path.

    Attributes:
        log: the host's, if there is one.
        others: those who joined beside the log; also told of tasks that never began.
    """

    def __init__(self, fleet: Fleet) -> None:
        """Begin with nobody."""
        self._fleet = fleet
        self.log: TaskLog | None = None
        self.others: tuple[EndObserver, ...] = ()

    def use_log(self, log: TaskLog | None) -> None:
        """Take the host's log."""
        self.log = log
        self._compose()

    def join(self, observer: EndObserver) -> None:
        """Tell ``observer`` of every end from now on; from any thread."""
        self.others = (*self.others, observer)
        self._compose()

    def leave(self, observer: EndObserver) -> None:
        """Tell it no more; no harm if it is not there."""
        self.others = tuple(o for o in self.others if o is not observer)
        self._compose()

    def _compose(self) -> None:
        everyone = self.others if self.log is None else (self.log, *self.others)
        if not everyone:
            self._fleet.log = None
        else:
            self._fleet.log = everyone[0] if len(everyone) == 1 else Several(self._fleet, everyone)

    def never_began(self, task: Task) -> None:
        """Tell of a task that ended while it waited; the log has no line for those."""
        for observer in self.others:
            try:
                observer.ended(task)
            except Exception:  # noqa: BLE001 - telling must never harm what it tells of
                self._fleet.bus.hook_errors += 1

    def accepted(self, task: Task) -> None:
        """Have a task kept that is to be delivered again after a crash of the process."""
        try:
            task.core.journal.accepted(task)  # type: ignore[union-attr] # asked before the call
        except Exception:  # noqa: BLE001 - telling must never harm what it tells of
            self._fleet.bus.hook_errors += 1


class Several:
    """Passes ends of tasks on to several, each of which may raise."""

    __slots__ = ("_ends", "_fleet")

    def __init__(self, fleet: Fleet, observers: tuple[EndObserver, ...]) -> None:
        """Bind to the observers' methods."""
        self._fleet = fleet
        self._ends = tuple(o.ended for o in observers)

    def ended(self, task: TaskView) -> None:
        """Tell each of them."""
        for ended in self._ends:
            try:
                ended(task)
            except Exception:  # noqa: BLE001 - telling must never harm what it tells of
                self._fleet.bus.hook_errors += 1
