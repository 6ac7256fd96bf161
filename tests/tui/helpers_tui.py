"""Frames as a fleet sends them, and a session without a screen."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from fleetmon.rows import COLUMNS, AgentRow
from fleetmon_tui.lines.screen import compose
from fleetmon_tui.session import Session
from fleetmon_tui.state.dashboard import Dashboard
from fleetmon_tui.state.store import Store
from fleetmon_tui.state.text import UNICODE, plain
from fleetmon_tui.state.themes import THEMES
from fleetmon_tui.state.ui import Ui

IDLE = AgentRow(
    agent_id="", number=None, tier=None, field="", mode="owned", executor="inline",
    lifecycle="running", desired="run", health=0, conditions=(), generation=1, accepting=True,
    capacity=2, in_flight=0, queue_limit=100, queued=0, utilization=0.0, task="", task_id=0,
    task_since=0.0, task_note="", assigned=0, succeeded=0, failed=0, cancelled=0, timed_out=0,
    dead_lettered=0, redelivered=0, failures=0, p50=None, p95=None, restarts=0, recoveries=0,
    recoveries_failed=0, streak=0, retry_at=None, zombies=0, lapse=None,
)  # fmt: skip


def row(agent_id, **facts):
    return list(IDLE._replace(agent_id=agent_id, **facts))


def hello(epoch="one", *, columns=COLUMNS, resumed=False, clock=100.0, name="elite"):
    return {
        "type": "hello", "protocol": 1, "schema": 1, "name": name, "epoch": epoch, "version": "0",
        "pid": 4711, "capabilities": [], "columns": list(columns), "resumed": resumed,
        "clock": clock, "at": 1000.0 + clock, "rate": 4.0,
    }  # fmt: skip


def rows(*told, removed=(), more=False, seq=1):
    return {"type": "rows", "seq": seq, "rows": list(told), "removed": list(removed), "more": more}


def beat(clock):
    return {"type": "heartbeat", "seq": 1, "event_seq": 0, "clock": clock, "at": 1000.0 + clock}


def fleet(**facts):
    usual = {
        "type": "fleet", "seq": 1, "phase": "running", "health": 0, "blocked": None,
        "loop_lag": 0.001, "recovering": 0, "shared_cause_open": False, "dead_letters": 0,
        "zombies": 0, "drops": {}, "warnings": [], "summaries": [],
    }  # fmt: skip
    return {**usual, **facts}


def event(seq, kind, agent_id="", at=1100.0, **data):
    return {
        "type": "event", "seq": seq, "at": at, "kind": kind, "agent_id": agent_id,
        "generation": 1, "task_id": 0, "data": data,
    }  # fmt: skip


class Still:
    """A source that tells what it is given, and keeps what it is asked to send."""

    def __init__(self):
        self.first = threading.Event()
        self.told = []
        self.sent = []
        self.asked = []
        self.sought = []
        self.chosen = []
        self.answer = {}
        self.given_up = []
        self.wake = lambda: None

    def start(self, wake):
        self.wake = wake

    def tell(self, *frames, now=0.0):
        self.told.extend((frame, now, 1000.0 + now) for frame in frames)
        self.wake()

    def take(self):
        told, self.told = self.told, []
        return told

    def details(self, agent_id):
        self.asked.append(agent_id)
        future = Future()
        future.set_result(self.answer)
        return future

    def letters(self):
        future = Future()
        future.set_result(self.given_up)
        return future

    def send(self, number, question, reason):
        self.sent.append((number, question, reason))

    def choose(self, fleet):
        self.chosen.append(fleet)

    def seek(self, word, what, now):
        self.sought.append((word, what))
        return True

    def close(self):
        pass


class Stage:
    """A dashboard with its keys, at a time that the test sets."""

    def __init__(self, *told, width=80, height=24, glyphs=UNICODE, timeline=None, **how):
        self.now = 0.0
        self.width, self.height = width, height
        self.dashboard = Dashboard(glyphs=glyphs, replay=timeline is not None, **how)
        self.ui = Ui(self.dashboard, themes=tuple(THEMES), timeline=timeline)
        self.source = Still()
        self.session = Session(self.dashboard, self.ui, self.source)
        if told:
            self.tell(hello(), rows(*told))

    def tell(self, *frames, after=0.0):
        self.now += after
        self.source.tell(*frames, now=self.now)
        self.session.take(self.now)

    def wait(self, seconds):
        self.now += seconds
        self.session.take(self.now)

    def keys(self, *names):
        """Press keys, each by its name or as the character that it types."""
        left = []
        for name in names:
            character = name if len(name) == 1 else {"space": " ", "slash": "/"}.get(name)
            found = _NAMES.get(name, name)
            left += self.session.act(self.ui.key(found, character, self.now), self.now)
            self.session.take(self.now)
            self.screen()
        return left

    def type(self, text):
        for character in text:
            self.session.act(self.ui.key(_NAMES.get(character, character), character, self.now),
                             self.now)  # fmt: skip
        self.session.take(self.now)

    def screen(self):
        """Return the screen as it reads with all styles stripped."""
        drawn = compose(self.ui, self.now, self.width, self.height)
        return [plain(line) for line, _ in drawn]

    @property
    def text(self):
        return "\n".join(self.screen())

    @property
    def states(self):
        return [state for _, state in compose(self.ui, self.now, self.width, self.height)]

    @property
    def here(self):
        return self.dashboard.selection.agent_id

    @property
    def listed(self):
        """Return the ids of the agents in the order of the list."""
        self.session.take(self.now)
        found = self.dashboard.listing.admitted
        return [self.dashboard.store.rows[place][0] for place in found]


_NAMES = {
    "/": "slash", ":": "colon", "?": "question_mark", "*": "asterisk", "<": "less_than_sign",
    ">": "greater_than_sign", "@": "at", "[": "left_square_bracket", "]": "right_square_bracket",
    "+": "plus", "-": "minus", " ": "space", "!": "exclamation_mark", "{": "left_curly_bracket",
    "}": "right_curly_bracket",
}  # fmt: skip


def elite(count=40):
    """Return rows of a fleet with a bit of everything."""
    return [
        row(f"AGENT{n:02}", number=n, tier=n % 4 + 1, field=f"field {n}", utilization=n / count)
        for n in range(count)
    ]


TROUBLED = (
    row("APEX", number=1, tier=1, task="code_review", task_since=95.0, in_flight=2),
    row("CIPHER", number=2, tier=1, lifecycle="backing_off", health=2, retry_at=104.0,
        lapse=[1090.0, 3, "serve raised", "exception", "KeyError: 'x'"]),
    row("AXIOM", number=4, tier=2, health=1, conditions=[["failing", 90.0, "6 of 10", False]]),
    row("VELOCITY", number=5, tier=2, lifecycle="paused", desired="paused"),
)  # fmt: skip


DETAILS = {
    "tasks": [{"task_id": 7, "task_type": "train", "attempt": 2, "seconds": 3.0, "note": "e 2"}],
    "recent_tasks": [
        {"task_id": 6, "task_type": "train", "outcome": "succeeded", "error_type": "",
         "ended": 99.0, "seconds": 1.5, "generation": 1, "attempt": 1},
    ],
    "recent_failures": [
        {"task_id": 5, "task_type": "train", "outcome": "failed", "error_type": "exception",
         "ended": 98.0, "seconds": 1.0, "generation": 1, "attempt": 1,
         "error": "ValueError: no such file", "frames": ["a.py:3 in load", "b.py:9 in run"]},
    ],
    "history": [event(3, "lapsed", "APEX", reason="serve raised", error="KeyError")],
    "policy": ["Up to 5 restarts within 600 s."],
    "log": [event(4, "started", "APEX")],
}  # fmt: skip


def stored(*told):
    store = Store()
    store.begin(COLUMNS, resumed=False)
    store.apply(list(told), more=False)
    return store
