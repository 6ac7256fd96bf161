from __future__ import annotations

import asyncio
import concurrent.futures
import email.utils
import enum
import errno
import subprocess
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.errors import RemoteError, SpecError, TaskHungError, WorkerDiedError
from fleetmon.numbers import ERROR_TYPES
from fleetmon.policy.classify import classify, describe


def failure(name="HostError", base=Exception, message="boom", **attributes):
    error = type(name, (base,), {"__module__": "host"})(message)
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


def reply(status=None, **headers):
    return SimpleNamespace(
        status_code=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def facts(error, declared=(), wall=0.0):
    verdict = classify(error, declared, wall=wall)
    return verdict.kind, verdict.error_type, verdict.retry_after


@pytest.mark.parametrize(
    ("error", "kind", "error_type"),
    [
        (ValueError("x"), "transient", "exception"),
        (FileNotFoundError("x"), "transient", "exception"),
        (ConnectionResetError(), "transient", "exception"),
        (TimeoutError(), "transient", "timeout"),
        (concurrent.futures.TimeoutError(), "transient", "timeout"),
        (OSError(errno.ETIMEDOUT, "slow"), "transient", "timeout"),
        (subprocess.TimeoutExpired("ls", 1), "transient", "timeout"),
        (failure("ReadTimeout"), "transient", "timeout"),
        (TaskHungError("x", agent_id="a", task_id=1), "transient", "hang"),
        (PermissionError("x"), "permanent", "permanent"),
        (ModuleNotFoundError("x"), "permanent", "permanent"),
        (NotImplementedError(), "permanent", "permanent"),
        (SpecError("x"), "permanent", "permanent"),
        (TypeError("x"), "bug", "exception"),
        (UnboundLocalError("x"), "bug", "exception"),
        (AssertionError(), "bug", "exception"),
        (WorkerDiedError("gone", exitcode=-9), "transient", "process_died"),
        (MemoryError(), "transient", "exception"),
        (asyncio.CancelledError(), "transient", "exception"),
        (SystemExit(429), "transient", "exception"),
    ],
)
def test_classes_alone_give_kind_and_type(error, kind, error_type):
    assert facts(error) == (kind, error_type, 0.0)


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (failure(status_code=429), 0.0),
        (failure(status="429"), 0.0),
        (failure(code=429, headers={"Retry-After": "7"}), 7.0),
        (failure(response=reply(429, retry_after="3.5")), 3.5),
        (failure(response=reply(503, retry_after="2")), 2.0),
        (failure(response=reply(429, retry_after_ms="250", retry_after="1")), 0.25),
        (failure("RateLimitError", retry_after=12), 12.0),
        (failure("ThrottlingException", retry_after=timedelta(minutes=1)), 60.0),
        (failure("HTTPTooManyRequests", retry_after="nan"), 0.0),
        (failure("RateLimitError", retry_after=float("inf")), 0.0),
        (failure("RateLimitError", retry_after=-3), 0.0),
        (failure("RateLimitError", retry_after=True), 0.0),
        (failure("RateLimitError", retry_after=10**400), 0.0),
        (failure("RateLimitError", retry_after=1e12), 86_400.0),
        (RemoteError("slow down", type_name="openai.RateLimitError"), 0.0),
    ],
)
def test_03_throttling_is_known_by_status_or_name_and_brings_its_delay(error, retry_after):
    assert facts(error) == ("throttled", "throttled", retry_after)


def test_503_without_a_delay_and_other_statuses_are_no_throttle():
    for status in (400, 401, 403, 404, 500, 503, 4290, True):
        assert facts(failure(status_code=status))[0] == "transient"


def test_03_a_retry_after_date_needs_the_wall_clock_and_one_in_the_past_is_none():
    wall = 1_700_000_000.0
    date = email.utils.formatdate(wall + 90, usegmt=True)
    error = failure(response=reply(429, retry_after=date))
    assert facts(error, wall=wall)[2] == 90.0
    assert facts(error)[2] == 0.0
    assert facts(error, wall=wall + 1000)[2] == 0.0
    assert facts(failure(response=reply(429, retry_after="soon")), wall=wall)[2] == 0.0


@pytest.mark.parametrize("flag", ["is_retryable", "recoverable", "retry_recommended"])
def test_09_what_the_exception_says_of_itself_goes_before_its_class(flag):
    assert facts(failure(**{flag: False}))[:2] == ("permanent", "permanent")
    assert facts(failure(status_code=429, **{flag: False}))[:2] == ("permanent", "permanent")
    assert facts(failure(base=PermissionError, **{flag: True}))[:2] == ("transient", "exception")
    assert facts(failure(base=TypeError, **{flag: True}))[:2] == ("transient", "exception")
    assert facts(failure(status_code=429, **{flag: True}))[:2] == ("throttled", "throttled")
    assert facts(failure(**{flag: lambda: False}))[0] == "transient"  # a method is no answer


def test_25_declared_types_match_by_code_then_by_the_nearest_class():
    class Code(enum.Enum):
        QUOTA = "quota"

    class Tone(enum.StrEnum):
        QUOTA = "quota"

    declared = ("ModelError", "quota", "OSError")
    model = failure("ModelError", RuntimeError)
    deeper = failure("DeepError", type(model))
    assert facts(model, declared)[1] == "ModelError"
    assert facts(deeper, declared)[1] == "ModelError"
    assert facts(PermissionError("x"), declared)[:2] == ("permanent", "OSError")
    for code in ("quota", Code.QUOTA, Tone.QUOTA):
        model.error_code = code
        assert facts(model, declared)[1] == "quota"
    assert facts(model)[1] == "exception"
    remote = RemoteError("x", type_name="host.models.ModelError")
    assert facts(remote, declared)[1] == "ModelError"


