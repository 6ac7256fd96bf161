"""Decides: pure functions and small state machines, without I/O, clock or event loop.

Time and randomness are parameters; times are seconds of a monotonic clock unless a name says
``wall``. No object here locks: each belongs to one owner, who calls it from one thread at a time.
"""
