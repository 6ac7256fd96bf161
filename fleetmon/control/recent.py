"""Ends of tasks, remembered while somebody looks: what an agent did last, and how it failed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fleetmon.numbers import FAILED, OUTCOMES

if TYPE_CHECKING:
    from types import TracebackType

    from fleetmon.control.protocol import FailureShape, RecentTaskShape
    from fleetmon.hooks import TaskView

_KEPT = 2000  # ends of the whole fleet
_FAILURES = 500  # with their frames
_FRAMES = 12  # of a failure, the innermost
_MESSAGE = 500  # characters


class _End(NamedTuple):
    agent_id: str
    task_id: int
    task_type: str
    generation: int
    attempt: int
    started: float
    ended: float
    outcome: int
    error_type: str


class _Failure(NamedTuple):
    end: _End
    error: str
    frames: tuple[str, ...]


class Recent:
    """Hears of ends of tasks on the hot path, so it only notes them."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._ends: deque[_End] = deque(maxlen=_KEPT)
        self._failures: deque[_Failure] = deque(maxlen=_FAILURES)

    def ended(self, task: TaskView) -> None:
        """Note an end."""
        end = _End(
            task.agent_id,
            task.id,
            task.task_type,
            task.generation,
            task.attempt,
            task.started_at,
            task.ended_at,
            task.outcome,
            task.error_type,
        )
        self._ends.append(end)
        error = task.error
        if error is not None or task.outcome == FAILED:
            frames = () if error is None else _frames(error.__traceback__)
            self._failures.append(_Failure(end, "" if error is None else _said(error), frames))

    def clear(self) -> None:
        """Forget all of it."""
        self._ends.clear()
        self._failures.clear()

    def tasks(self, agent_id: str, limit: int) -> list[RecentTaskShape]:
        """Return the latest ends of an agent's tasks, newest first."""
        found: list[RecentTaskShape] = []
        for end in reversed(tuple(self._ends)):
            if end.agent_id == agent_id:
                found.append(_task(end))
                if len(found) == limit:
                    break
        return found

    def failures(self, agent_id: str, limit: int) -> list[FailureShape]:
        """Return an agent's latest failures, newest first."""
        found: list[FailureShape] = []
        for failure in reversed(tuple(self._failures)):
            if failure.end.agent_id == agent_id:
                shape = _task(failure.end)
                found.append({**shape, "error": failure.error, "frames": list(failure.frames)})
                if len(found) == limit:
                    break
        return found


def _task(end: _End) -> RecentTaskShape:
    return {
        "task_id": end.task_id,
        "task_type": end.task_type,
        "generation": end.generation,
        "attempt": end.attempt,
        "ended": round(end.ended, 3),
        # one that never began has no start
        "seconds": round(max(0.0, end.ended - end.started), 3) if end.generation else 0.0,
        "outcome": OUTCOMES[end.outcome],
        "error_type": end.error_type,
    }


def _said(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)[:_MESSAGE]
    except Exception:  # noqa: BLE001 - the host's own exception
        text = "(its message cannot be read)"
    return f"{name}: {text}" if text else name


def _frames(traceback: TracebackType | None) -> tuple[str, ...]:
    # file, line and function only: frames themselves would keep the task's variables alive
    found: deque[str] = deque(maxlen=_FRAMES)
    while traceback is not None:
        code = traceback.tb_frame.f_code
        found.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return tuple(reversed(found))  # innermost first, as the watchdog tells stacks
