"""Drives one run: asks the kernel what comes next, runs the nodes, writes down what happened.

driver   the loop: plan, start, take down how it ended
outbox   records on their way to the journal, and from there to followers
texts    streamed text on its way to both
"""

from headrace.engine.driver import Driver
from headrace.engine.environment import EngineEnvironment
from headrace.engine.outbox import FLUSH_SECONDS

__all__ = ["FLUSH_SECONDS", "Driver", "EngineEnvironment"]
