"""Dashboards of the platform: logs, the tracing pipeline, Prometheus itself."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines

_STREAM = '{namespace=~"$namespace", app=~"$app"}'
# who says it, and what; of a line of another program all of it
_SAID = "{{if .message}}{{with .agent_id}}{{.}} {{end}}{{.message}}{{else}}{{__line__}}{{end}}"

LOGS = Board(
    "fleetmon-logs",
    "Logs",
    "The fleet's JSON lines. The details of a line lead to its trace, a span leads back here.",
    (
        (
            "Rate",
            (
                lines(
                    "Lines a second, by level",
                    Query(
                        f"sum by (level) (rate({_STREAM} [$__auto]))",
                        "{{level}}",
                        loki=True,
                    ),
                    unit="cps",
                    stacked=True,
                    width=12,
                ),
                lines(
                    "Warnings and errors a second, by agent",
                    Query(
                        f"sum by (agent_id) (rate({_STREAM} | agent_id!=`` | level=~`warning|error` [$__auto]))",
                        "{{agent_id}}",
                        loki=True,
                    ),
                    unit="cps",
                    width=12,
                    many=True,
                ),
            ),
        ),
        (
            "Lines",
            (
                Panel(
                    "Lines",
                    (Query(f"{_STREAM} | json | line_format `{_SAID}`"),),
                    "logs",
                    width=24,
                ),
            ),
        ),
    ),
    (
        Variable("namespace", "namespace", "Namespace", loki=True),
        Variable("app", "app", "App", loki=True),
    ),
    with_loki=True,
)

_SPANS = "traces_span_metrics_calls_total"
_FAILED = 'status_code="STATUS_CODE_ERROR"'

TRACING = Board(
    "fleetmon-tracing",
    "Tracing pipeline",
    "From the agents through the Collector to Jaeger: is anything lost on the way?",
    (
        (
            "Collector, and Jaeger that is built on one",
            (
                lines(
                    "Spans in, a second",
                    Query(
                        "sum by (instance, transport) (rate(otelcol_receiver_accepted_spans_total[$__rate_interval]))",
                        "{{instance}} accepted {{transport}}",
                    ),
                    Query(
                        "sum by (instance, transport) (rate(otelcol_receiver_refused_spans_total[$__rate_interval]))",
                        "{{instance}} refused {{transport}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Spans out, a second",
                    Query(
                        "sum by (instance, exporter) (rate(otelcol_exporter_sent_spans_total[$__rate_interval]))",
                        "{{instance}} {{exporter}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Queues, how full",
                    Query(
                        "max by (instance, exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)",
                        "{{instance}} {{exporter}}",
                    ),
                    unit="percentunit",
                    low=0,
                    about="A queue grows while Jaeger is away; what does not fit is lost.",
                ),
            ),
        ),
        (
            "Spans as metrics",
            (
                lines(
                    "Spans a second",
                    Query(
                        "sum by (service_name) (rate(traces_span_metrics_calls_total[$__rate_interval]))",
                        "{{service_name}}",
                    ),
                    unit="ops",
                    about="Of the sample that was kept, not of all tasks.",
                ),
                lines(
                    "Share with an error",
                    Query(
                        f"sum by (service_name) (rate({_SPANS}{{{_FAILED}}}[$__rate_interval]))"
                        f" / sum by (service_name) (rate({_SPANS}[$__rate_interval]))",
                        "{{service_name}}",
                    ),
                    unit="percentunit",
                    low=0,
                ),
                lines(
                    "p95",
                    Query(
                        "histogram_quantile(0.95, sum by (le, service_name)"
                        " (rate(traces_span_metrics_duration_seconds_bucket[$__rate_interval])))",
                        "{{service_name}}",
                    ),
                    unit="s",
                ),
                Panel(
                    "Slowest agents, p95",
                    (
                        Query(
                            "topk(10, histogram_quantile(0.95, sum by (le, gen_ai_agent_name)"
                            ' (rate(traces_span_metrics_duration_seconds_bucket{gen_ai_agent_name!=""}[5m]))))',
                            "{{gen_ai_agent_name}}",
                        ),
                    ),
                    "gauge",
                    unit="s",
                    width=24,
                ),
            ),
        ),
        (
            "Itself",
            (
                lines(
                    "Memory",
                    Query("max by (instance) (otelcol_process_memory_rss_bytes)", "{{instance}}"),
                    unit="bytes",
                    width=12,
                ),
                lines(
                    "CPU",
                    Query(
                        "sum by (instance) (rate(otelcol_process_cpu_seconds_total[$__rate_interval]))",
                        "{{instance}}",
                    ),
                    unit="percentunit",
                    width=12,
                ),
            ),
        ),
    ),
)

PROMETHEUS = Board(
    "fleetmon-prometheus",
    "Prometheus itself",
    "Are all targets scraped, are rules in time, and how large does the store grow?",
    (
        (
            "Scrapes",
            (
                Panel(
                    "Targets",
                    (Query("min by (job, instance) (up)", "{{job}} {{instance}}"),),
                    "timeline",
                    words={"0": ("down", "red"), "1": ("up", "green")},
                    width=12,
                    height=8,
                ),
                lines(
                    "Duration of scrapes",
                    Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
                    unit="s",
                    width=6,
                ),
                lines(
                    "Samples in a scrape",
                    Query("sum by (job) (scrape_samples_scraped)", "{{job}}"),
                    width=6,
                ),
            ),
        ),
        (
            "Store",
            (
                lines("Series in memory", Query("prometheus_tsdb_head_series", "series")),
                lines(
                    "Samples a second",
                    Query(
                        "sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))",
                        "samples",
                    ),
                ),
                lines(
                    "Disk",
                    Query("prometheus_tsdb_storage_blocks_bytes", "blocks"),
                    Query("prometheus_tsdb_wal_storage_size_bytes", "write-ahead log"),
                    unit="bytes",
                ),
            ),
        ),
        (
            "Rules",
            (
                lines(
                    "Evaluation, share of its interval",
                    Query(
                        "max by (group) (label_replace(prometheus_rule_group_last_duration_seconds"
                        ' / prometheus_rule_group_interval_seconds, "group", "$1", "rule_group", ".*;(.*)"))',
                        "{{group}}",
                    ),
                    unit="percentunit",
                ),
                lines(
                    "Failed evaluations and lost alerts",
                    Query(
                        "sum(rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))",
                        "evaluations",
                    ),
                    Query(
                        "sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))",
                        "alerts",
                    ),
                    unit="ops",
                    low=0,
                ),
                lines(
                    "Memory",
                    Query('process_resident_memory_bytes{job="prometheus"}', "{{instance}}"),
                    unit="bytes",
                ),
            ),
        ),
    ),
)

BOARDS = (LOGS, TRACING, PROMETHEUS)
