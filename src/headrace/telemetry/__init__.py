"""Observability: logs, metrics and traces.

Runs and nodes are tracked by their records, as in every other view (`run_tracker`); `metrics` counts them and requests,
and `spans` sends them as OpenTelemetry spans. `logs` formats log lines, `scrubbing` removes secrets from them. None of
it can fail a run or delay it."""
