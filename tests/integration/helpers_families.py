"""Families that a demo serves, their labels and the values of these, as they are promised."""

from __future__ import annotations

# Family: type and labels, as they are promised to whoever writes a dashboard or an alert. Not
# imported from the library, so that nobody changes a name there without meeting it here.
PER_AGENT = {
    "agents_tasks_assigned_total": ("counter", {"task_type"}),
    "agents_tasks_completed_total": ("counter", {"task_type", "outcome"}),
    "agents_task_duration_seconds": ("histogram", {"task_type"}),
    "agents_utilization_ratio": ("gauge", set()),
    "agents_busy_seconds_total": ("counter", set()),
    "agents_failures_total": ("counter", {"error_type"}),
    "agents_recovery_attempts_total": ("counter", set()),
    "agents_recoveries_total": ("counter", {"outcome"}),
    "agents_restarts_total": ("counter", set()),
    "agents_health_status": ("gauge", set()),
    "agents_lifecycle": ("gauge", {"state"}),
    "agents_info": ("gauge", {"number", "tier", "field"}),
    "agents_tasks_redelivered_total": ("counter", set()),
    "agents_tasks_in_flight": ("gauge", set()),
    "agents_queue_length": ("gauge", set()),
    "agents_loop_blocked_seconds_total": ("counter", set()),
}
OF_FLEET = {
    "agents_active_total": "gauge",
    "fleetmon_build_info": "gauge",
    "fleetmon_loop_lag_seconds": "gauge",
    "fleetmon_loop_lag_max_seconds": "gauge",
    "fleetmon_loop_blocked_seconds_total": "counter",
    "fleetmon_events_total": "counter",
    "fleetmon_event_drops_total": "counter",
    "fleetmon_hook_errors_total": "counter",
    "fleetmon_late_results_total": "counter",
    "fleetmon_zombies": "gauge",
    "fleetmon_leaked_threads": "gauge",
    "fleetmon_dead_letters": "gauge",
    "fleetmon_recoveries_in_progress": "gauge",
    "fleetmon_shared_cause_open": "gauge",
    "fleetmon_log_drops_total": "counter",
    "fleetmon_span_drops_total": "counter",
}
# without samples here: the demo keeps no record unless asked to
OF_RECORD = {
    "fleetmon_recorder_up": "gauge",
    "fleetmon_recorder_commits_total": "counter",
    "fleetmon_recorder_drops_total": "counter",
    "fleetmon_recorder_errors_total": "counter",
    "fleetmon_recorder_bytes": "gauge",
}
OF_SERVICES = {
    "ryot_inference_requests_total": "counter",
    "ryot_inference_duration_seconds": "histogram",
    "ryot_tokens_generated_total": "counter",
    "ryot_first_token_duration_seconds": "histogram",
    "ryot_model_loading_duration": "gauge",
    "ryot_model_loading_duration_seconds": "gauge",
    "ryot_batch_size": "histogram",
    "sigmalang_compression_requests_total": "counter",
    "sigmalang_compression_ratio": "histogram",
    "sigmalang_compression_duration_seconds": "histogram",
    "sigmalang_original_size_bytes": "histogram",
    "sigmalang_compressed_size_bytes": "histogram",
    "sigmalang_decompression_requests_total": "counter",
    "sigmavault_operations_total": "counter",
    "sigmavault_operation_duration_seconds": "histogram",
    "sigmavault_storage_bytes_total": "gauge",
    "sigmavault_objects_total": "gauge",
    "sigmavault_encryption_duration_seconds": "histogram",
    "sigmavault_snapshot_operations_total": "counter",
    "sigmavault_fuse_operation_duration_seconds": "histogram",
}
TYPES = {
    **{name: kind for name, (kind, _) in PER_AGENT.items()},
    **OF_FLEET,
    **OF_RECORD,
    **OF_SERVICES,
}
ERROR_TYPES = {
    *("exception", "timeout", "hang", "crash", "process_died", "start_failed", "probe_failed"),
    *("throttled", "permanent", "returned_failure", "other"),
}
OUTCOMES = {"succeeded", "failed", "cancelled", "timed_out", "dead_lettered"}
BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, float("inf")]
