"""Batches: many runs of one version, asked for at once, begun a few at a time, told in order."""

from headrace.batches.jsonl import Accept, Line, Spool, read_lines
from headrace.batches.progress import LineResult, Lines, Progress, run_of, source_of
from headrace.batches.runner import Dispatcher

__all__ = [
    "Accept",
    "Dispatcher",
    "Line",
    "LineResult",
    "Lines",
    "Progress",
    "Spool",
    "read_lines",
    "run_of",
    "source_of",
]
