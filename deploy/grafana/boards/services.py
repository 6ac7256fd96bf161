"""Dashboards of the services beside the agents: Ryot, ΣLANG, ΣVAULT and the Neurectomy API."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines, number

_J = 'job=~"$job"'
_M = 'job=~"$job", model=~"$model"'


def _job(family: str, label: str) -> Variable:
    return Variable("job", f"label_values({family}, job)", label)


def _rate(family: str, selector: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({family}{{{selector}}}[$__rate_interval]))"


def _quantiles(family: str, selector: str, *, exemplars: bool = False) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({q}, {_rate(f'{family}_bucket', selector, 'le')})",
            name,
            exemplars=exemplars and name == "p95",
        )
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def _share(family: str, selector: str, bad: str = 'status=~"error|timed_out"') -> str:
    return f"{_rate(family, f'{selector}, {bad}')} / {_rate(family, selector)}"


_MODEL = Variable(
    "model", 'label_values(ryot_inference_requests_total{job=~"$job"}, model)', "Model"
)

RYOT = Board(
    "fleetmon-ryot",
    "Ryot / Serving",
    "Inference as its callers see it: rate, errors, duration, tokens.",
    (
        (
            "Requests",
            (
                lines(
                    "Requests a second",
                    Query(_rate("ryot_inference_requests_total", _M, "status"), "{{status}}"),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Share that failed",
                    Query(_share("ryot_inference_requests_total", _M), "failed"),
                    unit="percentunit",
                    low=0,
                    steps=((None, "green"), (0.05, "red")),
                ),
                lines(
                    "Duration",
                    *_quantiles("ryot_inference_duration_seconds", _M, exemplars=True),
                    unit="s",
                ),
            ),
        ),
        (
            "By model",
            (
                lines(
                    "Tokens a second",
                    Query(_rate("ryot_tokens_generated_total", _M, "model"), "{{model}}"),
                ),
                lines(
                    "p95 by model",
                    Query(
                        "histogram_quantile(0.95, "
                        + _rate("ryot_inference_duration_seconds_bucket", _M, "le, model")
                        + ")",
                        "{{model}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Requests a second",
                    Query(_rate("ryot_inference_requests_total", _M, "model"), "{{model}}"),
                    unit="reqps",
                ),
            ),
        ),
    ),
    (_job("ryot_inference_requests_total", "Service"), _MODEL),
)

RYOT_LOAD = Board(
    "fleetmon-ryot-load",
    "Ryot / Saturation",
    "How full the service is: batches, loading of models, memory of the GPUs.",
    (
        (
            "Batches and models",
            (
                lines(
                    "Batch size",
                    *_quantiles("ryot_batch_size", _M),
                    about="Small batches under load: requests do not wait for each other.",
                ),
                lines(
                    "Mean batch",
                    Query(
                        f"{_rate('ryot_batch_size_sum', _M, 'model')}"
                        f" / {_rate('ryot_batch_size_count', _M, 'model')}",
                        "{{model}}",
                    ),
                ),
                Panel(
                    "Loading of models",
                    (
                        Query(
                            f"max by (model) (ryot_model_loading_duration_seconds{{{_M}}})",
                            "{{model}}",
                        ),
                    ),
                    "gauge",
                    unit="s",
                ),
            ),
        ),
        (
            "Busy",
            (
                lines(
                    "Requests at once",
                    Query(
                        _rate("ryot_inference_duration_seconds_sum", _M, "model"),
                        "{{model}}",
                    ),
                    about="Seconds of inference in each second (Little's law).",
                    width=12,
                ),
                lines(
                    "Memory of the GPUs",
                    Query(f"max by (gpu) (ryot_gpu_memory_usage_bytes{{{_J}}})", "GPU {{gpu}}"),
                    unit="bytes",
                    about="Absent where there is no GPU.",
                    width=12,
                ),
            ),
        ),
    ),
    (_job("ryot_inference_requests_total", "Service"), _MODEL),
)

SIGMALANG = Board(
    "fleetmon-sigmalang",
    "ΣLANG / Compression",
    "Does compression pay, how long does it take, and does it fail?",
    (
        (
            "Requests",
            (
                lines(
                    "Compressions a second",
                    Query(
                        _rate("sigmalang_compression_requests_total", _J, "status"), "{{status}}"
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Share that failed",
                    Query(_share("sigmalang_compression_requests_total", _J), "failed"),
                    unit="percentunit",
                    low=0,
                    steps=((None, "green"), (0.05, "red")),
                ),
                lines(
                    "Duration",
                    *_quantiles("sigmalang_compression_duration_seconds", _J),
                    unit="s",
                ),
            ),
        ),
        (
            "Gain",
            (
                lines(
                    "Ratio",
                    *_quantiles("sigmalang_compression_ratio", _J),
                    about="Original size divided by compressed size; below 1 it grew.",
                    steps=((None, "red"), (1, "green")),
                ),
                lines(
                    "Bytes a second",
                    Query(_rate("sigmalang_original_size_bytes_sum", _J), "original"),
                    Query(_rate("sigmalang_compressed_size_bytes_sum", _J), "compressed"),
                    unit="Bps",
                ),
                lines(
                    "Decompressions a second",
                    Query(
                        _rate("sigmalang_decompression_requests_total", _J, "status"),
                        "{{status}}",
                    ),
                    unit="reqps",
                ),
            ),
        ),
        (
            "Saved",
            (
                number(
                    "Saved since start",
                    f"sum(sigmalang_original_size_bytes_sum{{{_J}}})"
                    f" - sum(sigmalang_compressed_size_bytes_sum{{{_J}}})",
                    unit="bytes",
                    width=8,
                ),
                number(
                    "Overall ratio",
                    f"sum(sigmalang_original_size_bytes_sum{{{_J}}})"
                    f" / sum(sigmalang_compressed_size_bytes_sum{{{_J}}})",
                    width=8,
                ),
            ),
        ),
    ),
    (_job("sigmalang_compression_requests_total", "Service"),),
)

SIGMAVAULT = Board(
    "fleetmon-sigmavault",
    "ΣVAULT / Operations",
    "Stores, retrieves and deletes: rate, errors, misses and duration; encryption; snapshots.",
    (
        (
            "Operations",
            (
                lines(
                    "Operations a second",
                    Query(_rate("sigmavault_operations_total", _J, "operation"), "{{operation}}"),
                    unit="ops",
                    stacked=True,
                ),
                lines(
                    "Share that failed",
                    Query(_share("sigmavault_operations_total", _J), "failed"),
                    unit="percentunit",
                    low=0,
                    steps=((None, "green"), (0.05, "red")),
                ),
                lines(
                    "p95 by operation",
                    Query(
                        "histogram_quantile(0.95, "
                        + _rate("sigmavault_operation_duration_seconds_bucket", _J, "le, operation")
                        + ")",
                        "{{operation}}",
                    ),
                    unit="s",
                ),
            ),
        ),
        (
            "Beneath",
            (
                lines(
                    "Retrieves by status",
                    Query(
                        _rate(
                            "sigmavault_operations_total",
                            f'{_J}, operation="retrieve"',
                            "status",
                        ),
                        "{{status}}",
                    ),
                    unit="ops",
                    about="A miss is an answer, not an error.",
                ),
                lines(
                    "Encryption",
                    *_quantiles("sigmavault_encryption_duration_seconds", _J),
                    unit="s",
                ),
                lines(
                    "Snapshots",
                    Query(
                        f"sum by (operation, status) (sigmavault_snapshot_operations_total{{{_J}}})",
                        "{{operation}} {{status}}",
                    ),
                ),
            ),
        ),
    ),
    (_job("sigmavault_operations_total", "Service"),),
)

SIGMAVAULT_STORAGE = Board(
    "fleetmon-sigmavault-storage",
    "ΣVAULT / Storage",
    "How much is stored, how fast it grows, and whether the disk below has room.",
    (
        (
            "Stored",
            (
                number(
                    "Bytes", f"sum(sigmavault_storage_bytes_total{{{_J}}})", unit="bytes", width=6
                ),
                number("Objects", f"sum(sigmavault_objects_total{{{_J}}})", width=6),
                number(
                    "Mean object",
                    f"sum(sigmavault_storage_bytes_total{{{_J}}}) / sum(sigmavault_objects_total{{{_J}}})",
                    unit="bytes",
                    width=6,
                ),
                number(
                    "Growth in an hour",
                    f"sum(delta(sigmavault_storage_bytes_total{{{_J}}}[1h]))",
                    unit="bytes",
                    width=6,
                ),
            ),
        ),
        (
            "Over time",
            (
                lines(
                    "Bytes",
                    Query(f"sigmavault_storage_bytes_total{{{_J}}}", "{{instance}}"),
                    unit="bytes",
                ),
                lines("Objects", Query(f"sigmavault_objects_total{{{_J}}}", "{{instance}}")),
                lines(
                    "Disks, free",
                    Query(
                        'min by (instance, mountpoint) (node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs"}'
                        ' / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs"})',
                        "{{instance}} {{mountpoint}}",
                    ),
                    unit="percentunit",
                    low=0,
                    high=1,
                    steps=((None, "red"), (0.1, "green")),
                ),
            ),
        ),
    ),
    (_job("sigmavault_storage_bytes_total", "Service"),),
)

_HTTP = "http_server_request_duration_seconds"
_5XX = 'http_response_status_code=~"5.."'

NEURECTOMY = Board(
    "fleetmon-neurectomy",
    "Neurectomy / API",
    "Rate, errors and duration of the HTTP API in front of the services.",
    (
        (
            "Requests",
            (
                lines(
                    "Requests a second",
                    Query(
                        _rate(f"{_HTTP}_count", _J, "http_response_status_code"),
                        "{{http_response_status_code}}",
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Share that failed",
                    Query(f"{_share(f'{_HTTP}_count', _J, _5XX)} or vector(0)", "5xx"),
                    unit="percentunit",
                    low=0,
                    steps=((None, "green"), (0.05, "red")),
                ),
                lines("Duration", *_quantiles(_HTTP, _J), unit="s"),
            ),
        ),
        (
            "By route",
            (
                lines(
                    "Requests a second",
                    Query(_rate(f"{_HTTP}_count", _J, "http_route"), "{{http_route}}"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "p95",
                    Query(
                        f"histogram_quantile(0.95, {_rate(f'{_HTTP}_bucket', _J, 'le, http_route')})",
                        "{{http_route}}",
                    ),
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
    (_job(f"{_HTTP}_count", "Service"),),
)

BOARDS = (RYOT, RYOT_LOAD, SIGMALANG, SIGMAVAULT, SIGMAVAULT_STORAGE, NEURECTOMY)
