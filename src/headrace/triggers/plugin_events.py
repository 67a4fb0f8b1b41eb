"""Requests of the subscriptions of plugins: the plugin says which events they are about, and each starts runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import cast

from headrace.errors import HeadraceError, RequestError
from headrace.nodes.trigger_plugin import TriggerPlugin
from headrace.ports import IdempotencyStore
from headrace.ports.plugins import EndpointRequest, TriggerEvents, TriggerSubscriptions
from headrace.triggers.deliveries import Deliveries
from headrace.triggers.served import ServedTrigger, TriggerService, logger
from headrace.triggers.signatures import delivery_of, event_of
from headrace.values import Value


class PluginEvents:
    """Receives requests; `subscriptions` makes what calls the plugins, at the first one. A failure of one node's event
    does not keep the others from starting their runs."""

    def __init__(
        self, triggers: TriggerService, deliveries: IdempotencyStore, subscriptions: Callable[[], TriggerSubscriptions]
    ) -> None:
        self._triggers = triggers
        self._deliveries = Deliveries(deliveries, triggers.clock)
        self._make_subscriptions = subscriptions

    @cached_property
    def _subscriptions(self) -> TriggerSubscriptions:
        return self._make_subscriptions()

    async def check(self, name: str) -> None:
        """NotFound for an unknown subscription."""
        await self._subscriptions.check(name)

    async def receive(self, name: str, request: EndpointRequest, trace: str | None) -> TriggerEvents:
        """Starts the runs that a request is about; returns what the plugin responds, once they are durable. NotFound
        for an unknown subscription, RequestError where the plugin refuses the request."""
        events = await self._subscriptions.dispatch(name, request)
        headers = {key.lower(): value for key, value in request.headers}
        delivery = delivery_of(headers, request.body, event_of(request.body))
        refusals: list[RequestError] = []
        for trigger in await self._listening(events):
            variables = await self._variables(events, trigger)
            if variables is None:
                continue
            try:
                await self._triggers.count_request(trigger)
                start = partial(self._triggers.fire, trigger, variables, trace=trace)
                await self._deliveries.once(trigger, delivery, start)
            except RequestError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]  # the sender repeats the request, which starts what is missing
        return events

    async def _variables(self, events: TriggerEvents, trigger: ServedTrigger) -> Mapping[str, Value] | None:
        """The variables of a node's event; None if it does not start a run."""
        node = cast("TriggerPlugin", trigger.trigger)
        try:
            return await self._subscriptions.variables(events, node.config.event_name, node.parameters)
        except HeadraceError as error:
            logger.error("%s, %s: not started: %s", trigger.app.source, trigger.title, error)
            return None

    async def _listening(self, events: TriggerEvents) -> list[ServedTrigger]:
        """The triggers that are not paused, of the subscription's workspace, for its provider and these events."""
        if not events.events:
            return []
        apps = await self._triggers.run_service.apps.catalog.apps(events.workspace)
        listening = [trigger for trigger in await self._triggers.triggers(apps) if _is_for(trigger, events)]
        flags = await asyncio.gather(*map(self._triggers.is_paused, listening))
        return [trigger for trigger, is_paused in zip(listening, flags, strict=True) if not is_paused]


def _is_for(trigger: ServedTrigger, events: TriggerEvents) -> bool:
    if trigger.trigger.kind != "plugin":
        return False
    config = cast("TriggerPlugin", trigger.trigger).config
    return config.provider_id == events.provider and config.event_name in events.events
