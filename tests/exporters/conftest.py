"""A book for what wrapped callables tell, and the clock that times them."""

from __future__ import annotations

import pytest
from helpers_instrument import Book, Clock


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
