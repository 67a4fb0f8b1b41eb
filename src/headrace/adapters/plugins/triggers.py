"""Triggers of plugins: subscriptions to services, which events a webhook request is about, and what each event gives a
workflow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.credentials import Credentials
from headrace.adapters.plugins.declarations import Provider
from headrace.adapters.plugins.fields import items_of, mapping_of
from headrace.adapters.plugins.identifiers import PluginId, plugin_path
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.process import HOST_ERROR, PluginError
from headrace.adapters.plugins.runtime import Plugins
from headrace.errors import HeadraceError, InvalidParam, RequestError
from headrace.frozen import frozen
from headrace.ids import new_id
from headrace.ports import PluginSubscription
from headrace.ports.services import ToolContext
from headrace.values import DEEPEST_INPUT, Value, nests_deeper

_SECONDS = 120.0  # for a service to subscribe, to end or to renew a subscription
_PROVIDER = re.compile(r"[^/\s]+/[^/\s]+/[^/\s]+")
_SECRET_NAME = re.compile(r"secret|token|key|password", re.IGNORECASE)
_NEED_CREDENTIALS = frozenset({"subscribe_trigger", "unsubscribe_trigger", "refresh_trigger"})
_SHORTEST_HOOK = 16  # characters; a shorter one, of a file, may be an ordinary word
_EMPTY: tuple[Value, ...] = (None, "", [], {})


@frozen
class Dispatch:
    """The events that a request is about. `response` is a raw HTTP response for the sender; `payload` is passed on to
    each event."""

    events: Sequence[str]
    response: bytes
    payload: Mapping[str, Value]
    user: str = ""


class PluginTriggers:
    """Calls the triggers of plugins; implements TriggerPlugins. `provider` is `author/plugin/provider`, `credentials`
    the name of a set, and `request` a raw HTTP request (see `endpoints.raw_request`), which the plugin verifies.
    HeadraceError if the plugin or its credentials are missing, PluginError if it fails, such as
    `TriggerValidationError` for a signature that is not valid."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    async def dispatch(
        self, provider: str, subscription: PluginSubscription, request: bytes, credentials: str = ""
    ) -> Dispatch:
        """Which events a request is about."""
        fields: dict[str, Value] = {"raw_http_request": request.hex()}
        answer = await self._call(provider, "dispatch_trigger_event", credentials, subscription, fields)
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
        subscription: PluginSubscription,
        request: bytes,
        parameters: Mapping[str, Value],
        payload: Mapping[str, Value],
        credentials: str = "",
    ) -> Mapping[str, Value] | None:
        """The variables of an event; None if the plugin ignores this one, because of its parameters."""
        fields: dict[str, Value] = {
            "event": event,
            "parameters": parameters,
            "payload": payload,
            "raw_http_request": request.hex(),
        }
        answer = await self._call(provider, "invoke_trigger_event", credentials, subscription, fields)
        return None if answer.get("cancelled") else mapping_of(answer.get("variables"))

    # ------------------------------------------------------------------------------------------------ subscriptions

    def check(self, provider: str, parameters: Mapping[str, Value], credentials: str) -> Mapping[str, Value]:
        """See `TriggerPlugins.check`."""
        plugin, provider_declaration = self._checked(provider)
        if not provider_declaration.can_subscribe:
            message = f"{provider} cannot subscribe by itself; enter the URL at the service, and give its properties"
            raise InvalidParam(f"properties: Field required: {message}")
        if credentials and not self._plugins.credentials.has_set(
            plugin.id.plugin, provider_declaration.name, credentials
        ):
            raise InvalidParam(f"credentials: {credentials[:50]!r} is not a set of {provider_declaration.name}")
        if (missing := self._credentials(plugin, provider_declaration, credentials).missing) is not None:
            login = " It has an OAuth login: give what that results in." if provider_declaration.oauth else ""
            raise InvalidParam(f"credentials: {missing}{login}")
        parameters_by_name = {parameter.name: parameter for parameter in provider_declaration.subscription_parameters}
        _check_names("parameters", parameters, parameters_by_name)
        complete = dict(parameters)
        for name, parameter in parameters_by_name.items():
            if complete.get(name) in _EMPTY and parameter.default not in _EMPTY:
                complete[name] = parameter.default
        _check_required(
            "parameters", complete, [parameter.name for parameter in parameters_by_name.values() if parameter.required]
        )
        return complete

    def check_manual(self, provider: str, properties: Mapping[str, Value]) -> None:
        """See `TriggerPlugins.check_manual`."""
        _, provider_declaration = self._checked(provider)
        fields_by_name = {field.name: field for field in provider_declaration.subscription}
        _check_names("properties", properties, fields_by_name)
        required_names = [field.name for field in fields_by_name.values() if field.required and field.default in _EMPTY]
        _check_required("properties", properties, required_names)

    async def subscribe(
        self, provider: str, endpoint: str, parameters: Mapping[str, Value], credentials: str
    ) -> PluginSubscription:
        """See `TriggerPlugins.subscribe`."""
        subscription = PluginSubscription(endpoint, parameters)
        fields: dict[str, Value] = {"endpoint": endpoint, "parameters": parameters}
        answer = await self._change(provider, "subscribe_trigger", credentials, subscription, fields)
        return _subscription(answer, subscription)

    async def unsubscribe(self, provider: str, subscription: PluginSubscription, credentials: str) -> None:
        """See `TriggerPlugins.unsubscribe`."""
        result = await self._change(provider, "unsubscribe_trigger", credentials, subscription)
        if not result.get("success"):
            message = str(result.get("message") or "the plugin did not say why")[:500]
            raise _refusal(self._masked(provider, message, credentials, subscription))

    async def refresh(self, provider: str, subscription: PluginSubscription, credentials: str) -> PluginSubscription:
        """See `TriggerPlugins.refresh`."""
        answer = await self._change(provider, "refresh_trigger", credentials, subscription)
        return _subscription(answer, subscription)

    async def _change(
        self,
        provider: str,
        action: str,
        credentials: str,
        subscription: PluginSubscription,
        fields: Mapping[str, Value] | None = None,
    ) -> Mapping[str, Value]:
        """The answer's `subscription`. RequestError if the plugin, or the service, refuses."""
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._call(provider, action, credentials, subscription, fields or {})
        except TimeoutError:
            raise PluginError(f"The service did not answer within {_SECONDS:g} s.") from None
        except PluginError as error:
            if error.error_type == HOST_ERROR:
                raise
            raise _refusal(str(error)[:500]) from error
        if not isinstance(answer.get("subscription"), dict):
            raise PluginError("The plugin sent an answer without a subscription.")
        return mapping_of(answer["subscription"])

    # --------------------------------------------------------------------------------------------------------- calls

    async def _call(
        self,
        provider: str,
        action: str,
        credentials_name: str,
        subscription: PluginSubscription,
        fields: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        plugin, declaration = self._located(provider)
        credentials = self._credentials(plugin, declaration, credentials_name)
        if credentials.missing is not None:
            if action in _NEED_CREDENTIALS:
                raise HeadraceError(credentials.missing)
            credentials = Credentials({}, frozenset(), "unauthorized")  # as those that were made by hand have in Dify
        data: dict[str, Value] = {
            "type": "trigger",
            "action": action,
            "user_id": "",
            "provider": declaration.name,
            "credentials": credentials.values,
            "credential_type": credentials.type,
            "subscription": subscription.body(),
            **fields,
        }
        caller = Caller(ToolContext("", "", "", new_id()))
        secrets = credentials.secrets | _secrets_of(subscription, declaration)
        async with aclosing(self._plugins.host.call(plugin, data, caller, secrets)) as answers:
            async for answer in answers:
                if nests_deeper(answer, DEEPEST_INPUT):  # it is stored, as the inputs of a run or with a subscription
                    raise PluginError(
                        f"The plugin sent an answer that is nested more than {DEEPEST_INPUT} levels deep."
                    )
                return answer
        raise PluginError("The plugin sent no answer.")

    def _masked(self, provider: str, message: str, credentials_name: str, subscription: PluginSubscription) -> str:
        plugin, declaration = self._located(provider)
        secrets = self._credentials(plugin, declaration, credentials_name).secrets | _secrets_of(
            subscription, declaration
        )
        for secret in sorted(secrets, key=len, reverse=True):
            message = message.replace(secret, "***")
        return message

    def _checked(self, provider: str) -> tuple[InstalledPlugin, Provider]:
        if not _PROVIDER.fullmatch(provider):
            raise InvalidParam("provider: Input should be author/plugin/provider")
        try:
            return self._located(provider)
        except HeadraceError as error:
            raise InvalidParam(f"provider: {error}") from error

    def _located(self, provider: str) -> tuple[InstalledPlugin, Provider]:
        author, name, own = plugin_path(provider)
        plugin = self._plugins.installed.nearest(plugin_id := PluginId(author, name))
        if plugin is None:
            raise HeadraceError(f"The plugin {plugin_id} is needed: run `headrace plugins add {plugin_id}`.")
        declaration = plugin.declarations.triggers.get(own)
        if declaration is None:
            raise HeadraceError(f"The plugin {plugin.id.plugin} has no trigger '{own}'.")
        return plugin, declaration

    def _credentials(self, plugin: InstalledPlugin, provider: Provider, credentials_name: str) -> Credentials:
        of = self._plugins.credentials.of
        return of(plugin.id.plugin, provider.name, provider.credentials, provider.oauth, credentials_name)


def _refusal(message: str) -> RequestError:
    return RequestError(f"The service, or its plugin, refuses: {message}", "subscription_refused", 400)


def _subscription(answer: Mapping[str, Value], before: PluginSubscription) -> PluginSubscription:
    """What a plugin makes of a subscription; what it leaves out stays."""
    expires_at = answer.get("expires_at")
    return PluginSubscription(
        before.endpoint,
        mapping_of(answer.get("parameters")) or before.parameters,
        mapping_of(answer.get("properties")) or before.properties,
        int(expires_at) if isinstance(expires_at, int | float) and 0 <= expires_at < 2**53 else -1,
    )


def _secrets_of(subscription: PluginSubscription, provider: Provider) -> frozenset[str]:
    """The texts of a subscription that must not be shown: declared so, or with a name that says so; and the part of its
    URL that cannot be guessed."""
    secret_names = {field.name for field in provider.subscription if field.secret}
    secret_names |= {
        parameter.name for parameter in provider.subscription_parameters if parameter.type == "secret-input"
    }

    def texts() -> Iterator[str]:
        if len(hook := subscription.endpoint.rpartition("/")[2]) >= _SHORTEST_HOOK:
            yield hook
        for values in (subscription.parameters, subscription.properties):
            for name, value in values.items():
                if isinstance(value, str) and value and (name in secret_names or _SECRET_NAME.search(name)):
                    yield value

    return frozenset(texts())


def _check_names(part: str, values: Mapping[str, Value], known_names: Mapping[str, object]) -> None:
    if unknown := sorted(values.keys() - known_names.keys()):
        names = ", ".join(known_names) or "none"
        raise InvalidParam(f"{part}: {unknown[0][:50]!r} is not one of the provider's: {names}")


def _check_required(part: str, values: Mapping[str, Value], required_names: Sequence[str]) -> None:
    if missing := [name for name in required_names if values.get(name) in _EMPTY]:
        raise InvalidParam(f"{part}: Fields required: {', '.join(missing)}")
