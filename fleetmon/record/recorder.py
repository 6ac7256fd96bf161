"""Keeps a record of a fleet: hooks that append to bounded buffers, and the thread that writes.

Whatever becomes of the file, the fleet goes on: what cannot be written is dropped and counted, and
the first time is told as the event ``record_failed``.
"""

from __future__ import annotations

import math
import os
import pickle
import threading
import weakref
from collections import Counter, deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleetmon.errors import NotRunningError, RecordError, SpecError
from fleetmon.events import EventKind
from fleetmon.record.desk import Desk
from fleetmon.record.pack import WIDTH
from fleetmon.record.scribe import Open
from fleetmon.snapshot import RecorderReading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetmon.events import Event
    from fleetmon.hooks import FleetView, TaskView
    from fleetmon.snapshot import InterruptedTask

_HURRY = 32_768  # waiting ends at which the thread does not sit out its interval
_OPENING = 5.0  # seconds that a start waits for the file
_CLOSING = 5.0  # seconds that a close waits for the thread
_CLAIM = 5.0  # seconds that a claim waits for its commit
_PAYLOADS = 64 * 1024 * 1024  # bytes of payloads that may wait for the thread


class Recorder:
    """Writes what happens to a fleet into a file: ``Supervisor(recorder=Recorder("fleet.db"))``.

    The file is an SQLite database. It holds every event, the end of every task, the tasks in
    flight, and pictures of the fleet; it can be read with :class:`fleetmon.Recording` and
    ``fleetmon history`` while it is written and after a crash of the process, up to the last
    commit, which is at most a second old. Commits outlive a kill of the process; the last ones may
    not outlive a loss of power.

    A recorder serves one supervisor; a file has one writer at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        interval: float = 0.5,
        pictures: float = 1.0,
        whole_pictures: float = 10.0,
        max_bytes: int = 256 * 1024 * 1024,
        max_age: float | None = 7 * 86_400.0,
        max_payload: int = 1024 * 1024,
        limit: int = 65_536,
        required: bool = False,
    ) -> None:
        """Prepare; nothing is opened before the supervisor starts.

        Args:
            path: of the file; it is created, or gone on with.
            interval: seconds between two commits, at most 1.
            pictures: seconds between two pictures of the fleet; more where it is so large that
                they would take more than a twentieth of a core.
            whole_pictures: seconds between two pictures that stand alone; reading begins at one.
            max_bytes: size of the file; the oldest is forgotten first. Its write-ahead log, some
                megabytes, comes on top.
            max_age: seconds for which anything is kept; ``None``: as long as there is room.
            max_payload: bytes of a payload that is kept for another delivery after a crash.
            limit: ends of tasks, and events, that may wait for the thread.
            required: refuse to start the fleet where the record cannot be written. Later on a
                record never stops anything.

        Raises:
            SpecError: a value that makes no sense.
        """
        for name, value, least, most in (
            ("interval", interval, 0.01, 1.0),
            ("pictures", pictures, 0.05, 3600.0),
            ("whole_pictures", whole_pictures, pictures, 86_400.0),
            ("max_bytes", max_bytes, 1024 * 1024, 1 << 44),
            ("max_age", 1.0 if max_age is None else max_age, 1.0, math.inf),
            ("max_payload", max_payload, 0, 1 << 30),
            ("limit", limit, 16, 10_000_000),
        ):
            if not least <= value <= most:
                msg = f"Recorder: {name}={value!r} must be from {least:g} to {most:g}"
                raise SpecError(msg, field=name, value=value)
        self.path: Final = Path(path)
        self.required: Final = required
        self._interval = interval
        self._limit = limit
        self._max_payload = max_payload
        self._desk = Desk(
            self.path,
            pictures=pictures,
            whole_pictures=whole_pictures,
            max_bytes=max_bytes,
            max_age=max_age,
            limit=limit,
        )
        self._view: FleetView | None = None
        self._thread: threading.Thread | None = None
        self._fresh()
        _recorders.add(self)

    def _fresh(self) -> None:
        self._ends: list[Any] = []  # flat: a tuple that stays is one more for the collector
        self._events: deque[Event] = deque()
        self._accepted: deque[tuple[int, Open, bytes]] = deque()
        self._payload_bytes = 0
        self._mark = self._hurry
        self._requests: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._lock = threading.RLock()  # a finalizer may end a task meanwhile
        self._wake = threading.Event()
        self._opened = threading.Event()
        self._closing = False
        self._told: set[str] = set()
        self.drops: Counter[str] = Counter()

    @property
    def _hurry(self) -> int:
        """Values that wait from which on the thread is woken."""
        return WIDTH * min(_HURRY, self._limit // 2)

    # -- hooks, from any thread ------------------------------------------------------------------

    def ended(self, task: TaskView) -> None:
        """Note the end of a task: its values, appended."""
        ends = self._ends
        if len(ends) >= self._mark and not self._room():
            return
        outcome = task.outcome
        ends += (  # in one step, whatever other threads append
            task.id,
            task.agent_id,
            task.slot.task_type,
            task.attempt,
            task.generation,
            task.started_at,
            task.ended_at,
            outcome,
            task.error_type if outcome else "",
        )

    def _room(self) -> bool:
        if len(self._ends) >= WIDTH * self._limit or self._closing:
            self._drop("tasks")
            return False
        self._mark = WIDTH * self._limit
        self._wake.set()
        return True

    def event(self, event: Event) -> None:
        """Note a change of state."""
        if len(self._events) >= self._limit or self._closing:
            self._drop("events")
        else:
            self._events.append(event)

    def accepted(self, task: TaskView) -> None:
        """Keep a task that is to be delivered again after a crash, with its payload.

        A payload that cannot be pickled, or is too large, is not kept: the task is recorded as any
        other, and the event ``payload_not_kept`` says so once for each agent.
        """
        view = self._view
        if view is None or self._closing:
            return
        try:
            payload = pickle.dumps(task.payload, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - pickling runs the host's code
            said = f"it cannot be pickled: {type(error).__name__}"
        else:
            size = len(payload)
            if size <= self._max_payload:
                with self._lock:
                    fits = self._payload_bytes + size <= _PAYLOADS
                    self._payload_bytes += size if fits else 0
                if fits:
                    self._accepted.append((task.id, self._waiting(task, view.wall()), payload))
                else:
                    self._drop("payloads")
                return
            said = f"it has {size} bytes, and the recorder keeps {self._max_payload}"
        self._drop("payloads")
        if task.agent_id not in self._told:
            self._told.add(task.agent_id)
            view.publish(
                EventKind.PAYLOAD_NOT_KEPT,
                task.agent_id,
                {"task_type": task.slot.task_type, "error": said},
            )

    @staticmethod
    def _waiting(task: TaskView, at: float) -> Open:
        return Open(task.agent_id, task.slot.task_type, task.attempt, 0, at, waiting=True)

    def _drop(self, kind: str, count: int = 1) -> None:
        with self._lock:
            self.drops[kind] += count

    # -- for the supervisor ----------------------------------------------------------------------

    def start(self, fleet: FleetView) -> None:
        """Begin to record; waits until the file is open, five seconds at most.

        Raises:
            NotRunningError: it serves a supervisor already.
            RecordError: the file cannot be written, and the recorder is ``required``.
        """
        if self._view is not None:
            msg = f"the recorder of {self.path} serves a supervisor already; make another"
            raise NotRunningError(msg)
        self._view = fleet
        self._thread = threading.Thread(target=self._run, name="fleetmon-recorder", daemon=True)
        self._thread.start()
        in_time = self._opened.wait(_OPENING)
        if self.required and (not in_time or self._desk.problem):
            self.close()
            raise RecordError(
                self._desk.problem or f"{self.path} could not be opened within {_OPENING:g} s",
                path=self.path,
            )

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything noted before is committed; False if that failed or took longer.

        May block, so not for an event loop.
        """
        future: Future[bool] = Future()
        self._requests.append((lambda: not self._desk.problem, future))
        self._wake.set()
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            future.cancel()
            return False

    def close(self) -> None:
        """Write what is left and end; a thread that hangs in its file is left behind."""
        self._closing = True
        self._mark = 0
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)

    @property
    def problem(self) -> str:
        """Why the record is not being written, one sentence; empty while it is."""
        return self._desk.problem

    def reading(self) -> RecorderReading:
        """Return the recorder's own numbers."""
        desk = self._desk
        with self._lock:
            drops = {k: self.drops[k] for k in ("tasks", "events", "payloads")}
        return RecorderReading(
            not desk.problem and desk.open, desk.commits, desk.errors, drops, desk.size
        )

    def interrupted(self) -> tuple[InterruptedTask, ...]:
        """Return the tasks that earlier lives have left, oldest life first."""
        return tuple(self._desk.left)

    def restarts_of(self, agent_id: str) -> tuple[int, tuple[float, ...]] | None:
        """Return streak and wall-clock times of lapses that an agent brings along; once."""
        return self._desk.take_restarts(agent_id)

    def claim(
        self, agent_id: str, numbers: Mapping[InterruptedTask, int], limit: int
    ) -> Mapping[InterruptedTask, Any]:
        """Take pending tasks over, durably; may block for some seconds, so not in an event loop.

        Returns:
            Their payloads; without those that could not be read or written.
        """
        future: Future[Mapping[InterruptedTask, bytes]] = Future()
        desk = self._desk
        self._requests.append((lambda: desk.claim(numbers, limit), future))
        self._wake.set()
        try:
            taken = future.result(_CLAIM)
        except (FutureTimeoutError, RecordError):
            future.cancel()  # too late to begin with it, if it has not begun
            return {}
        payloads = {}
        for task, data in taken.items():
            try:
                payloads[task] = pickle.loads(data)  # noqa: S301 - the host's own, from its own file
            except Exception as error:  # noqa: BLE001 - unpickling runs the host's code
                self._drop("payloads")
                if self._view is not None:
                    said = f"it cannot be unpickled: {type(error).__name__}"
                    self._view.publish(
                        EventKind.PAYLOAD_NOT_KEPT,
                        agent_id,
                        {"task_type": task.task_type, "error": said},
                    )
        return payloads

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        view = self._view
        if view is None:
            return
        desk = self._desk
        desk.begin(view)
        self._opened.set()
        while not self._closing:
            self._wake.wait(self._interval)
            self._wake.clear()
            self._turn(desk, last=False)
        self._turn(desk, last=True)
        desk.close()

    def _turn(self, desk: Desk, *, last: bool) -> None:
        # the order matters: whatever has ended by the look at what runs is among the ends, and an
        # end is never seen before what was noted at the task's beginning
        asked = len(self._requests)  # who asks later has noted what this turn may not see
        look = desk.look(last=last)
        if look is not None:
            # what is appended meanwhile stands behind what is taken
            taken = self._ends[: WIDTH * desk.room_for_ends]
            del self._ends[: len(taken)]
            desk.ends += taken
            self._mark = 0 if self._closing else self._hurry
            for each in self._drained(self._accepted, self._limit):
                with self._lock:
                    self._payload_bytes -= len(each[2])
                desk.accepted.append(each)
            desk.events += self._drained(self._events, desk.room_for_events)
            with self._lock:
                drops = dict(self.drops)
            lost = desk.write(look, drops, last=last)
            for kind, count in lost.items():
                self._drop(kind, count)
        for _ in range(len(self._requests) if last else asked):
            function, future = self._requests.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:  # noqa: BLE001 - the asker's affair
                    future.set_exception(error)

    @staticmethod
    def _drained(queue: deque[Any], most: int) -> list[Any]:
        take = queue.popleft
        return [take() for _ in range(min(len(queue), most))]

    # -- a host that forks -----------------------------------------------------------------------

    def _forget_parent(self) -> None:
        """In a forked child: thread and file stayed with the parent."""
        self._fresh()
        self._closing = True
        self._mark = 0
        self._thread = None
        self._desk.forget_parent()


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in tuple(_recorders):
        recorder._forget_parent()  # noqa: SLF001 - its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
