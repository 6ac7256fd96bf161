"""Dashboards of the services beside the agents: Ryot, ΣLANG, ΣVAULT and the Neurectomy API."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines, number

_J = 'job=~"$job"'
_M = 'job=~"$job", model=~"$model"'
_FAILED = 'status=~"error|timed_out"'
_COUNTED = 'status!="cancelled"'


def _job(family: str, label: str) -> Variable:
    return Variable("job", f"label_values({family}, job)", label)


def _rate(family: str, selector: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({family}{{{selector}}}[$__rate_interval]))"


def _quantile(q: float, family: str, selector: str, by: str = "") -> str:
    buckets = _rate(f"{family}_bucket", selector, f"le, {by}" if by else "le")
    return f"histogram_quantile({q}, {buckets})"


def _quantiles(family: str, selector: str, *, exemplars: bool = False) -> tuple[Query, ...]:
    return tuple(
        Query(
            _quantile(q, family, selector),
            name,
            exemplars=exemplars and name == "p95",
        )
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def _rates(title: str, family: str, selector: str, by: str, unit: str = "reqps") -> Panel:
    """Rates a second by one label; a value that never came is left out."""
    query = (
        f"{_rate(family, selector, by)} and on ({by}) sum by ({by}) ({family}{{{selector}}}) > 0"
    )
    return lines(title, Query(query, f"{{{{{by}}}}}"), unit=unit, stacked=True)


def _failed(family: str, selector: str, bad: str = _FAILED, counted: str = _COUNTED) -> Panel:
    """The share that failed, as the alert has it; 0 where nothing of the kind ever did."""
    every = _rate(family, f"{selector}, {counted}")
    return lines(
        "Share that failed",
        Query(f"({_rate(family, f'{selector}, {bad}')} or {every} * 0) / {every}", "failed"),
        unit="percentunit",
        low=0,
        steps=((None, "green"), (0.05, "red")),
    )


_MODEL = Variable(
    "model", 'label_values(ryot_inference_requests_total{job=~"$job"}, model)', "Model"
)
_REQUESTS = "ryot_inference_requests_total"
_INFERENCE = "ryot_inference_duration_seconds"
_SUCCEEDED = f'{_M}, status="success"'

RYOT = Board(
    "fleetmon-ryot",
    "Ryot / Serving",
    "Inference as its callers see it: rate, errors, duration, tokens.",
    (
        (
            "Requests",
            (
                _rates("Requests a second", _REQUESTS, _M, "status"),
                _failed(_REQUESTS, _M),
                lines("Duration", *_quantiles(_INFERENCE, _M, exemplars=True), unit="s"),
            ),
        ),
        (
            "Tokens",
            (
                lines(
                    "Tokens a second",
                    Query(_rate("ryot_tokens_generated_total", _M, "model"), "{{model}}"),
                    about="Generated ones.",
                ),
                lines(
                    "Until the first token",
                    *_quantiles("ryot_first_token_duration_seconds", _M),
                    unit="s",
                    about="Of streams.",
                ),
                lines(
                    "Tokens of a request, mean",
                    Query(
                        f"{_rate('ryot_tokens_generated_total', _M, 'model')}"
                        f" / {_rate(_REQUESTS, _SUCCEEDED, 'model')}",
                        "{{model}}",
                    ),
                ),
            ),
        ),
        (
            "By model",
            (
                lines(
                    "Requests a second",
                    Query(_rate(_REQUESTS, _M, "model"), "{{model}}"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "p95",
                    Query(_quantile(0.95, _INFERENCE, _M, "model"), "{{model}}"),
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
    (_job(_REQUESTS, "Service"), _MODEL),
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
                    "Requests in a batch, mean",
                    Query(
                        f"{_rate('ryot_batch_size_sum', _M, 'model')}"
                        f" / {_rate('ryot_batch_size_count', _M, 'model')}",
                        "{{model}}",
                    ),
                    low=0,
                    about="Small batches under load: requests do not wait for each other.",
                ),
                lines(
                    "Batches a second",
                    Query(_rate("ryot_batch_size_count", _M, "model"), "{{model}}"),
                    unit="ops",
                    low=0,
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
                    about="The last time that each was loaded.",
                ),
            ),
        ),
        (
            "Busy",
            (
                lines(
                    "Requests at once",
                    Query(_rate(f"{_INFERENCE}_sum", _M, "model"), "{{model}}"),
                    about="Seconds of inference in each second (Little's law).",
                    low=0,
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
    (_job(_REQUESTS, "Service"), _MODEL),
)

_COMPRESSIONS = "sigmalang_compression_requests_total"
_IN = "sigmalang_original_size_bytes_sum"
_OUT = "sigmalang_compressed_size_bytes_sum"

SIGMALANG = Board(
    "fleetmon-sigmalang",
    "ΣLANG / Compression",
    "Does compression pay, how long does it take, and does it fail?",
    (
        (
            "Requests",
            (
                _rates("Compressions a second", _COMPRESSIONS, _J, "status"),
                _failed(_COMPRESSIONS, _J),
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
                    low=0,
                    steps=((None, "red"), (1, "green")),
                ),
                lines(
                    "Bytes a second",
                    Query(_rate(_IN, _J), "original"),
                    Query(_rate(_OUT, _J), "compressed"),
                    unit="Bps",
                ),
                _rates(
                    "Decompressions a second",
                    "sigmalang_decompression_requests_total",
                    _J,
                    "status",
                ),
            ),
        ),
        (
            "Since the start",
            (
                number(
                    "Saved",
                    f"sum({_IN}{{{_J}}}) - sum({_OUT}{{{_J}}})",
                    unit="bytes",
                    width=12,
                ),
                number(
                    "Ratio of all",
                    f"sum({_IN}{{{_J}}}) / sum({_OUT}{{{_J}}})",
                    width=12,
                    steps=((None, "red"), (1, "green")),
                ),
            ),
        ),
    ),
    (_job(_COMPRESSIONS, "Service"),),
)

_OPERATIONS = "sigmavault_operations_total"
_RETRIEVES = f'{_J}, operation="retrieve"'
_MISS = 'status="miss"'
_FUSE = "sigmavault_fuse_operation_duration_seconds"
_CALLED = f"sum by (operation) (rate({_FUSE}_count{{{_J}}}[$__rate_interval])) > 0"

SIGMAVAULT = Board(
    "fleetmon-sigmavault",
    "ΣVAULT / Operations",
    "Stores, retrieves and deletes: rate, errors, misses and duration; encryption; the filesystem.",
    (
        (
            "Operations",
            (
                _rates("Operations a second", _OPERATIONS, _J, "operation", "ops"),
                _failed(_OPERATIONS, _J),
                lines(
                    "p95 by operation",
                    Query(
                        _quantile(0.95, "sigmavault_operation_duration_seconds", _J, "operation"),
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
                    "Retrieves that missed",
                    Query(
                        f"{_rate(_OPERATIONS, f'{_RETRIEVES}, {_MISS}')}"
                        f" / {_rate(_OPERATIONS, _RETRIEVES)}",
                        "missed",
                    ),
                    unit="percentunit",
                    low=0,
                    about="A miss is an answer, not an error.",
                ),
                lines(
                    "Encryption",
                    *_quantiles("sigmavault_encryption_duration_seconds", _J),
                    unit="s",
                ),
                lines(
                    "Snapshots since the start",
                    Query(
                        f"sum by (operation, status) (sigmavault_snapshot_operations_total{{{_J}}}) > 0",
                        "{{operation}} {{status}}",
                    ),
                ),
            ),
        ),
        (
            "The filesystem",
            (
                lines(
                    "Calls a second",
                    Query(_CALLED, "{{operation}}"),
                    unit="ops",
                    width=12,
                    many=True,
                ),
                lines(
                    "p95 by call",
                    Query(
                        f"{_quantile(0.95, _FUSE, _J, 'operation')} and on (operation) {_CALLED}",
                        "{{operation}}",
                    ),
                    unit="s",
                    width=12,
                    many=True,
                ),
            ),
        ),
    ),
    (_job(_OPERATIONS, "Service"),),
)

_BYTES = f"sigmavault_storage_bytes_total{{{_J}}}"
_OBJECTS = f"sigmavault_objects_total{{{_J}}}"
_DISK = 'fstype!~"tmpfs|ramfs|fuse.*"'

SIGMAVAULT_STORAGE = Board(
    "fleetmon-sigmavault-storage",
    "ΣVAULT / Storage",
    "How much is stored, how fast it grows, and whether the disk below has room.",
    (
        (
            "Stored",
            (
                number("Bytes", f"sum({_BYTES})", unit="bytes", width=6),
                number("Objects", f"sum({_OBJECTS})", width=6),
                number("Mean object", f"sum({_BYTES}) / sum({_OBJECTS})", unit="bytes", width=6),
                number("Growth in an hour", f"sum(delta({_BYTES}[1h]))", unit="bytes", width=6),
            ),
        ),
        (
            "Over time",
            (
                lines("Bytes", Query(_BYTES, "{{job}} {{instance}}"), unit="bytes", low=0),
                lines("Objects", Query(_OBJECTS, "{{job}} {{instance}}"), low=0),
                lines(
                    "Disks, free",
                    Query(
                        f"min by (instance, mountpoint) (node_filesystem_avail_bytes{{{_DISK}}}"
                        f" / node_filesystem_size_bytes{{{_DISK}}})",
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
_STATUS = "http_response_status_code"

NEURECTOMY = Board(
    "fleetmon-neurectomy",
    "Neurectomy / API",
    "Rate, errors and duration of the HTTP API in front of the services.",
    (
        (
            "Requests",
            (
                _rates("Requests a second", f"{_HTTP}_count", _J, _STATUS),
                _failed(f"{_HTTP}_count", _J, f'{_STATUS}=~"5.."', f'{_STATUS}!=""'),
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
                    Query(_quantile(0.95, _HTTP, _J, "http_route"), "{{http_route}}"),
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
    (_job(f"{_HTTP}_count", "Service"),),
)

BOARDS = (RYOT, RYOT_LOAD, SIGMALANG, SIGMAVAULT, SIGMAVAULT_STORAGE, NEURECTOMY)
