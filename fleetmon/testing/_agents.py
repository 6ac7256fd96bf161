"""Agents that do as they are told: scripts of steps instead of work, for tests of supervision."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fleetmon.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_AGES = 1e6  # seconds of virtual time that pass for "for ever"


class ScriptedError(RuntimeError):
    """What a script raises when it is not told what to raise."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a scripted agent does; made by the methods below.

    Attributes:
        name: which of them.
        value: its argument.
    """

    name: str
    value: Any = None

    @classmethod
    def succeed(cls, value: Any = None) -> Step:
        """End the script and return ``value``; a task's payload when that is ``None``."""
        return cls("succeed", value)

    @classmethod
    def fail(cls, error: BaseException | type[BaseException] | None = None) -> Step:
        """Raise: a task fails, a body or a start lapses. ``CancelledError`` is fine, too."""
        return cls("fail", error)

    @classmethod
    def crash(cls, error: BaseException | type[BaseException] | None = None) -> Step:
        """Raise an error that is fatal: also from a task it is a lapse of the agent."""
        return cls("crash", error)

    @classmethod
    def wait(cls, seconds: float) -> Step:
        """Take ``seconds`` by the loop's clock; ends early when cancelled."""
        return cls("wait", seconds)

    @classmethod
    def hang(cls) -> Step:
        """Wait until cancelled."""
        return cls("wait", _AGES)

    @classmethod
    def swallow(cls, seconds: float = _AGES) -> Step:
        """Wait ``seconds`` by the loop's clock and ignore every cancellation meanwhile."""
        return cls("swallow", seconds)

    @classmethod
    def heartbeat(cls, note: object = None) -> Step:
        """Say that it is alive: a body by ``agent.heartbeat``, a task by ``task.progress``."""
        return cls("heartbeat", note)

    @classmethod
    def pull(cls) -> Step:
        """In a body: take tasks and play the script of ``handle`` for each, until asked to end."""
        return cls("pull")

    @classmethod
    def call(cls, function: Callable[[Any], Any]) -> Step:
        """Call a function with what the method got: the agent, the task, or ``None``."""
        return cls("call", function)


Script: TypeAlias = "Step | Iterable[Step]"


class Moment(NamedTuple):
    """A line of :attr:`ScriptedAgent.journal`.

    Attributes:
        at: the loop's clock, seconds.
        life: which product of the factory, from 1.
        method: ``factory``, ``start``, ``serve``, ``handle``, ``probe`` or ``stop``.
        what: ``begins``, ``returns``, ``raises``, ``cancelled`` or ``swallows``.
    """

    at: float
    life: int
    method: str
    what: str


