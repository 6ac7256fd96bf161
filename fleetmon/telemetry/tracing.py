"""Spans for tasks: :class:`OTelTracer`, over whatever tracer provider the host has.

The host's sampler decides, once for each task and before anything is built. Any task costs its ids
and an object that stands in the current context, so that whatever the host has instrumented below
it follows the decision; a task that is kept becomes an ordinary span of the host's SDK, as soon as
somebody asks for it and at its end at the latest. Names follow the GenAI agent conventions of
OpenTelemetry, see :mod:`fleetmon.telemetry.conventions`.
"""

from __future__ import annotations

import sys
from time import time_ns
from typing import TYPE_CHECKING, cast

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, SpanKind, TraceFlags

from fleetmon.numbers import CANCELLED, OUTCOMES, SUCCEEDED
from fleetmon.telemetry.conventions import (
    AGENT_ID,
    AGENT_NAME,
    ATTEMPT,
    GENERATION,
    INVOKE_AGENT,
    OPERATION,
    OUTCOME,
    PROVIDER,
    TASK_ID,
    TASK_TYPE,
)
from fleetmon.telemetry.current import (
    KEY,
    PLAIN,
    RANDOM,
    Here,
    Recorded,
    Sampled,
    base_of,
    live,
    runtime,
)
from fleetmon.telemetry.ids import draw, take
from fleetmon.telemetry.incidents import Incidents
from fleetmon.telemetry.propagation import carrier
from fleetmon.telemetry.spans import HostSpans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context.context import Context
    from opentelemetry.sdk.trace import Tracer as SdkTracer
    from opentelemetry.trace import Tracer, TracerProvider
    from opentelemetry.trace.span import TraceState
    from opentelemetry.util.types import AttributeValue

    from fleetmon.events import Event
    from fleetmon.hooks import TaskView
    from fleetmon.telemetry.export import TracingHandle
    from fleetmon.telemetry.sampling import SdkSpans

_ALWAYS = "g"  # above every text of hex digits
_FINE = (SUCCEEDED, CANCELLED)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SAMPLED_RANDOM = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_LOW = slice(16, None)  # made once: a slice that is spelled out is made each time
_get, _set = runtime()


