"""Frames, described errors and blame, without any process."""

from __future__ import annotations

import faulthandler
import sys
import tempfile
from itertools import pairwise

import agents
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.errors import RemoteError
from fleetmon.runtime.executors.faults import blame_dump, blame_frame
from fleetmon.runtime.executors.wire import (
    HEADER,
    MAX_BODY,
    FrameError,
    Frames,
    dumps,
    pack_error,
    unpack_error,
)

_FRAMES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=40)), max_size=8
)


@given(frames=_FRAMES, cuts=st.lists(st.integers(0, 500), max_size=12))
def test_frames_survive_any_cutting_of_the_stream(frames, cuts):
    data = b"".join(HEADER.pack(len(b), kind, number) + b for kind, number, b in frames)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = Frames()
    got = [frame for begin, end in pairwise(edges) for frame in reader.feed(data[begin:end])]
    assert got == frames


def test_a_header_that_promises_too_much_is_refused_before_anything_is_kept():
    with pytest.raises(FrameError, match="more than 67108864"):
        list(Frames().feed(HEADER.pack(MAX_BODY + 1, 1, 1)))
    with pytest.raises(FrameError, match="thing does not pickle"):
        dumps(lambda: None, "thing")


class RaisingError(Exception):
    @property
    def error_code(self):
        raise ValueError

    def __str__(self):
        raise ValueError


def test_even_an_exception_that_cannot_be_printed_arrives():
    arrived = unpack_error(pack_error(RaisingError()))
    assert isinstance(arrived, Exception)
    plain = unpack_error(pack_error(agents.CustomError(3)))
    assert (type(plain), plain.code) == (agents.CustomError, 3)
    local = type("LocalError", (Exception,), {})("x")
    local.retry_after = 2.5
    local.payload = object()
    told = unpack_error(pack_error(local))
    assert isinstance(told, RemoteError)
    assert (str(told), told.retry_after) == ("test_wire.LocalError: x", 2.5)
    assert not hasattr(told, "payload")


def test_the_agents_own_line_is_blamed_in_stacks_and_dumps():
    def look():
        return blame_frame(sys._getframe())

    place = look()
    assert place.endswith(" in look")
    assert place.startswith(f"{__file__}:")
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        dump = file.read().decode()
    assert blame_dump(dump).endswith("in test_the_agents_own_line_is_blamed_in_stacks_and_dumps")
    stdlib = blame_dump.__globals__["_STDLIB"]
    assert blame_frame(None) == ""
    assert blame_dump("") == ""
    crash = (
        "Fatal Python error: Segmentation fault\n\n"
        "Thread 0x00007f0000000001 (most recent call first):\n"
        f'  File "{stdlib}/selectors.py", line 468 in select\n'
        '  File "/srv/other.py", line 1 in other\n\n'
        "Current thread 0x00007f0000000002 (most recent call first):\n"
        f'  File "{stdlib}/re/__init__.py", line 166 in match\n'
        '  File "/srv/agent.py", line 12 in parse\n'
    )
    assert blame_dump(crash) == "/srv/agent.py:12 in parse"
