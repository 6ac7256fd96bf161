"""Wrapped callables of every kind: outcomes, durations, and what stays as it was."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleetmon.errors import SpecError
from fleetmon.exporters import Observation, instrument, wrap_methods

if TYPE_CHECKING:
    from helpers_instrument import Book, Clock

pytestmark = pytest.mark.anyio


# -- outcomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), "error"),
        (TimeoutError(), "timed_out"),
        (asyncio.CancelledError(), "cancelled"),
        (concurrent.futures.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(1), "error"),
    ],
)
def test_what_a_function_raises_decides_and_goes_on(
    book: Book, error: BaseException, status: str
) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        book.wrap(work)()
    assert book.statuses == [status]


class Result:
    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (None, "success"),
        (False, "success"),
        (Result(success=True), "success"),
        (Result(success=False), "error"),
        ({"success": False}, "error"),
        (Result(stop_reason="length"), "success"),
        (Result(stop_reason="cancelled"), "cancelled"),
        (Result(stop_reason="timeout"), "timed_out"),
        (Result(status=Result(name="FAILED")), "error"),
    ],
)
def test_what_a_function_returns_decides(book: Book, result: object, status: str) -> None:
    assert book.wrap(lambda: result)() is result
    assert book.statuses == [status]


def test_recursion_counts_each_call_with_its_own_duration(book: Book, clock: Clock) -> None:
    def down(depth: int) -> int:
        clock.pass_(1)
        return down(depth - 1) + 1 if depth else 0

    down = book.wrap(down)
    assert down(2) == 2
    assert book.calls == [("success", 1), ("success", 2), ("success", 3)]


async def test_a_cancelled_coroutine_is_cancelled_and_its_time_is_right(
    book: Book, clock: Clock
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(book.wrap(work)())
    await begun.wait()
    clock.pass_(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert book.calls == [("cancelled", 5)]


async def test_a_function_that_hands_out_a_coroutine_or_a_future_is_measured_to_its_end(
    book: Book,
) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await book.wrap(lambda: work())() == 7  # noqa: PLW0108 - a plain function on purpose
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    same = book.wrap(lambda: future)()
    assert same is future
    assert book.statuses == ["success"]
    same.cancel()
    await asyncio.sleep(0)
    assert book.statuses == ["success", "cancelled"]


# -- kinds ----------------------------------------------------------------------------------------


def test_methods_classmethods_staticmethods_and_partials_in_any_order(book: Book) -> None:
    track = book.wrap

    class Engine:
        base = 10

        @track
        def method(self, x: int) -> int:
            """Add."""
            return self.base + x

        @classmethod
        @track
        def inner_class(cls, x: int) -> int:
            return cls.base + x

        @track
        @classmethod
        def outer_class(cls, x: int) -> int:
            return cls.base + x

        @staticmethod
        @track
        def inner_static(x: int) -> int:
            return x

        @track
        @staticmethod
        def outer_static(x: int) -> int:
            return x

        eleven = track(functools.partialmethod(method, 1))

    engine = Engine()
    assert engine.method(1) == 11
    assert Engine.inner_class(1) == Engine.outer_class(1) == engine.outer_class(1) == 11
    assert Engine.inner_static(1) == engine.outer_static(1) == 1
    assert track(functools.partial(engine.method, 2))() == 12
    assert track(engine.method)(3) == 13
    before = len(book.calls)
    assert engine.eleven() == 11
    assert len(book.calls) == before + 2, "partial method and method are both tracked"
    assert set(book.statuses) == {"success"}


def test_signature_docstring_name_and_kind_are_preserved(book: Book) -> None:
    def plain(a: int, *, b: str = "x") -> str:
        """Say."""
        return b * a

    async def coroutine(a: int) -> int:
        """Await."""
        return a

    def generator(a: int) -> Any:
        """Yield."""
        yield a

    async def async_generator(a: int) -> Any:
        """Yield later."""
        yield a

    for target in (plain, coroutine, generator, async_generator):
        wrapped = book.wrap(target)
        assert inspect.signature(wrapped) == inspect.signature(target)
        assert (wrapped.__name__, wrapped.__doc__) == (target.__name__, target.__doc__)
        for kind in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert kind(wrapped) == kind(target)
    partial = functools.partial(plain, 2)
    assert inspect.signature(book.wrap(partial)) == inspect.signature(partial)


async def test_callable_objects_are_what_their_call_is(book: Book) -> None:
    class Later:
        async def __call__(self, x: int) -> int:
            return x

    assert await book.wrap(Later())(3) == 3
    assert book.statuses == ["success"]


def test_what_cannot_be_called_is_refused(book: Book) -> None:
    with pytest.raises(SpecError, match="cannot be called"):
        book.wrap(3)


def test_methods_of_one_object_are_replaced_and_its_class_is_left_alone(book: Book) -> None:
    class Engine:
        def generate(self) -> int:
            return 1

    one, other = Engine(), Engine()
    wrap_methods(one, generate=book.wrap)
    assert one.generate() == other.generate() == 1
    assert len(book.calls) == 1


# -- blocks, and harm -----------------------------------------------------------------------------


async def test_blocks_end_as_they_raise_or_say(book: Book) -> None:
    with book.begin((), {}):
        pass
    with book.begin((), {}) as seen:
        seen.fail("timed_out")
    with pytest.raises(ValueError, match="x"), book.begin((), {}):
        raise ValueError("x")
    with pytest.raises(asyncio.CancelledError):
        async with book.begin((), {}):
            raise asyncio.CancelledError
    assert book.statuses == ["success", "timed_out", "error", "cancelled"]


def test_a_measurement_that_fails_never_harms_the_measured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Observation):
        def result(self, result: object) -> str:
            raise RuntimeError("reading")

        def finish(self, status: str, seconds: float) -> None:
            raise RuntimeError("booking")

    def begin(_args: object, kwargs: dict[str, Any]) -> Observation:
        return Broken() if not kwargs else 1 / 0  # type: ignore[return-value]

    work = instrument(lambda **_: 5, begin)
    assert work() == work(x=1) == 5
    assert len(caplog.records) == 3


def test_mypy_sees_the_type_of_what_was_wrapped(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        textwrap.dedent(
            """
            from collections.abc import AsyncIterator, Iterator
            from prometheus_client import CollectorRegistry
            from fleetmon.exporters import RyotExporter, SigmaLangExporter, SigmaVaultExporter

            ryot = RyotExporter(CollectorRegistry())
            lang = SigmaLangExporter(CollectorRegistry())
            vault = SigmaVaultExporter(CollectorRegistry())

            class Engine:
                @ryot.track_inference(model=lambda self, *_, **__: self)
                def generate(self, prompt: str, limit: int = 3) -> list[str]:
                    return [prompt] * limit

                @ryot.track_inference
                def stream(self, prompt: str) -> Iterator[str]:
                    yield prompt

                @ryot.track_inference
                async def flow(self, prompt: str) -> AsyncIterator[str]:
                    yield prompt

                @vault.track_delete
                @classmethod
                def delete(cls, key: str) -> bool:
                    return bool(key)

            @lang.track_compression_operation
            async def compress(data: bytes) -> bytes:
                return data

            reveal_type(Engine().generate)
            reveal_type(Engine().stream)
            reveal_type(Engine().flow("x"))
            reveal_type(Engine.delete)
            reveal_type(compress)
            Engine().generate(5)
            """
        )
    )
    # From the root, so that the cache of `make types` serves.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(snippet)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [
        line.split(": ", 1)[1].replace("typing.", "").replace("collections.abc.", "")
        for line in done.stdout.splitlines()
    ]
    assert said == [
        'note: Revealed type is "def (prompt: str, limit: int =) -> list[str]"',
        'note: Revealed type is "def (prompt: str) -> Iterator[str]"',
        'note: Revealed type is "AsyncIterator[str]"',
        'note: Revealed type is "def (key: str) -> bool"',
        'note: Revealed type is "def (data: bytes) -> Coroutine[Any, Any, bytes]"',
        (
            'error: Argument 1 to "generate" of "Engine" has incompatible type "int"; '
            'expected "str"  [arg-type]'
        ),
    ]
