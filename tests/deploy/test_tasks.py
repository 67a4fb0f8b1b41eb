"""Processes and threads of code nodes have room in the unit and in the container, and an end."""

import re
from pathlib import Path

import yaml

from headrace.adapters.sandbox.slots import Slots
from headrace.adapters.sandbox.workers import KEPT
from headrace.adapters.sandbox.zygote import THREADS

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_unit_and_the_container_bound_what_code_may_start() -> None:
    needed = Slots(16)._most * THREADS + 2 * KEPT
    unit = re.search(r"^TasksMax=(\d+)$", (DEPLOY / "headrace.service").read_text(), re.MULTILINE)
    assert unit is not None
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for most in (int(unit[1]), compose["services"]["headrace"]["pids_limit"]):
        assert needed < most <= 4 * needed
