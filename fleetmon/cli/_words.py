"""A fleet in plain words: the lines above it, a row an agent, everything about one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon.cli._out import clean, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetmon.cli._out import Style

HEALTH = ("healthy", "degraded", "failed")
"""Words for ``health``."""

_COLOURS = {
    "healthy": ("green",),
    "degraded": ("yellow",),
    "failed": ("red",),
    "quarantined": ("red",),
    "backing_off": ("yellow",),
    "recovering": ("yellow",),
    "declared": ("dim",),
    "stopped": ("dim",),
    "paused": ("cyan",),
    "draining": ("cyan",),
}

COLUMNS = (
    "AGENT", "TIER", "STATE", "HEALTH", "TASK", "QUEUE", "USE", "OK", "FAILED", "P50", "P95",
    "RESTARTS",
)  # fmt: skip
_SPARE = ("TIER", "P50", "P95", "USE", "OK", "QUEUE", "RESTARTS")  # left out first to last
_RIGHT = frozenset({"TIER", "QUEUE", "USE", "OK", "FAILED", "P50", "P95", "RESTARTS"})

_MINUTE, _HOUR = 60, 3600
_TENTHS = 10  # seconds up to which tenths matter


def duration(seconds: float) -> str:
    """Return a time in words: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 4 min``."""
    if seconds < _TENTHS:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def several(number: int, one: str) -> str:
    """Return a number with its noun, ``1 restart`` or ``3 restarts``."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def clock(at: float) -> str:
    """Return a moment of today as ``12:34:56``, another one with its date."""
    when = time.localtime(at)
    today = when[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", when)


def moment(at: float) -> str:
    """Return a moment with its date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def latency(seconds: float | None) -> str:
    """Return a duration of tasks, short enough for a column."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s"


def heading(fleet: Mapping[str, Any], agents: Sequence[Mapping[str, Any]], style: Style) -> str:
    """Return the line that says how many agents are how well."""
    if "counts" in fleet:
        counts = [fleet["counts"][word] for word in HEALTH]
        waiting = fleet["counts"]["declared"]
    else:
        there = [a for a in agents if a["mode"] != "declared"]
        counts = [sum(a["health"] == level for a in there) for level in range(3)]
        waiting = len(agents) - len(there)
    size = sum(counts)
    told = ", ".join(
        style(f"{n:,} {word}", *_COLOURS[word]) for n, word in zip(counts, HEALTH, strict=True) if n
    )
    many = f"{size:,} agent{'' if size == 1 else 's'}"
    more = f", {waiting} declared and not added" if waiting else ""
    return (
        f"{style(clean(fleet['name']), 'bold')}: {fleet['phase']}, {many}: {told or 'none'}{more} "
        f"(process {fleet['pid']})"
    )


def alarms(
    fleet: Mapping[str, Any], agents: Sequence[Mapping[str, Any]], now: float, style: Style
) -> list[str]:
    """Return a line for everything that is the matter.

    Args:
        fleet: a snapshot, or a frame ``fleet`` of a stream.
        agents: as in a snapshot.
        now: the supervisor's clock.
        style: for the words.
    """
    if "warnings" in fleet:
        lines = [warning(told, now - told["since"], style) for told in fleet["warnings"]]
    else:  # an older fleet: conditions are all that it tells
        lines = [
            warning(
                {
                    "rule": c["name"],
                    "agent_id": a["agent_id"],
                    "text": c["reason"],
                    "severity": "warning",
                },
                c["seconds"],
                style,
            )
            for a in agents
            for c in a["conditions"]
        ]
    if fleet["dead_letters"]:
        many = several(fleet["dead_letters"], "dead letter")
        lines.append(f"{style('!', 'yellow')} {many}: fleetmon dead-letters")
    return lines


def warning(told: Mapping[str, Any], seconds: float, style: Style) -> str:
    """Return one warning as a line; ``seconds`` since it began."""
    critical = told["severity"] == "critical"
    mark = style("!!", "red") if critical else style("!", "yellow")
    who = style(clean(told["agent_id"]) or "fleet", "bold")
    return f"{mark} {who}: {clean(told['rule'])} for {duration(seconds)}: {clean(told['text'])}"


def agent_table(
    agents: Sequence[Mapping[str, Any]], style: Style, width: int | None = None
) -> list[str]:
    """Return agents as a table.

    Args:
        agents: as in a snapshot.
        style: for states and health.
        width: columns of the terminal; what has no room there is left out, which the last line
            says. ``None``: never cut.
    """

    def paint(name: str, cell: str, padded: str) -> str:
        if name in {"STATE", "HEALTH"}:
            return style(padded, *_COLOURS.get(cell.partition(" ")[0], ()))
        return padded

    rows = [row(a) for a in agents]
    names: Sequence[str] = COLUMNS
    away = _too_wide(rows, width)
    if away:
        kept = [at for at, name in enumerate(COLUMNS) if name not in away]
        names = tuple(COLUMNS[at] for at in kept)
        rows = [tuple(cells[at] for at in kept) for cells in rows]
    lines = table(names, rows, right=_RIGHT, paint=paint)
    if away:
        lines.append(f"(no room for {', '.join(away)}; --json has all)")
    return lines


def _too_wide(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return the columns without which a table fits, as far as there are some to spare."""
    if width is None:
        return []
    sizes = {
        name: max(len(cell) for cell in cells)
        for name, *cells in zip(COLUMNS, COLUMNS, *rows, strict=True)
    }
    whole = sum(sizes.values()) + 2 * (len(sizes) - 1)
    away: list[str] = []
    for name in _SPARE:
        if whole <= width:
            break
        whole -= sizes[name] + 2
        away.append(name)
    return away


def row(agent: Mapping[str, Any]) -> tuple[str, ...]:
    """Return an agent's cells, in the order of :data:`COLUMNS`."""
    tasks = agent["tasks"]
    doing = "-"
    if tasks:
        oldest = max(tasks, key=lambda task: task["seconds"])
        doing = f"{clean(oldest['task_type'])} {duration(oldest['seconds'])}"
        if agent["in_flight"] > 1:
            doing += f" +{agent['in_flight'] - 1}"
    declared = agent["mode"] == "declared"
    return (
        clean(agent["agent_id"]),
        "-" if agent["tier"] is None else str(agent["tier"]),
        "declared" if declared else state(agent),
        "-" if declared else HEALTH[agent["health"]],
        doing,
        str(agent["queued"]),
        f"{agent['utilization']:.0%}",
        str(agent["succeeded"]),
        str(agent["failed"]),
        latency(agent.get("p50")),
        latency(agent.get("p95")),
        str(agent["restarts"]),
    )


def state(agent: Mapping[str, Any]) -> str:
    """Return an agent's state, and how long until its next try."""
    retry = agent["retry_in"]
    return str(agent["lifecycle"]) + ("" if retry is None else f" {duration(retry)}")


def event(told: Mapping[str, Any], *, who: bool = True) -> str:
    """Return one event as a line, without its stack."""
    data = " ".join(
        f"{key}={value if isinstance(value, str) else _short(value)}"
        for key, value in told["data"].items()
        if value not in ("", None) and key != "stack"
    )
    name = f"{told['agent_id'] or '-':<12} " if who else ""
    return clean(f"{told['seq']:>6} {clock(told['at'])} {told['kind']:<18} {name}{data}".rstrip())


def _short(value: Any) -> str:
    import json

    return json.dumps(round(value, 3) if isinstance(value, float) else value)
