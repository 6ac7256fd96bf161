"""Dashboards of the agents: for those who are on call for a fleet."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines, number

JOB = Variable("job", "label_values(agents_health_status, job)", "Fleet")
AGENT = Variable(
    "agent", 'label_values(agents_info{job=~"$job"}, agent_id)', "Agent", everything=False
)

_F = 'job=~"$job"'
_A = 'job=~"$job", agent_id=~"$agent"'
_HEALTH = {"0": ("healthy", "green"), "1": ("degraded", "yellow"), "2": ("failed", "red")}
_BAD = ((None, "green"), (1, "red"))
_ERRORS = 'outcome=~"failed|timed_out|dead_lettered"'
_COUNTED = 'outcome!="cancelled"'

OVERVIEW = Board(
    "fleetmon-overview",
    "Fleet / Overview",
    "Is the fleet well, and if not, who is not and since when?",
    (
        (
            "Now",
            (
                number("Agents active", f"sum(agents_active_total{{{_F}}})"),
                number(
                    "Failed",
                    f"count(agents_health_status{{{_F}}} == 2) or vector(0)",
                    steps=_BAD,
                    about="Not serving, for reasons of fault.",
                ),
                number(
                    "Degraded",
                    f"count(agents_health_status{{{_F}}} == 1) or vector(0)",
                    steps=((None, "green"), (1, "yellow")),
                ),
                number("Tasks in flight", f"sum(agents_tasks_in_flight{{{_F}}})"),
                number("Tasks waiting", f"sum(agents_queue_length{{{_F}}})"),
                number(
                    "Shared cause",
                    f"max(fleetmon_shared_cause_open{{{_F}}})",
                    words={"0": ("closed", "green"), "1": ("OPEN", "red")},
                    about="Open: most of the fleet fell for one reason; restarts wait for a probe.",
                ),
            ),
        ),
        (
            "Work",
            (
                lines(
                    "Tasks ended a second",
                    Query(
                        f"sum by (outcome) (rate(agents_tasks_completed_total{{{_F}}}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    unit="ops",
                    stacked=True,
                ),
                lines(
                    "Share of tasks that failed",
                    Query(
                        f"sum(rate(agents_tasks_completed_total{{{_F}, {_ERRORS}}}[$__rate_interval]))"
                        f" / sum(rate(agents_tasks_completed_total{{{_F}, {_COUNTED}}}[$__rate_interval]))",
                        "failed",
                    ),
                    unit="percentunit",
                    low=0,
                    steps=((None, "green"), (0.05, "red")),
                    about="Failed, timed out and dead letters; cancelled tasks are neither.",
                ),
                lines(
                    "Task duration",
                    *(
                        Query(
                            f"histogram_quantile({q}, sum by (le)"
                            f" (rate(agents_task_duration_seconds_bucket{{{_F}}}[$__rate_interval])))",
                            name,
                            exemplars=q == 0.95,
                        )
                        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                    ),
                    unit="s",
                    about="Points are sampled tasks; each leads to its trace.",
                ),
            ),
        ),
        (
            "Health",
            (
                Panel(
                    "Health of every agent",
                    (Query(f"max by (agent_id) (agents_health_status{{{_F}}})", "{{agent_id}}"),),
                    "timeline",
                    words=_HEALTH,
                    width=16,
                ),
                Panel(
                    "Failures in the last 5 minutes",
                    (
                        Query(
                            f"topk(10, round(sum by (agent_id) (increase(agents_failures_total{{{_F}}}[5m]))))",
                            "{{agent_id}}",
                        ),
                    ),
                    "gauge",
                    about="More than 3 of one agent raise an alert.",
                    height=12,
                    steps=((None, "green"), (1, "yellow"), (4, "red")),
                ),
            ),
        ),
        (
            "Load",
            (
                lines(
                    "Utilization, busiest ten",
                    Query(f"topk(10, agents_utilization_ratio{{{_F}}})", "{{agent_id}}"),
                    unit="percentunit",
                    low=0,
                    high=1,
                    many=True,
                ),
                lines(
                    "Agents by state",
                    Query(f"sum by (state) (agents_lifecycle{{{_F}}}) > 0", "{{state}}"),
                    stacked=True,
                ),
                lines(
                    "Longest queues",
                    Query(f"topk(10, agents_queue_length{{{_F}}} > 0)", "{{agent_id}}"),
                    low=0,
                    many=True,
                    about="Agents whose tasks wait; nothing where none do.",
                ),
            ),
        ),
    ),
    (JOB,),
)

AGENT_DETAIL = Board(
    "fleetmon-agent",
    "Fleet / Agent",
    "One agent, or a few beside each other: what it does, how long, how it fails and recovers.",
    (
        (
            "Now",
            (
                number("Health", f"max(agents_health_status{{{_A}}})", words=_HEALTH),
                number(
                    "Utilization",
                    f"avg(agents_utilization_ratio{{{_A}}})",
                    unit="percentunit",
                    low=0,
                    high=1,
                ),
                number("In flight", f"sum(agents_tasks_in_flight{{{_A}}})"),
                number("Waiting", f"sum(agents_queue_length{{{_A}}})"),
                number("Restarts", f"sum(agents_restarts_total{{{_A}}})"),
                number(
                    "Blocked the loop for",
                    f"sum(agents_loop_blocked_seconds_total{{{_A}}})",
                    unit="s",
                ),
            ),
        ),
        (
            "Tasks",
            (
                lines(
                    "Accepted a second, by type",
                    Query(
                        f"sum by (task_type) (rate(agents_tasks_assigned_total{{{_A}}}[$__rate_interval]))",
                        "{{task_type}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Outcomes a second",
                    Query(
                        f"sum by (outcome) (rate(agents_tasks_completed_total{{{_A}}}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    unit="ops",
                    stacked=True,
                ),
                lines(
                    "p95 by type",
                    Query(
                        "histogram_quantile(0.95, sum by (le, task_type)"
                        f" (rate(agents_task_duration_seconds_bucket{{{_A}}}[$__rate_interval])))",
                        "{{task_type}}",
                        exemplars=True,
                    ),
                    unit="s",
                ),
            ),
        ),
        (
            "Trouble",
            (
                lines(
                    "Failures by type",
                    Query(
                        f"sum by (error_type) (increase(agents_failures_total{{{_A}}}[$__rate_interval]))"
                        f" and on (error_type) sum by (error_type) (agents_failures_total{{{_A}}}) > 0",
                        "{{error_type}}",
                    ),
                    Query(
                        f"sum(increase(agents_tasks_redelivered_total{{{_A}}}[$__rate_interval]))",
                        "redelivered",
                    ),
                    stacked=True,
                ),
                lines(
                    "Recoveries",
                    Query(
                        f"sum by (outcome) (increase(agents_recoveries_total{{{_A}}}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    Query(
                        f"sum(increase(agents_recovery_attempts_total{{{_A}}}[$__rate_interval]))",
                        "attempts",
                    ),
                ),
                Panel(
                    "State",
                    (
                        Query(
                            f"max by (agent_id, state) (agents_lifecycle{{{_A}}}) == 1",
                            "{{agent_id}} {{state}}",
                        ),
                    ),
                    "timeline",
                    height=8,
                ),
            ),
        ),
        (
            "Who it is",
            (
                Panel(
                    "Roster",
                    (Query(f"max by (agent_id, number, tier, field) (agents_info{{{_A}}})"),),
                    "table",
                    width=24,
                    height=5,
                ),
            ),
        ),
    ),
    (JOB, AGENT),
)

SUPERVISOR = Board(
    "fleetmon-supervisor",
    "Fleet / Supervisor and recovery",
    "Does recovery work, and is the supervisor itself well?",
    (
        (
            "Recovery",
            (
                lines(
                    "Attempts and outcomes",
                    Query(
                        f"sum(increase(agents_recovery_attempts_total{{{_F}}}[$__rate_interval]))",
                        "attempts",
                    ),
                    Query(
                        f"sum by (outcome) (increase(agents_recoveries_total{{{_F}}}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    Query(
                        f"sum(increase(agents_restarts_total{{{_F}}}[$__rate_interval]))",
                        "restarts",
                    ),
                ),
                lines(
                    "Out of service",
                    Query(
                        f'sum by (state) (agents_lifecycle{{{_F}, state=~"backing_off|quarantined|probing|recovering"}})',
                        "{{state}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Recoveries under way, shared cause",
                    Query(f"sum(fleetmon_recoveries_in_progress{{{_F}}})", "under way"),
                    Query(f"max(fleetmon_shared_cause_open{{{_F}}})", "shared cause open"),
                    low=0,
                ),
            ),
        ),
        (
            "The host's event loop",
            (
                lines(
                    "Lag",
                    Query(f"max(fleetmon_loop_lag_seconds{{{_F}}})", "now"),
                    Query(f"max(fleetmon_loop_lag_max_seconds{{{_F}}})", "worst since start"),
                    unit="s",
                ),
                lines(
                    "Blocked, share of time",
                    Query(
                        f"sum(rate(fleetmon_loop_blocked_seconds_total{{{_F}}}[$__rate_interval]))",
                        "blocked",
                    ),
                    unit="percentunit",
                    low=0,
                ),
                Panel(
                    "Who blocked it",
                    (
                        Query(
                            f"topk(10, max by (agent_id) (agents_loop_blocked_seconds_total{{{_F}}}) > 0)",
                            "{{agent_id}}",
                        ),
                    ),
                    "gauge",
                    unit="s",
                ),
            ),
        ),
        (
            "Itself",
            (
                lines(
                    "Events published, and what was lost",
                    Query(
                        f"sum(rate(fleetmon_events_total{{{_F}}}[$__rate_interval]))", "published"
                    ),
                    *(
                        Query(
                            f"sum(rate(fleetmon_{what}_drops_total{{{_F}}}[$__rate_interval]))",
                            f"lost {name}",
                        )
                        for what, name in (("event", "events"), ("log", "lines"), ("span", "spans"))
                    ),
                    unit="ops",
                    about="Lost: the other side was too slow or gone. No agent waits for it.",
                ),
                lines(
                    "Left behind",
                    Query(f"sum(fleetmon_zombies{{{_F}}})", "zombies"),
                    Query(f"sum(fleetmon_leaked_threads{{{_F}}})", "threads"),
                    Query(f"sum(fleetmon_dead_letters{{{_F}}})", "dead letters"),
                    Query(f"sum(fleetmon_late_results_total{{{_F}}})", "late results"),
                    Query(f"sum(fleetmon_hook_errors_total{{{_F}}})", "errors of hooks"),
                ),
                Panel(
                    "Versions",
                    (
                        Query(
                            f"max by (job, instance, version, python) (fleetmon_build_info{{{_F}}})"
                        ),
                    ),
                    "table",
                    height=8,
                ),
            ),
        ),
    ),
    (JOB,),
)

BOARDS = (OVERVIEW, AGENT_DETAIL, SUPERVISOR)
