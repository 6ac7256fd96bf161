"""A clean environment, and a receiver for either transport."""

from __future__ import annotations

import os

import pytest
from otlp_receiver import TRANSPORTS, Receiver


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms: tests do not wait for more


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture
def endpoint(receiver, protocol):
    with TRANSPORTS[protocol](receiver) as endpoint:
        yield endpoint
