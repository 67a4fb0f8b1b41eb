"""Drives one run: takes the steps that the kernel plans, runs the nodes, and records the events.

driver     the loop: plan, start nodes, record how they ended
attempts   one attempt of a node
outbox     records and streamed text on their way to the journal and to followers
"""

from headrace.engine.driver import Driver
from headrace.engine.environment import EngineEnvironment
from headrace.engine.outbox import FLUSH_SECONDS

__all__ = ["FLUSH_SECONDS", "Driver", "EngineEnvironment"]
