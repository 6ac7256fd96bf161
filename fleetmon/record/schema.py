"""The file: an SQLite database in WAL mode, and what stands in its tables.

A commit is in the hands of the operating system when it returns, so it outlives a kill of the
process (``synchronous=NORMAL``); it may be lost when the machine itself loses its power, the file
staying sound. Times called ``at`` are seconds since the epoch, ``clock`` is the supervisor's.
"""

from __future__ import annotations

APPLICATION = 0x464C4D54  # "FLMT", in the header of the file
VERSION = 1
PAGE = 4096  # bytes

TABLES = """
-- one for each life of a supervisor that was recorded here
CREATE TABLE lives(
    life INTEGER PRIMARY KEY,
    epoch TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    pid INTEGER NOT NULL,
    columns TEXT NOT NULL,           -- JSON: names of the values of a row
    began_at REAL NOT NULL,
    last_at REAL NOT NULL,           -- of the newest commit
    last_clock REAL NOT NULL,
    seq INTEGER NOT NULL,            -- of the newest event
    ended TEXT NOT NULL DEFAULT ''   -- "stopped"; "left" by who recorded a stream; or "crashed",
                                     -- as whoever writes next finds out
);
CREATE TABLE events(
    id INTEGER PRIMARY KEY,
    life INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    clock REAL NOT NULL,
    kind TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    data TEXT NOT NULL               -- JSON
);
CREATE INDEX events_at ON events(at);
-- pictures: a full one now and then, and what changed between
CREATE TABLE frames(
    id INTEGER PRIMARY KEY,
    life INTEGER NOT NULL,
    at REAL NOT NULL,
    clock REAL NOT NULL,
    seq INTEGER NOT NULL,            -- of the newest event in the picture
    whole INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX frames_at ON frames(at);
-- ends of tasks, many in a row of this table
CREATE TABLE ends(
    id INTEGER PRIMARY KEY,
    life INTEGER NOT NULL,
    at REAL NOT NULL,                -- when it was written
    clock REAL NOT NULL,
    count INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX ends_at ON ends(at);
-- tasks that had begun and not ended at the newest commit, and those that wait and are to survive
CREATE TABLE open(
    life INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    since REAL NOT NULL,             -- wall clock: when it began, or was accepted
    waiting INTEGER NOT NULL,
    payload BLOB,                    -- pickled, where the agent's policy asks for it
    PRIMARY KEY(life, task_id)
) WITHOUT ROWID;
-- what of these was left over by a life that ended without saying how they came out
CREATE TABLE interrupted(
    life INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    since REAL NOT NULL,
    waiting INTEGER NOT NULL,
    payload BLOB,
    fate TEXT NOT NULL,              -- "uncertain", "pending", "redelivered" or "dead_lettered"
    found INTEGER NOT NULL,          -- life that told of it; 0: none has yet
    again INTEGER NOT NULL DEFAULT 0, -- number of the task that it became in that life
    PRIMARY KEY(life, task_id)
) WITHOUT ROWID;
-- restarts of agents, as of the newest change
CREATE TABLE restarts(
    agent_id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    streak INTEGER NOT NULL,
    lapses TEXT NOT NULL             -- JSON: when they happened, oldest first
) WITHOUT ROWID;
-- what was worth a warning, and how long
CREATE TABLE warnings(
    id INTEGER PRIMARY KEY,
    life INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL,                      -- NULL while it lasts
    rule TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    severity TEXT NOT NULL,
    text TEXT NOT NULL
);
-- times of which the record knows that it lacks something; life 0: what was forgotten for room
CREATE TABLE gaps(
    id INTEGER PRIMARY KEY,
    life INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    lost TEXT NOT NULL               -- JSON: how much, by kind
);
"""

TIMED = ("frames", "events", "ends")
"""Tables that grow with time and are pruned from their oldest rows on."""
