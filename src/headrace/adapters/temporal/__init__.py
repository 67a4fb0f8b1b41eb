"""Temporal as the engine of a fleet (the extra `temporal`); see docs/temporal.md."""

from headrace.adapters.temporal.connection import TemporalOptions
from headrace.adapters.temporal.dispatch import TemporalDispatch
from headrace.adapters.temporal.timers import TemporalTimers

__all__ = ["TemporalDispatch", "TemporalOptions", "TemporalTimers"]
