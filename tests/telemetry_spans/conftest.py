"""A context without a span in it, for whoever makes spans current."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context


@pytest.fixture
def clean_context():
    token = otel_context.attach(otel_context.Context())
    yield
    left = otel_context.get_current()
    otel_context.detach(token)  # whatever is left there: the tests after this one are not to blame
    assert not left, "a test left a span current"