class ScriptedAgent:
    """A factory of agents that follow scripts; give it to :meth:`Supervisor.add`.

    Each argument is a list of scripts, a script is a step or a list of steps. The first call of a
    method plays the first script, the second the second, and so on over all lives; when they run
    out, the last one is played again. A method without scripts is not there at all, except
    ``handle``, which succeeds with the payload, unless there is a ``serve`` without ``handle``.

    Example: its first body crashes after a second, the next ones run until cancelled::

        ScriptedAgent(serve=[[Step.wait(1), Step.crash()], Step.hang()])

    Attributes:
        journal: what happened, in order; see :class:`Moment`.
        lives: products made so far; one that the factory failed to make counts.
        overlap: greatest number of lives whose ``serve`` or ``handle`` ran at the same time, a life
            that swallows a cancellation no longer counted.
    """

    def __init__(
        self,
        *,
        factory: Iterable[Script] = (),
        start: Iterable[Script] = (),
        serve: Iterable[Script] = (),
        handle: Iterable[Script] = (),
        probe: Iterable[Script] = (),
        stop: Iterable[Script] = (),
    ) -> None:
        plays = {
            "factory": factory,
            "start": start,
            "serve": serve,
            "handle": handle,
            "probe": probe,
            "stop": stop,
        }
        self._plays = {name: [_steps(name, s) for s in play] for name, play in plays.items()}
        self._played = dict.fromkeys(plays, 0)
        self._active: dict[int, int] = {}
        self.journal: list[Moment] = []
        self.lives = 0
        self.overlap = 0

    async def __call__(self) -> ScriptedProduct:
        """Make the next life, or do what the script of ``factory`` says."""
        self.lives += 1
        life = ScriptedProduct(self, self.lives)
        if self._plays["factory"]:
            await self.play("factory", life.number, None)
        return life

    def has(self, method: str) -> bool:
        """Whether there is a script for a method."""
        if method == "handle" and not self._plays["serve"]:
            return True
        return bool(self._plays[method])

    def times(self, method: str, what: str = "begins") -> list[float]:
        """Return when a method began (or whatever ``what`` says), by the loop's clock."""
        return [m.at for m in self.journal if m.method == method and m.what == what]

    async def play(self, method: str, life: int, argument: Any) -> Any:
        """Play the next script of a method for one life and return what it returns."""
        scripts = self._plays[method]
        played = self._played[method]
        self._played[method] = played + 1
        steps = scripts[min(played, len(scripts) - 1)] if scripts else ()
        self._note(life, method, "begins")
        counts = method in {"serve", "handle"}
        if counts:
            self._active[life] = self._active.get(life, 0) + 1
            self.overlap = max(self.overlap, len(self._active))
        try:
            value = await self._follow(steps, method, life, argument)
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            self._note(life, method, "cancelled" if cancelled else "raises")
            raise
        else:
            self._note(life, method, "returns")
            return value
        finally:
            if counts:
                self._inactive(life)

    def _inactive(self, life: int) -> None:
        left = self._active.pop(life, 0) - 1
        if left > 0:
            self._active[life] = left

    def _note(self, life: int, method: str, what: str) -> None:
        self.journal.append(Moment(asyncio.get_running_loop().time(), life, method, what))

    async def _follow(self, steps: tuple[Step, ...], method: str, life: int, argument: Any) -> Any:
        payload = getattr(argument, "payload", None)
        for step in steps:
            if step.name == "succeed":
                return payload if step.value is None else step.value
            await self._do(step, method, life, argument)
        return payload

    async def _do(self, step: Step, method: str, life: int, argument: Any) -> None:
        value = step.value
        match step.name:
            case "fail" | "crash":
                raise _error(step, method)
            case "wait":
                await asyncio.sleep(value)
            case "swallow":
                await self._swallow(value, method, life)
            case "heartbeat":
                _beat(argument, value)
            case "pull":
                async for task in argument.tasks():
                    task.done(await self.play("handle", life, task))
            case "call":
                answer = value(argument)
                if asyncio.iscoroutine(answer):
                    await answer

    async def _swallow(self, seconds: float, method: str, life: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                self._note(life, method, "swallows")
                self._active.pop(life, None)


class ScriptedProduct:
    """One life of a :class:`ScriptedAgent`: the object that its factory gives.

    Attributes:
        number: which life, from 1.
    """

    def __init__(self, agent: ScriptedAgent, number: int) -> None:
        self.number = number
        self._agent = agent
        for method in ("start", "serve", "handle", "probe", "stop"):
            if not agent.has(method):
                setattr(self, method, None)  # absent, for whoever looks

    async def start(self) -> None:
        """Follow the script of ``start``."""
        await self._agent.play("start", self.number, None)

    async def serve(self, agent: Any) -> None:
        """Follow the script of ``serve``."""
        await self._agent.play("serve", self.number, agent)

    async def handle(self, task: Any) -> Any:
        """Follow the script of ``handle``."""
        return await self._agent.play("handle", self.number, task)

    async def probe(self) -> bool:
        """Follow the script of ``probe``; it passes unless that raises or succeeds with false."""
        return await self._agent.play("probe", self.number, None) is not False

    async def stop(self) -> None:
        """Follow the script of ``stop``."""
        await self._agent.play("stop", self.number, None)


def _steps(method: str, script: Script) -> tuple[Step, ...]:
    steps = (script,) if isinstance(script, Step) else tuple(script)
    for step in steps:
        if not isinstance(step, Step):
            msg = f"{method}: {step!r} is not a Step; make it with Step.wait(1), Step.crash() ..."
            raise SpecError(msg, field=method, value=step)
        if step.name in {"fail", "crash"} and not _is_error(step.value):
            msg = f"{method}: {step.value!r} cannot be raised; give an exception or its class"
            raise SpecError(msg, field=method, value=step.value)
        if step.name == "pull" and method != "serve":
            msg = f"{method}: only a body can pull tasks; give Step.pull() to serve"
            raise SpecError(msg, field=method, value=step)
    return steps


def _is_error(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return value is None or isinstance(value, BaseException)


def _error(step: Step, method: str) -> BaseException:
    error: Any = step.value
    if error is None:
        error = ScriptedError(f"{method}: as scripted")
    elif isinstance(error, type):
        error = error(f"{method}: as scripted")  # a fresh one each time
    if step.name == "crash":
        error.fatal = True
    assert isinstance(error, BaseException)  # noqa: S101 - _steps has looked
    return error


def _beat(argument: Any, note: object) -> None:
    if hasattr(argument, "heartbeat"):
        argument.heartbeat(note)
    elif hasattr(argument, "progress"):
        argument.progress("" if note is None else str(note))