class OTelTracer(HostSpans):
    """A :class:`fleetmon.hooks.TaskTracer` over OpenTelemetry.

    Each task is a span ``invoke_agent {agent_id}``: a child of the context it was submitted in, of
    the current span, or of the enclosing task, in this order; a root otherwise. Neither payloads
    nor results ever reach a span, and messages of exceptions only when asked for, since they tend
    to quote what was worked on.

    Threads: all methods may be called from any thread, and a task may end in another thread, task
    or context than it began in.
    """

    def __init__(
        self,
        provider: TracerProvider | TracingHandle | None = None,
        *,
        provider_name: str = "fleetmon",
        messages: bool = False,
        version: str | None = None,
    ) -> None:
        """Trace to ``provider``.

        Args:
            provider: the host's, or what ``configure_tracing`` returned; ``None`` for the global
                one, also when it is set later.
            provider_name: value of ``gen_ai.provider.name``.
            messages: put messages of exceptions into spans, at most 500 characters each.
            version: version of the instrumentation scope ``fleetmon``.
        """
        self.provider_name = provider_name
        self.messages = messages
        self._version = version
        self._global = provider is None
        if provider is None:
            provider = trace.get_tracer_provider()
        self._resolve(cast("TracerProvider", getattr(provider, "provider", provider)))
        self._incidents = Incidents(self._start_own, messages=messages)
        self._in_flight = self._incidents.in_flight

    def _resolve(self, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("fleetmon", self._version)
        sdk = sys.modules.get("opentelemetry.sdk.trace")
        self._provider = provider
        self._tracer: Tracer = tracer
        self._sdk: SdkSpans | None = None
        self._void = isinstance(
            provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider
        ) or isinstance(tracer, trace.NoOpTracer)
        self._fast_ids, self._flags, self._sampled = True, RANDOM, _SAMPLED_RANDOM
        self._bounded = False  # roots are sampled by their ids alone
        self._drops_children = False  # tasks below one that is not sampled, without being asked
        # Roots whose lower half is at or above this text are dropped without further ado.
        self._root_below = "" if self._void and not self._global else _ALWAYS
        if sdk is not None and type(tracer) is sdk.Tracer:
            from fleetmon.telemetry.sampling import ALWAYS, SdkSpans

            self._sdk = SdkSpans(cast("SdkTracer", tracer))
            self._fast_ids = self._sdk.fast_ids
            self._make = self._sdk.make
            if not self._sdk.random:
                self._flags, self._sampled = PLAIN, _SAMPLED
            if self._sdk.bounds is not None and self._fast_ids and self._sdk.random:
                bound = self._sdk.bounds.root
                self._root_below = _ALWAYS if bound >= ALWAYS else f"{bound:016x}"
                self._bounded = True
                self._drops_children = self._sdk.bounds.local_unsampled == 0

    # -- the hot path -----------------------------------------------------------------------------

    def capture(self) -> Context:
        """Return the current context, to become ``task.origin``.

        An empty one, too: whoever takes the task out of a mailbox may have inherited a context
        that has nothing to do with it, such as the span around the host's start.
        """
        return live(_get())

    def begin(self, task: TaskView) -> None:
        """Give the task its ids, start a span if it is sampled, make its context current."""
        outer = _get()
        if outer or task.origin or task.parent is not None:
            self._begin_within(task, outer)
            return
        try:
            ids = take()
        except IndexError:
            ids = draw()
        if ids[_LOW] < self._root_below:
            sdk = self._sdk
            if (
                self._bounded
                and sdk is not None
                and type(task.task_type) is str
                and sdk.deferring()
            ):
                self._defer(task, outer, None, ids)
            else:
                self._begin_root(task, outer, outer, ids)
            return
        # The first half serves as the span's id: as random, and the sampler looks at the second.
        task.ids = ids
        task.span = here = Here()
        here.ids = ids
        here.outer = outer
        _set(here)

    def end(self, task: TaskView) -> bool:
        """End the span and restore the context that was current before ``begin``.

        Where that context cannot be restored, because the task ends elsewhere or out of order, it
        is marked instead, and no later task takes the ended one for its parent.

        Returns:
            Whether the task is sampled, and ended just now.
        """
        here = task.span
        if here is None:
            return False
        outer = here.outer
        if outer is None:  # ended before
            return False
        here.outer = None
        if _get() is here:
            _set(live(outer) if outer else outer)
        else:
            here.stale = live(outer)
        if type(here) is not Here:
            self._end_recorded(task, here)
            return task.sampled
        if task.outcome and task.outcome not in _FINE:
            self._incidents.failed(task, here.span_context())
        return False

    def finish(self, task: TaskView) -> bool:
        """End the span of a task whose context ends with it: as :meth:`end`, restoring nothing."""
        here = task.span
        if here is None or here.outer is None:
            return False
        here.outer = None
        if type(here) is not Here:
            self._end_recorded(task, here)
            return task.sampled
        if task.outcome and task.outcome not in _FINE:
            self._incidents.failed(task, here.span_context())
        return False

    # -- everything else --------------------------------------------------------------------------

    def _begin_within(self, task: TaskView, outer: Context) -> None:
        outer = live(outer)
        context = outer if task.origin is None else task.origin
        if type(context) is Here and self._drops_children:
            # below a task that is not sampled: the commonest nesting
            ids = context.ids[:32] + draw()[:16]
            self._drop(task, outer, context, ids, context.flags, context.state)
            return
        parent: SpanContext | None = None
        if isinstance(context, Here):
            parent = context.span_context()  # without making its span
        else:
            span = context.get(KEY)
            if isinstance(span, Span):
                parent = span.get_span_context()
            elif task.parent is not None and isinstance(task.parent.span, Here):
                context = task.parent.span  # the enclosing task began in another thread
                parent = context.span_context()
        if parent is None or not parent.is_valid:
            self._begin_root(task, outer, context, draw())
        else:
            ids = f"{parent.trace_id:032x}{draw()[:16]}"
            self._begin_checked(task, outer, context, parent, ids)

    def _begin_root(self, task: TaskView, outer: Context, context: Context, ids: str) -> None:
        if self._global and self._void:
            now = trace.get_tracer_provider()
            if now is not self._provider:
                self._resolve(now)
        sdk = self._sdk
        if sdk is not None and not self._fast_ids:
            ids = f"{sdk.generator.generate_trace_id() or 1:032x}{draw()[:16]}"
        self._begin_checked(task, outer, context, None, ids)

    def _begin_checked(
        self,
        task: TaskView,
        outer: Context,
        context: Context,
        parent: SpanContext | None,
        ids: str,
    ) -> None:
        sdk = self._sdk
        if parent is None:
            flags, state = self._flags, None
        else:
            flags = RANDOM if parent.trace_flags & TraceFlags.RANDOM_TRACE_ID else PLAIN
            state = parent.trace_state
        bound = None if sdk is None else sdk.bound(parent)
        if self._void or (bound is not None and int(ids[16:32], 16) >= bound):
            self._drop(task, outer, context, ids, flags, state)
            return
        if (
            bound is not None
            and sdk is not None
            and self._fast_ids
            and type(task.agent_id) is str
            and type(task.task_type) is str
            and sdk.deferring()
        ):
            here = self._defer(task, outer, parent, ids)
            here.base = base_of(context)
            here.state = state
        else:
            self._begin_asked(task, outer, context, parent, ids, flags, state)

    def _defer(
        self, task: TaskView, outer: Context, parent: SpanContext | None, ids: str
    ) -> Sampled:
        """Record a task whose span need not be there before somebody asks for it."""
        agent_id = task.agent_id
        task.sampled = True
        task.ids = ids
        task.span = here = Sampled()
        here.ids = ids
        here.outer = outer
        here.parent = parent
        if parent is None:
            here.flags = self._sampled
        elif parent.trace_flags & TraceFlags.RANDOM_TRACE_ID:
            here.flags = _SAMPLED_RANDOM
        here.maker = self._make
        here.attributes = {
            OPERATION: INVOKE_AGENT,
            PROVIDER: self.provider_name,
            AGENT_ID: agent_id,
            AGENT_NAME: agent_id,
            TASK_TYPE: task.task_type,
            TASK_ID: task.id,
            GENERATION: task.generation,
            ATTEMPT: task.attempt,
        }
        here.began = time_ns()
        _set(here)
        try:
            self._in_flight[agent_id][task.id] = here
        except KeyError:
            self._in_flight.setdefault(agent_id, {})[task.id] = here
        return here

    def _begin_asked(  # noqa: PLR0917 - what _begin_checked found out
        self,
        task: TaskView,
        outer: Context,
        context: Context,
        parent: SpanContext | None,
        ids: str,
        flags: TraceFlags,
        state: TraceState | None,
    ) -> None:
        sdk = self._sdk
        name = f"invoke_agent {task.agent_id}"
        attributes: dict[str, AttributeValue] = {
            OPERATION: INVOKE_AGENT,
            PROVIDER: self.provider_name,
            AGENT_ID: task.agent_id,
            AGENT_NAME: task.agent_id,
            TASK_TYPE: task.task_type,
            TASK_ID: task.id,
            GENERATION: task.generation,
            ATTEMPT: task.attempt,
        }
        if sdk is None:  # somebody else's provider: it decides while it starts the span
            span = self._tracer.start_span(name, context, SpanKind.INTERNAL, attributes)
            if not span.get_span_context().is_valid:
                self._drop(task, outer, context, ids, flags, state)
                return
            self._keep_span(task, outer, context, span)
            return
        trace_id = int(ids[:32], 16)
        span_id = int(ids[32:] or ids[:16], 16)
        if not self._fast_ids:
            span_id = sdk.generator.generate_span_id()
            ids = f"{ids[:32]}{span_id:016x}"
        result = sdk.decide(context, parent, trace_id, name, attributes)
        if result.decision is sdk.dropped:
            self._drop(task, outer, context, ids, flags, result.trace_state)
            return
        span = sdk.start(name, context, trace_id, span_id, result)
        if span.is_recording():
            self._keep_span(task, outer, context, span)
        else:  # a configurator has switched our scope off
            self._drop(task, outer, context, ids, flags, state)

    def _drop(  # noqa: PLR0917 - six facts, no more, on the way of every nested task
        self,
        task: TaskView,
        outer: Context,
        context: Context,
        ids: str,
        flags: TraceFlags,
        state: TraceState | None,
    ) -> None:
        task.span = here = Here()
        here.ids = task.ids = ids
        here.flags = flags
        here.state = state
        here.base = base_of(context)
        here.outer = outer
        _set(here)

    def _keep_span(self, task: TaskView, outer: Context, context: Context, span: Span) -> None:
        found = span.get_span_context()
        task.span = here = Recorded()
        here.span = span
        self._keep(task, outer, context, f"{found.trace_id:032x}{found.span_id:016x}", here)
        task.sampled = found.trace_flags.sampled

    def _keep(self, task: TaskView, outer: Context, context: Context, ids: str, here: Here) -> None:
        here.ids = task.ids = ids
        here.base = base_of(context)
        here.outer = outer
        _set(here)
        self._in_flight.setdefault(task.agent_id, {})[task.id] = here

    def _end_recorded(self, task: TaskView, here: Sampled | Recorded) -> None:
        mine = self._in_flight.get(task.agent_id)
        if mine is not None:
            mine.pop(task.id, None)
        outcome = task.outcome
        if isinstance(here, Sampled):
            sdk = self._sdk
            if here.made is None and outcome == SUCCEEDED and sdk is not None:
                sdk.tell(here)
                return
            span = here.make()
        else:
            span = here.span
        if outcome != SUCCEEDED:
            span.set_attribute(OUTCOME, OUTCOMES[outcome])
            if outcome not in _FINE:
                self._incidents.failed(task, span.get_span_context())
                self._blame(span, task.error_type or OUTCOMES[outcome], task.error)
        span.end()

    # -- incidents and the host's own spans -------------------------------------------------------

    def carry(self, task: TaskView) -> dict[str, str]:
        """Return the task's context as headers: see :func:`fleetmon.telemetry.propagation.carrier`.

        Called where the task is current.
        """
        return carrier(task)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Spans lost so far, by cause, where ``configure_tracing`` has set up the provider."""
        export = sys.modules.get("fleetmon.telemetry.export")  # not loaded: nothing set up by us
        return {} if export is None else export.lost_of(self._provider)

    def event(self, event: Event) -> None:
        """Tell a change of state: see :class:`fleetmon.telemetry.incidents.Incidents`."""
        self._incidents.event(event)

    def ids(self, agent_id: str, task_id: int) -> tuple[int, int]:
        """Return trace and span id of a sampled task in flight or of the agent's last failed one.

        (0, 0) if neither is known: tasks that are not sampled are not kept track of.
        """
        found = self._incidents.context_of(agent_id, task_id)
        return (0, 0) if found is None else (found.trace_id, found.span_id)