def test_only_a_dead_worker_memory_or_the_exceptions_own_word_is_fatal():
    fatal = [WorkerDiedError("x"), MemoryError(), failure(fatal=True)]
    assert all(classify(error).fatal for error in fatal)
    plain = [ValueError(), PermissionError(), SystemExit(), failure(fatal=1), failure(fatal=False)]
    assert not any(classify(error).fatal for error in plain)
    assert classify(WorkerDiedError("x"), ()).error_type == "process_died"


def test_10_the_cause_is_the_same_across_agents_and_bounded():
    assert classify(ValueError("one")).cause == classify(ValueError("two")).cause == "ValueError"
    assert classify(failure(error_code="E7")).cause == "host.HostError E7"
    assert classify(failure(error_code=7)).cause == "host.HostError 7"
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "host 1.2.3.4")
    assert classify(refused).cause == f"ConnectionRefusedError {errno.ECONNREFUSED}"
    long = classify(failure("X" * 500, error_code="c\n" * 500)).cause
    assert len(long) <= 120
    assert long.isprintable()
    assert classify(RemoteError("x", type_name="host.Deep")).cause == "host.Deep"


def test_an_exception_group_is_judged_by_its_gravest_member():
    group = BaseExceptionGroup(
        "several",
        [
            ValueError("a"),
            BaseExceptionGroup("in", [failure("RateLimitError", retry_after=9), TypeError()]),
        ],
    )
    assert facts(group) == ("throttled", "throttled", 9.0)
    worse = BaseExceptionGroup("more", [group, ImportError("x")])
    assert facts(worse) == ("permanent", "permanent", 9.0)
    assert facts(ExceptionGroup("one", [TimeoutError()])) == ("transient", "timeout", 0.0)
    assert classify(ExceptionGroup("one", [MemoryError(), ValueError()])).fatal
    assert describe(ExceptionGroup("one", [TimeoutError("late")])) == "TimeoutError: late"
    assert describe(group) == "ValueError: a (and 2 more)"


class Trap(BaseException):
    pass


class HostileText(str):
    __slots__ = ()

    def __eq__(self, other):
        raise Trap

    def __hash__(self):
        raise Trap

    def __len__(self):
        raise Trap

    def __str__(self):
        raise Trap

    def strip(self, *_):
        raise Trap


class HostileNumber(int):
    def __int__(self):
        raise Trap

    def __float__(self):
        raise Trap

    def __lt__(self, other):
        raise Trap

    __gt__ = __le__ = __ge__ = __eq__ = __lt__
    __hash__ = int.__hash__


class HostileMapping:
    def get(self, _):
        raise Trap

    def __bool__(self):
        raise Trap


class HostileError(Exception):
    def __getattribute__(self, name):
        raise Trap

    def __str__(self):
        raise Trap

    __repr__ = __str__


ODD = [
    HostileText("429"),
    HostileNumber(429),
    HostileMapping(),
    float("nan"),
    10**5000,
    b"429",
    "\ud800\x1b[31m",
    "x" * 100_000,
    [],
    object(),
    HostileError(),
    SimpleNamespace(status_code=HostileNumber(429), headers=HostileMapping(), value=1),
]
positions = st.integers(0, len(ODD) - 1)  # hypothesis itself stumbles over such values
ATTRIBUTES = [
    "status_code",
    "status",
    "code",
    "response",
    "headers",
    "retry_after",
    "error_code",
    "errno",
    "fatal",
    "is_retryable",
    "recoverable",
    "retry_recommended",
]


@given(st.dictionaries(st.sampled_from(ATTRIBUTES), positions), st.text(), st.integers(1, 400))
def test_25_whatever_hangs_on_an_exception_the_verdict_is_bounded_and_nothing_escapes(
    attributes, message, limit
):
    error = failure(message=message, **{name: ODD[at] for name, at in attributes.items()})
    verdict = classify(error, ("429", "HostError"), wall=1e9)
    assert verdict.error_type in (*ERROR_TYPES, "429", "HostError")
    assert verdict.kind in ("transient", "throttled", "permanent", "bug")
    assert 0.0 <= verdict.retry_after <= 86_400.0
    assert 0 < len(verdict.cause) <= 120
    assert verdict.cause.isprintable()
    text = describe(error, limit)
    assert len(text) <= limit
    assert text.replace("…", "").isprintable()
    text.encode()


def test_an_exception_whose_every_attribute_raises_is_still_judged_and_described():
    verdict = classify(HostileError(), ("HostileError",))
    assert (verdict.kind, verdict.error_type, verdict.fatal) == ("transient", "HostileError", False)
    assert describe(HostileError()) == "HostileError: (its message cannot be read)"
    assert classify(ExceptionGroup("g", [HostileError()])).kind == "transient"


def test_the_users_interrupt_passes_through():
    class InterruptingError(Exception):
        @property
        def status_code(self):
            raise KeyboardInterrupt

        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(InterruptingError())
    with pytest.raises(KeyboardInterrupt):
        describe(InterruptingError())


def test_descriptions_are_one_bounded_line():
    assert describe(ValueError("a\n  b\tc\x1b[31m")) == "ValueError: a b c [31m"
    assert describe(ValueError()) == "ValueError"
    assert describe(RemoteError("late", type_name="host.Slow")) == "host.Slow: late"
    long = describe(ValueError("x" * 10**6), 50)
    assert len(long) == 50
    assert long.endswith("…")
