"""Triggers of plugins: which events a webhook request is about, and what each event gives a workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.credentials import Credentials
from headrace.adapters.plugins.declarations import Provider
from headrace.adapters.plugins.fields import items_of, mapping_of
from headrace.adapters.plugins.identifiers import PluginId, plugin_path
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.runtime import Plugins
from headrace.errors import HeadraceError
from headrace.ids import new_id
from headrace.ports.services import ToolContext
from headrace.values import Value


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is kept of a subscription: the URL of its webhook, what it was made with, and its properties, such as the
    secret that requests are signed with. `expires_at` is in seconds since the epoch; -1: never."""

    endpoint: str
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value])
    properties: Mapping[str, Value] = field(default_factory=dict[str, Value])
    expires_at: int = -1

    def body(self) -> dict[str, Value]:
        return {
            "endpoint": self.endpoint,
            "parameters": self.parameters,
            "properties": self.properties,
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The events that a request is about. `response` is a raw HTTP response for the sender; `payload` is passed on to
    each event."""

    events: Sequence[str]
    response: bytes
    payload: Mapping[str, Value]
    user: str = ""


class PluginTriggers:
    """Calls the triggers of plugins. `provider` is `author/plugin/provider`, `request` a raw HTTP request (see
    `endpoints.raw_request`), which the plugin verifies. HeadraceError if the plugin or its credentials are missing,
    PluginError if it fails, such as `TriggerValidationError` for a signature that is not valid."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    async def dispatch(self, provider: str, subscription: Subscription, request: bytes) -> Dispatch:
        """Which events a request is about."""
        answer = await self._call(provider, "dispatch_trigger_event", subscription, request, {})
        events: Any = items_of(answer.get("events"))
        try:
            response = bytes.fromhex(answer.get("response") or "")
        except (TypeError, ValueError):
            raise PluginError("The plugin sent a response that is not in hexadecimal form.") from None
        return Dispatch(
            [event for event in events if isinstance(event, str)],
            response,
            mapping_of(answer.get("payload")),
            str(answer.get("user_id") or ""),
        )

    async def variables(
        self,
        provider: str,
        event: str,
        subscription: Subscription,
        request: bytes,
        parameters: Mapping[str, Value],
        payload: Mapping[str, Value],
    ) -> Mapping[str, Value] | None:
        """The variables of an event; None if the plugin ignores this one, because of its parameters."""
        fields: dict[str, Value] = {"event": event, "parameters": parameters, "payload": payload}
        answer = await self._call(provider, "invoke_trigger_event", subscription, request, fields)
        return None if answer.get("cancelled") else mapping_of(answer.get("variables"))

    async def _call(
        self, provider: str, action: str, subscription: Subscription, request: bytes, fields: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        plugin, declared = self._located(provider)
        credentials = self._credentials(plugin, declared)
        data: dict[str, Value] = {
            "type": "trigger",
            "action": action,
            "user_id": "",
            "provider": declared.name,
            "credentials": credentials.values,
            "credential_type": credentials.type,
            "subscription": subscription.body(),
            "raw_http_request": request.hex(),
            **fields,
        }
        caller = Caller(ToolContext("", "", "", new_id()))
        async with aclosing(self._plugins.host.call(plugin, data, caller, credentials.secrets)) as answers:
            async for answer in answers:
                return answer
        raise PluginError("The plugin sent no answer.")

    def _located(self, provider: str) -> tuple[InstalledPlugin, Provider]:
        author, name, own = plugin_path(provider)
        plugin = self._plugins.installed.nearest(wanted := PluginId(author, name))
        if plugin is None:
            raise HeadraceError(f"The plugin {wanted} is needed: run `headrace plugins add {wanted}`.")
        declared = plugin.declarations.triggers.get(own)
        if declared is None:
            raise HeadraceError(f"The plugin {plugin.id.plugin} has no trigger '{own}'.")
        return plugin, declared

    def _credentials(self, plugin: InstalledPlugin, provider: Provider) -> Credentials:
        of = self._plugins.credentials.of
        credentials = of(plugin.id.plugin, provider.name, provider.credentials, provider.oauth)
        if credentials.missing is not None:
            raise HeadraceError(credentials.missing)
        return credentials
