"""What virtual time refuses."""

from __future__ import annotations

from fleetmon.errors import FleetmonError


class VirtualTimeError(FleetmonError):
    """Virtual time was asked for something that it cannot give."""


class DeadlockError(VirtualTimeError):
    """Nothing is ready, nothing is scheduled, nothing foreign is pending: the test would hang.

    Attributes:
        waiting: one line for each pending task: its name and where it waits.
    """

    def __init__(self, message: str, *, waiting: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.waiting = waiting


class ForeignWorkError(VirtualTimeError):
    """Real threads, processes or sockets let the loop wait longer than its patience.

    Attributes:
        pending: the names of the work that did not report.
        patience: real seconds for which the loop waited.
    """

    def __init__(self, message: str, *, pending: tuple[str, ...], patience: float) -> None:
        super().__init__(message)
        self.pending = pending
        self.patience = patience
