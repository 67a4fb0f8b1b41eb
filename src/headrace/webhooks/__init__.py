"""Callbacks: whoever asked for it is told that a run ended or paused. `docs/callbacks.md` is what receivers go by."""

from __future__ import annotations

from headrace.webhooks.delivery import WebhookSender
from headrace.webhooks.delivery_policy import BACK_OFF, DeliveryPolicy
from headrace.webhooks.payload import signature

__all__ = ["BACK_OFF", "DeliveryPolicy", "WebhookSender", "signature"]
