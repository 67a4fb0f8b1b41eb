"""Callbacks: whoever asked for it is told that a run ended or paused. `docs/callbacks.md` is what receivers go by."""

from __future__ import annotations

from headrace.webhooks.delivery import Courier
from headrace.webhooks.delivery_policy import BACK_OFF, Pace
from headrace.webhooks.payload import signature

__all__ = ["BACK_OFF", "Courier", "Pace", "signature"]
