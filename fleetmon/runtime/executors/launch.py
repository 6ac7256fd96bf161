"""The operating system's side of a worker process: start, signal, blame, reap.

A fresh interpreter by exec, never a bare fork, and not through :mod:`multiprocessing`: that would
import the host's main module again for every worker, keep a resource tracker, make the worker
daemonic (no children of its own) and join it at exit.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from fleetmon.errors import SpecError
from fleetmon.runtime.executors.faults import blame_dump

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_BOOT = (
    "import sys; sys.path[:] = sys.argv.pop(4).split('\\n'); "
    "from fleetmon.runtime.executors.worker import main; main()"
)
_MAX_DUMP = 1024 * 1024  # bytes
_DUMP_STEP = 0.01  # seconds between two looks at a growing dump
_DUMP_STEPS = 50


class Process:
    """One worker process. Belongs to the loop in which it was made.

    Attributes:
        pid: also the id of its process group.
        exitcode: ``None`` while it runs; negative: the signal that ended it.
        ended: set once it is reaped.
        blamed: ``file:line in function`` where it crashed, if it could still say so.
    """

    def __init__(self, title: str, sock: socket.socket, on_exit: Callable[[], None]) -> None:
        """Start the process.

        Args:
            title: seen in the process list.
            sock: the worker's end; the caller closes its own copy afterwards.
            on_exit: called once, in the loop, after the process is reaped.

        Raises:
            SpecError: there is no interpreter to start.
            OSError: the process could not be started.
        """
        if not sys.executable:
            raise SpecError(
                "sys.executable is empty, so no worker process can be started; set it to the "
                'Python interpreter or choose executor="thread"',
                field="executor",
                value="process",
            )
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self.ended = asyncio.Event()
        self.blamed = ""
        self._faults = _open_faults()
        self._pidfd = -1
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter
                [
                    sys.executable,
                    "-P",
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
                    "-c",
                    _BOOT,
                    str(sock.fileno()),
                    str(self._faults),
                    str(os.getpid()),
                    "\n".join(str(entry) for entry in sys.path),
                    title,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(sock.fileno(), self._faults),
                process_group=0,  # so that what the agent starts can be killed with it
            )
        except BaseException:
            os.close(self._faults)
            raise
        self.pid = self._popen.pid
        self._watch()

    @property
    def exitcode(self) -> int | None:
        """Exit code, ``None`` while it runs."""
        return self._popen.returncode

    def kill(self) -> None:
        """Send SIGKILL to the process and to what it started."""
        self._signal_group(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        self._signal(signal.SIGTERM)

    async def wait(self, seconds: float) -> bool:
        """Wait for its end; False after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    async def blame(self) -> str:
        """Ask the running process for its stacks: ``file:line in function``, or ``""``.

        Works while the process is stuck in C, too: faulthandler needs no interpreter lock.
        """
        if self.exitcode is not None or not hasattr(signal, "SIGUSR1"):
            return ""
        os.ftruncate(self._faults, 0)
        self._signal(signal.SIGUSR1)
        size = 0
        for _ in range(_DUMP_STEPS):
            await asyncio.sleep(_DUMP_STEP)
            if self.exitcode is not None:
                return ""
            before, size = size, os.fstat(self._faults).st_size
            if 0 < size == before:  # it grew and stands still: complete
                break
        place = self._last_words()
        os.ftruncate(self._faults, 0)  # what it says at its death must not be mistaken for this
        return place

    def _last_words(self) -> str:
        dump = os.pread(self._faults, _MAX_DUMP, 0)
        return blame_dump(dump.decode(errors="replace"))

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            self._loop.add_reader(self._pidfd, self._exited)
            return
        threading.Thread(target=self._wait_in_thread, name="fleetmon-reaper", daemon=True).start()

    def _wait_in_thread(self) -> None:
        """Wait without reaping, where the kernel has no process descriptors."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._loop.call_soon_threadsafe(self._exited)
        except (OSError, RuntimeError):  # reaped by others, or the loop was closed
            return

    def _exited(self) -> None:
        # Not yet reaped, so the group's id cannot belong to anyone else: its orphans go, too.
        self._signal_group(signal.SIGKILL)
        if self._popen.poll() is None or self.ended.is_set():
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self.blamed = self._last_words()
        os.close(self._faults)
        self.ended.set()
        self._on_exit()

    def _signal(self, number: int) -> None:
        if self.exitcode is None:  # else the id may be another's by now
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def _signal_group(self, number: int) -> None:
        if self.exitcode is None:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):  # only the dead are left in it
                return


def _open_faults() -> int:
    """Open a nameless file for faulthandler, appended to, so that it can be emptied."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fleetmon-faults")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor
