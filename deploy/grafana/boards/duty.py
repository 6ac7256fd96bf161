"""Dashboards for whoever is on duty: objectives and their budgets, and the alerts."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines, number

_S = 'slo=~"$slo"'
_WINDOWS = (
    ("Page: 14.4 times (5m and 1h)", 14.4, "5m", "1h"),
    ("Page: 6 times (30m and 6h)", 6, "30m", "6h"),
    ("Ticket: 3 times (2h and 1d)", 3, "2h", "1d"),
    ("Ticket: as fast as allowed (6h and 3d)", 1, "6h", "3d"),
)

# Only what the rules record is asked: objectives stand in deploy/prometheus/rules, and nowhere else.
SLO = Board(
    "fleetmon-slo",
    "SLO / Error budget",
    "How fast each service spends its error budget of 30 days, exactly as the alerts see it.",
    (
        (
            "Now",
            (
                Panel(
                    "Budget of 30 days left",
                    (Query(f"min by (slo) (slo:error_budget_remaining:ratio{{{_S}}})", "{{slo}}"),),
                    "gauge",
                    unit="percentunit",
                    steps=((None, "red"), (0.25, "yellow"), (0.5, "green")),
                    about="1: untouched, 0: spent, below: overdrawn.",
                ),
                Panel(
                    "Burn rate of the last hour",
                    (Query(f"max by (slo) (slo:burn_rate:1h{{{_S}}})", "{{slo}}"),),
                    "gauge",
                    steps=((None, "green"), (1, "yellow"), (14.4, "red")),
                    about="1 spends the whole budget in 30 days, 14.4 a fiftieth of it in an hour.",
                ),
                Panel(
                    "Objectives",
                    (Query(f"max by (slo) (slo:objective:ratio{{{_S}}})", "{{slo}}"),),
                    "gauge",
                    unit="percentunit",
                    low=0.98,
                    high=1,
                    about="Share of requests, or of tasks, that has to succeed.",
                ),
            ),
        ),
        (
            "Burn rates, in the windows of the alerts",
            tuple(
                lines(
                    title,
                    *(
                        Query(f"max by (slo) (slo:burn_rate:{w}{{{_S}}})", f"{{{{slo}}}} {w}")
                        for w in windows
                    ),
                    steps=((None, "green"), (limit, "red")),
                    low=0,
                    width=12,
                    many=True,
                )
                for title, limit, *windows in _WINDOWS
            ),
        ),
        (
            "What it is made of",
            (
                lines(
                    "Requests a second",
                    Query(f"sum by (slo) (slo:requests:rate5m{{{_S}}})", "{{slo}}"),
                    unit="reqps",
                    width=12,
                    about="A low rate makes single failures weigh much.",
                ),
                lines(
                    "Share that failed, 5 minutes",
                    Query(f"max by (slo) (slo:error_ratio:5m{{{_S}}})", "{{slo}}"),
                    unit="percentunit",
                    low=0,
                    width=12,
                ),
            ),
        ),
    ),
    (Variable("slo", "label_values(slo:objective:ratio, slo)", "Service"),),
)

_SENT = "sum by (integration) (alertmanager_notifications_total) > 0"

ALERTS = Board(
    "fleetmon-alerts",
    "Alerts",
    "What fires, what was sent where, and whether sending works.",
    (
        (
            "Now",
            (
                number(
                    "Firing",
                    'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)',
                    width=6,
                ),
                number(
                    "Critical",
                    'count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)',
                    width=6,
                    steps=((None, "green"), (1, "red")),
                ),
                number(
                    "Watchdog",
                    'count(ALERTS{alertname="Watchdog", alertstate="firing"})',
                    width=6,
                    about="Fires always: its absence elsewhere is the alarm.",
                ),
                number("Alerts held by Alertmanager", "sum(alertmanager_alerts)", width=6),
            ),
        ),
        (
            "What",
            (
                Panel(
                    "Firing and pending",
                    (Query("count by (alertname, severity, alertstate, agent_id, job) (ALERTS)"),),
                    "table",
                    width=24,
                ),
            ),
        ),
        (
            "Delivery",
            (
                lines(
                    "Notifications a second",
                    Query(
                        "sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval]))"
                        f" and on (integration) {_SENT}",
                        "{{integration}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Failed notifications a second",
                    Query(
                        "sum by (integration) (rate(alertmanager_notifications_failed_total[$__rate_interval]))"
                        f" and on (integration) {_SENT}",
                        "{{integration}}",
                    ),
                    unit="ops",
                    low=0,
                ),
                lines(
                    "Latency of notifications, p95",
                    Query(
                        "histogram_quantile(0.95, sum by (le, integration)"
                        " (rate(alertmanager_notification_latency_seconds_bucket[$__rate_interval])))",
                        "{{integration}}",
                    ),
                    unit="s",
                ),
            ),
        ),
    ),
)

BOARDS = (SLO, ALERTS)
