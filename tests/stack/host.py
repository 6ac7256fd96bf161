"""One scenario in a process of its own: ``python host.py SCENARIO PORT``.

It says ``ready`` once it serves, and answers each word on its standard input when it is done:
``break`` with ``broken``, ``mend`` with ``mended``. When its input ends, so does it.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import scenarios
import services


async def main(name: str, port: int) -> None:
    """Run until standard input ends."""
    scenario = {**scenarios.SCENARIOS, **services.SCENARIOS}[name]()
    loop = asyncio.get_running_loop()
    words: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(words.put_nowait, line.strip())
            if line.strip() == "mend":
                scenario.broken = False  # who blocks the loop has to see it
        loop.call_soon_threadsafe(words.put_nowait, "")

    async with scenario.serving(name, port):
        threading.Thread(target=read, daemon=True).start()
        say("ready")
        while word := await words.get():
            if word == "break":
                await scenario.on_break()
                say("broken")
            elif word == "mend":
                await scenario.on_mend()
                say("mended")


def say(word: str) -> None:
    """Tell whoever started this."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
