"""A context without a span in it, for whoever makes spans current."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context


@pytest.fixture
def clean_context():
    token = otel_context.attach(otel_context.Context())
    yield
    assert not otel_context.get_current(), "a test left a span current"
    otel_context.detach(token)
