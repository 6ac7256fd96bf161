"""What wrapped callables are measured with: a clock that the test moves, a book of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.exporters import Observation, instrument

if TYPE_CHECKING:
    import pytest


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("fleetmon.exporters._instrument._now", lambda: self.now)

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Book:
    """Observations, as they were booked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self.items: list[object] = []

    def begin(self, _args: object, _kwargs: object) -> Observation:
        book = self

        class Seen(Observation):
            def item(self, item: object) -> None:
                book.items.append(item)

            def finish(self, status: str, seconds: float) -> None:
                book.calls.append((status, seconds))

        return Seen()

    def wrap(self, target: Any, **options: Any) -> Any:
        return instrument(target, self.begin, **options)

    @property
    def statuses(self) -> list[str]:
        return [status for status, _ in self.calls]
