"""Callbacks: signed POST requests when a run ends or pauses. `docs/callbacks.md` is for their receivers."""

from __future__ import annotations

from headrace.webhooks.delivery import WebhookSender
from headrace.webhooks.delivery_policy import BACK_OFF, DeliveryPolicy
from headrace.webhooks.payload import signature

__all__ = ["BACK_OFF", "DeliveryPolicy", "WebhookSender", "signature"]
