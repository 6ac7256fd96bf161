"""Whether a result holds: jobs check their own work, and a check that fails is a failed task."""

from __future__ import annotations

from typing import Any

CHECKS = frozenset((
    "adds_up", "agree", "agreed", "all_edges", "all_once", "as_promised", "as_theory_says",
    "authentic", "balanced", "bezout", "careful", "commutes", "complete",
    "condensation_acyclic", "consistent", "converged", "csv", "decrypted", "ends_kept",
    "energy_fell", "exact", "intact", "json", "linked", "mirrored", "never_under", "no_worse",
    "ordered", "proven", "restored", "returned", "self_score", "sound", "spoiling_noticed",
    "survives", "symmetric", "within_bound", "within_bounds", "within_error", "worked", "xml",
))  # fmt: skip
"""Facts by which a job vouches for its result: false means that the work went wrong."""


def broken_checks(facts: object) -> tuple[str, ...]:
    """Return the names of the checks that failed in a job's result."""
    if not isinstance(facts, dict):
        return ("no result",)
    known: dict[str, Any] = facts
    broken = [name for name, value in known.items() if value is False and name in CHECKS]
    if known.get("trial_balance"):  # books in cents: anything but 0 is wrong
        broken.append("trial_balance")
    return tuple(broken)


def is_spoiled(facts: object) -> bool:
    """Tell whether a task that returned ``facts`` has failed all the same."""
    return bool(broken_checks(facts))
