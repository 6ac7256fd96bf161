"""A host's own lines bear the task that they come from, whatever it logs with."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import threading

import pytest
import structlog

from fleetmon import Supervisor, configure_logging
from fleetmon.telemetry import JsonFormatter, processors
from fleetmon.testing import LogCapture, SpanCapture

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def keep_structlog():
    yield
    structlog.reset_defaults()


@pytest.fixture
def log():
    with LogCapture("svc") as log:
        yield log


class Talker:
    """Logs while it works, in a thread, with both libraries."""

    def handle(self, task):
        logging.getLogger("lib").warning("from stdlib")
        structlog.get_logger().warning("from structlog", shard=2, odd={1, 2})


@pytest.mark.parametrize("ratio", [1.0, 0.0])
async def test_lines_of_stdlib_and_structlog_have_the_ids_of_their_task_sampled_or_not(log, ratio):
    spans = SpanCapture(ratio)
    handle = configure_logging(log=log.log)
    try:
        async with Supervisor(tracer=spans.tracer, log=handle.log) as fleet:
            await fleet.add("TALKER", Talker)
            await fleet.agent("TALKER").run("talk", None)
            logging.getLogger("lib").warning("from outside")
        (task,) = log.of(agent_id="TALKER", message="task succeeded")
        for text in ("from stdlib", "from structlog"):
            (line,) = log.of(message=text)
            for key in ("service", "trace_id", "span_id", "agent_id", "task_type", "task_id"):
                assert line[key] == task[key], key
            assert line["generation"] == 1
            assert list(line) == [key for key in task if key != "extra" or "extra" in line]
        assert line["extra"] == {"shard": 2, "odd": [1, 2]}
        (outside,) = log.of(message="from outside")
        assert not {"trace_id", "agent_id", "task_id"} & outside.keys()
        assert [span.context.trace_id for span in spans.spans] == (
            [int(task["trace_id"], 16)] if ratio else []
        )
    finally:
        handle.close()


async def test_inner_tasks_and_own_fields_go_before_what_surrounds_them(log):
    async with Supervisor() as fleet:
        formatter = JsonFormatter("svc")

        def line(**extra):
            record = logging.makeLogRecord({"msg": "x", "levelname": "INFO", **extra})
            return json.loads(formatter.format(record))

        with fleet.attach("OUTER").task("o"), fleet.attach("INNER").task("i") as inner:
            assert (line()["agent_id"], line()["task_id"]) == ("INNER", inner.id)
            theirs = line(agent_id="ELSEWHERE")
            assert theirs["agent_id"] == "ELSEWHERE"
            assert "task_id" not in theirs  # ours would belong to another agent
            assert await asyncio.to_thread(lambda: line()["agent_id"]) == "INNER"
            seen = []
            bare = threading.Thread(target=lambda: seen.append(line()))
            bare.start()
            bare.join()
            assert "agent_id" not in seen[0]
        assert "agent_id" not in line()


async def test_a_processor_formatter_of_the_host_s_own_gives_the_same_lines():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    chain = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *processors("svc")]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=chain))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        async with Supervisor() as fleet:
            with fleet.attach("A").task("t"):
                logging.getLogger("lib").warning("from %s", "stdlib")
                structlog.get_logger("own").warning("from structlog", shard=2)
                try:
                    raise KeyError("k")  # noqa: TRY301 - to have a traceback
                except KeyError:
                    logging.getLogger("lib").exception("went wrong")
    finally:
        root.removeHandler(handler)
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["message"], second["message"]) == ("from stdlib", "from structlog")
    for line in (first, second, third):
        assert (line["service"], line["agent_id"], line["task_type"]) == ("svc", "A", "t")
        assert not {"_record", "_from_structlog"} & line.get("extra", {}).keys()
    assert [line["level"] for line in (first, second, third)] == ["warning", "warning", "error"]
    assert second["extra"] == {"shard": 2}
    assert third["extra"]["error"]["type"] == "KeyError"


async def test_what_may_change_is_rendered_at_once_and_what_cannot_later(log):
    handle = configure_logging(log=log.log)
    try:
        basket = ["apple"]
        logging.getLogger("lib").warning("basket", extra={"basket": basket})
        basket.append("pear")
        queued = []
        log.log._writer.put = lambda item, _kind: queued.append(item)
        logging.getLogger("lib").warning("plain", extra={"n": 1})
        logging.getLogger("lib").warning("long %s", "x" * 9000)
    finally:
        del log.log._writer.put
        handle._restore()
        logging.getLogger().removeHandler(handle._handler)
    (line,) = log.of(message="basket")
    assert line["extra"]["basket"] == ["apple"]
    assert [type(item) for (item,) in queued] == [dict, str]


def test_a_context_taken_along_takes_the_task_along():
    with SpanCapture().provider.get_tracer("t").start_as_current_span("x"):
        taken = contextvars.copy_context()
    line = taken.run(
        lambda: json.loads(JsonFormatter().format(logging.makeLogRecord({"msg": "late"})))
    )
    assert len(line["trace_id"]) == 32
