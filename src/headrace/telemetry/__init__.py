"""To see what happens: logs, metrics and traces.

Runs and nodes are told from the same records as everything else (`following`): counted in `metrics`, and told as
OpenTelemetry spans in `spans`. `web` hears of every request, `logs` writes lines, `scrubbing` keeps secrets out of
them. None of it can fail a run, or make one wait.
"""
