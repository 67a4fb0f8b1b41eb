"""Callbacks: whoever asked for it is told that a run ended or paused. `docs/callbacks.md` is what receivers go by."""

from __future__ import annotations

from headrace.courier.delivery import Courier
from headrace.courier.message import signature
from headrace.courier.pace import BACK_OFF, Pace

__all__ = ["BACK_OFF", "Courier", "Pace", "signature"]
