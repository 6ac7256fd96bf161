"""The context that a task makes current, built only as far as somebody looks.

Most tasks are not sampled and look at no context, so :class:`Here` starts as a bare object with two
ids; the mapping and the span in it come into being when the host, or something that the host has
instrumented, asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

    from opentelemetry.trace.span import TraceState

RANDOM = TraceFlags(TraceFlags.RANDOM_TRACE_ID)
PLAIN = TraceFlags(TraceFlags.DEFAULT)
# The key under which a context holds its span, learnt from the public function.
(KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_put = dict.__setitem__
_has = dict.__contains__


def runtime() -> tuple[Callable[[], Context], Callable[[Context], object]]:
    """Return how to read and to set the current context.

    That is ``get_current`` and ``attach``; for the ordinary runtime, the two methods of the context
    variable behind them, at a quarter of the cost. Nothing of ours is ever detached by token: a
    task may end in another thread or context than it began in, and there a token is refused.
    """
    found = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    variable = getattr(found, "_current_context", None)
    if type(found) is ContextVarsRuntimeContext and variable is not None:
        return variable.get, variable.set
    return otel_context.get_current, otel_context.attach


class Here(Context):
    """The context of a task in flight.

    Attributes:
        ids: of the task, as :class:`fleetmon.hooks.Identified` has them.
        outer: the context to restore; ``None`` once the task has ended.
        stale: the context to go by instead, when the task ended where it could not restore it.
        base: the context whose other values go on, if it is not empty.
        flags: of the span context, while there is no span.
        state: of the span context, while there is no span.
    """

    # Slots for what every task sets: half the cost of attributes in the instance's dictionary.
    __slots__ = ("ids", "outer")

    ids: str
    outer: Context | None
    stale: Context | None = None
    base: Context | None = None
    flags: TraceFlags = RANDOM
    state: TraceState | None = None

    def whole(self) -> Here:
        """Return itself with its mapping filled in. Two threads that do it at once do no harm."""
        if not _has(self, KEY):
            if self.base:
                for key, value in self.base.items():
                    if key != KEY:
                        _put(self, key, value)
            _put(self, KEY, self.spanned())
        return self

    def spanned(self) -> Span:
        """Return the span that others see."""
        return NonRecordingSpan(self.span_context())

    def span_context(self) -> SpanContext:
        """Return the ids with the decision."""
        ids = self.ids
        return SpanContext(
            int(ids[:32], 16),
            int(ids[32:] or ids[:16], 16),
            is_remote=False,
            trace_flags=self.flags,
            trace_state=self.state,
        )

    # Every way of reading a dictionary, each over the whole one.
    # ruff: noqa: D105 - what they do is what a dictionary does

    def __getitem__(self, key: str) -> Any:
        return dict.__getitem__(self.whole(), key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, the span among them."""
        return dict.get(self.whole(), key, default)

    def __contains__(self, key: object) -> bool:
        return _has(self.whole(), key)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self.whole())

    def __reversed__(self) -> Iterator[str]:
        return dict.__reversed__(self.whole())

    def __len__(self) -> int:
        return dict.__len__(self.whole())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self.whole(), other)

    def __ne__(self, other: object) -> bool:
        return dict.__ne__(self.whole(), other)

    __hash__ = None  # type: ignore[assignment] # as of any dictionary

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items())

    def __repr__(self) -> str:
        return dict.__repr__(self.whole())

    def keys(self) -> KeysView[str]:  # type: ignore[override] # the dict's own view is private
        """Return a view of the keys."""
        return dict.keys(self.whole())

    def values(self) -> ValuesView[object]:  # type: ignore[override]
        """Return a view of the values."""
        return dict.values(self.whole())

    def items(self) -> ItemsView[str, object]:  # type: ignore[override]
        """Return a view of both."""
        return dict.items(self.whole())

    def copy(self) -> dict[str, object]:
        """Return a plain copy: this is how ``set_value`` puts something beside the span."""
        return dict.copy(self.whole())


class Recorded(Here):
    """The context of a task with a recorded span."""

    span: Span

    def spanned(self) -> Span:
        """Return the recorded span."""
        return self.span

    def span_context(self) -> SpanContext:
        """Return the span's own."""
        return self.span.get_span_context()


class Sampled(Here):
    """The context of a task whose span is recorded, but not made before somebody asks for it.

    Few look at the span of a task while it runs. For all others one record at its end is enough,
    for a sixth of what a span costs that is started, kept and ended.

    Attributes:
        maker: makes the span from this.
        parent: context of the parent span, ``None`` for a root.
        attributes: set at creation; whoever makes the span or the record gives them away.
        began: nanoseconds since the epoch.
        made: the span, once somebody has asked.
    """

    flags: TraceFlags = TraceFlags(TraceFlags.SAMPLED)
    maker: Callable[[Sampled], Span]
    parent: SpanContext | None
    attributes: dict[str, Any]
    began: int
    made: Span | None = None

    def spanned(self) -> Span:
        """Return the recorded span; once the task has ended without one, its ids alone."""
        if self.made is None and self.outer is None:
            return NonRecordingSpan(self.span_context())
        return self.make()

    def make(self) -> Span:
        """Return the recorded span, made now if it was not before; one for all that ask."""
        made = self.made
        if made is None:
            made = vars(self).setdefault("made", self.maker(self))
        return made


def base_of(context: Context) -> Context | None:
    """Return the context without what a task added: contexts of tasks make no chain in memory."""
    return context.base if isinstance(context, Here) else context


def live(context: Context) -> Context:
    """Return the context, or the one to go by where the task that made it has ended."""
    while isinstance(context, Here) and context.stale is not None:
        context = context.stale
    return context
