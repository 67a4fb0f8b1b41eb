"""Triggers: runs that webhooks, schedules and events of plugins start. `docs/triggers.md` has the rules."""

from __future__ import annotations

from headrace.triggers.plugin_events import PluginEvents
from headrace.triggers.served import ServedTrigger, TriggerService
from headrace.triggers.signatures import webhook_secrets
from headrace.triggers.subscriptions import SubscriptionService
from headrace.triggers.timer import ScheduleTimer
from headrace.triggers.webhooks import Upload, WebhookCall, Webhooks

__all__ = [
    "PluginEvents",
    "ScheduleTimer",
    "ServedTrigger",
    "SubscriptionService",
    "TriggerService",
    "Upload",
    "WebhookCall",
    "Webhooks",
    "webhook_secrets",
]
