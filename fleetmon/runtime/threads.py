"""Call a function that may block, in a daemon thread of its own.

Not anyio's worker threads: those share forty tokens with the host, and keep the interpreter from
exiting while one of them is stuck.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def run_in_daemon(function: Callable[[], Any]) -> Any:
    """Return what ``function`` returns, or raise what it raises; cancelling leaves it behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("the callback raised StopIteration"))
        else:
            future.set_exception(error)

    def run() -> None:
        result: Any = None
        caught: BaseException | None = None
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - travels to the caller
            caught = error
        try:
            loop.call_soon_threadsafe(settle, result, caught)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    guard = getattr(loop, "foreign_work", None)  # virtual time stands still meanwhile
    thread = threading.Thread(target=run, name="fleetmon-callback", daemon=True)
    if guard is None:
        thread.start()
        return await future
    with guard():
        thread.start()
        return await future
