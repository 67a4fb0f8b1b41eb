"""Batches: many runs of one version, submitted together, started a few at a time, returned in order."""

from headrace.batches.jsonl import Accept, Line, Spool, read_lines
from headrace.batches.progress import BatchProgress, LineResult, Progress, run_of, source_of
from headrace.batches.runner import BatchRunner

__all__ = [
    "Accept",
    "BatchProgress",
    "BatchRunner",
    "Line",
    "LineResult",
    "Progress",
    "Spool",
    "read_lines",
    "run_of",
    "source_of",
]
