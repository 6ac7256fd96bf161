"""A host without an event loop: its span is the parent of what it hands in, from any thread."""

from __future__ import annotations

import threading

from fleetmon import Supervisor
from fleetmon.testing import SpanCapture


def parents_of(spans, name):
    return [span.parent and span.parent.span_id for span in spans.named(name)]


def test_the_span_around_a_call_is_the_parent_of_the_task_in_the_supervisor_s_thread():
    spans = SpanCapture()
    tracer = spans.provider.get_tracer("host")
    with Supervisor.start_in_thread(tracer=spans.tracer) as fleet:
        fleet.add("DOUBLER", lambda: lambda number: 2 * number)
        seen = fleet.attach("SEEN")

        def call():
            with tracer.start_as_current_span("request"):
                assert fleet.run("DOUBLER", "double", 21, timeout=10) == 42
                seen.watch(sum)([1, 2])

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fleet.run("DOUBLER", "double", 21, timeout=10)
    requests = {span.context.span_id for span in spans.named("request")}
    assert set(parents_of(spans, "invoke_agent SEEN")) == requests
    assert set(parents_of(spans, "invoke_agent DOUBLER")) == {*requests, None}
    assert len(requests) == 3
