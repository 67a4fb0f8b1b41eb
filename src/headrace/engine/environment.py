"""The environment of a driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field

from headrace.frozen import frozen
from headrace.ids import new_id
from headrace.ports import Bus, Journal
from headrace.ports.services import Limits, Resources


@frozen
class EngineEnvironment:
    """The journal and the bus for its records, and what its nodes may use."""

    journal: Journal
    bus: Bus
    resources: Resources
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time  # seconds since the epoch
    new_id: Callable[[], str] = new_id
