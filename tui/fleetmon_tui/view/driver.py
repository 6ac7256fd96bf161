"""Textual's driver for terminals, for a program that others stop and let go on as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.driver import Driver


class Resuming(LinuxDriver):
    """Begins anew on every SIGCONT, whatever came before it.

    Textual's own begins without having ended where it was stopped by a SIGSTOP, or was not stopped
    at all: then two threads read keys, one waits for what the other one got, and leaving waits for
    that thread; and the terminal's raw mode is kept as the one to go back to.
    """

    _left = False

    def _sigtstp_application(self, *arguments: Any) -> None:
        self._left = self._auto_restart
        super()._sigtstp_application(*arguments)

    def _sigcont_application(self, *arguments: Any) -> None:
        if self._auto_restart and not self._left:
            self.suspend_application_mode()
        self._left = False
        super()._sigcont_application(*arguments)


def resuming(found: type[Driver]) -> type[Driver]:
    """Return what to use in place of the driver that Textual found."""
    return Resuming if found is LinuxDriver else found
