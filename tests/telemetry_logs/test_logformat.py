from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from fleetmon.telemetry.logformat import JsonFormatter, configure_logging, processors


@pytest.fixture
def span():
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("t").start_as_current_span("x") as current:
        yield current.get_span_context()


@pytest.fixture(autouse=True)
def keep_structlog():
    yield
    structlog.reset_defaults()


def record(message="hello %s", args=("you",), **extra):
    made = logging.makeLogRecord(
        {"name": "lib", "levelno": 30, "levelname": "WARNING", "msg": message, "args": args}
    )
    vars(made).update(extra)
    return made


def raised():
    try:
        raise ValueError("x" * 5000)  # noqa: TRY301 - to have a traceback
    except ValueError:
        return sys.exc_info()


def test_stdlib_record_has_the_shape_of_our_lines(span):
    made = record(agent_id="APEX", task_id=4, shard=2, exc_info=raised())
    line = json.loads(JsonFormatter("svc").format(made))
    assert list(line) == [
        "timestamp", "level", "service", "trace_id", "span_id", "message", "agent_id", "task_id",
        "extra",
    ]  # fmt: skip
    assert (line["level"], line["message"]) == ("warning", "hello you")
    assert line["trace_id"] == f"{span.trace_id:032x}"
    assert line["span_id"] == f"{span.span_id:016x}"
    assert (line["extra"]["logger"], line["extra"]["shard"]) == ("lib", 2)
    assert line["extra"]["error"]["type"] == "ValueError"
    assert len(line["extra"]["error"]["message"]) == 500
    flat = json.loads(JsonFormatter("svc", flatten=True).format(record(shard=2)))
    assert flat["shard"] == 2
    assert "extra" not in flat


def test_formatter_never_raises_and_keeps_ids_that_a_record_brings():
    formatter = JsonFormatter()
    line = json.loads(formatter.format(record("%d apples", ("many",))))
    assert line["message"] == "%d apples"
    line = json.loads(formatter.format(record("\ud800\x00\n", (), trace_id="ab", span_id="cd")))
    assert line["message"] == "\ud800\x00\n"
    assert (line["trace_id"], line["span_id"]) == ("ab", "cd")
    assert "trace_id" not in json.loads(formatter.format(record()))


def test_structlog_chain_gives_the_same_shape(span):
    out = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(out), processors=processors("svc"))
    logger.bind(agent_id="APEX").warning("hello", shard=2)
    try:
        raise KeyError("k")  # noqa: TRY301 - to have a traceback
    except KeyError:
        logger.exception("went wrong")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert list(first)[:6] == ["timestamp", "level", "service", "trace_id", "span_id", "message"]
    assert (first["agent_id"], first["extra"]) == ("APEX", {"shard": 2})
    assert first["trace_id"] == f"{span.trace_id:032x}"
    assert (second["level"], second["extra"]["error"]["type"]) == ("error", "KeyError")
    last = processors("svc", render=False)[-1]
    assert isinstance(last(None, "info", {"event": "x"}), dict)


def test_configure_logging_takes_both_worlds_and_close_restores_them():
    out, root = io.StringIO(), logging.getLogger()
    before = (list(root.handlers), root.level)
    handle = configure_logging("svc", stream=out)
    try:
        logging.getLogger("lib").info("from stdlib")
        logging.getLogger("lib").debug("not this")
        structlog.get_logger().info("from structlog", n=1)
        structlog.get_logger().debug("nor this")
    finally:
        assert handle.close(10)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["from stdlib", "from structlog"]
    assert {line["service"] for line in lines} == {"svc"}
    assert (list(root.handlers), root.level) == before
    assert not structlog.is_configured()
    assert handle.dropped == {}


def test_stuck_stream_does_not_block_a_host_that_logs():
    gate, entered = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            entered.set()
            gate.wait(10)
            return len(text)

    handle = configure_logging(stream=Stuck(), limit=5)
    try:
        logging.getLogger("lib").warning("first")
        assert entered.wait(10)
        for _ in range(10):
            logging.getLogger("lib").warning("more")
        assert handle.dropped == {"line": 5}
    finally:
        gate.set()
        assert handle.close(10)


def test_importing_touches_neither_structlog_nor_the_root_logger_nor_a_tracer_provider():
    code = (
        "import sys, logging, fleetmon.telemetry.logs as a\n"
        "assert 'structlog' not in sys.modules and 'opentelemetry' not in sys.modules\n"
        "import fleetmon.telemetry.logformat, fleetmon.telemetry.tracing\n"
        "assert 'structlog' not in sys.modules\n"
        "assert 'opentelemetry.sdk' not in sys.modules\n"
        "assert not logging.getLogger().handlers\n"
        "from opentelemetry import trace\n"
        "assert type(trace.get_tracer_provider()) is trace.ProxyTracerProvider\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert type(trace.get_tracer_provider()) is trace.ProxyTracerProvider
