"""A stand-in of the plugins that subscribe to services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headrace.errors import HeadraceError, InvalidParam
from headrace.ports import PluginSubscription
from headrace.values import Value


@dataclass
class StandInPlugins:
    """Implements TriggerPlugins. `service` has the URLs that are subscribed. A call waits for `gate`, and fails with
    `error`, after it has reached the service if it is `late`."""

    service: list[str] = field(default_factory=list[str])
    calls: list[str] = field(default_factory=list[str])
    error: HeadraceError | None = None
    late: bool = False
    expires_at: int = -1
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def check(self, provider: str, parameters: Mapping[str, Value], credentials: str) -> Mapping[str, Value]:
        if provider.count("/") != 2:
            raise InvalidParam("provider: Input should be author/plugin/provider")
        return {"branch": "main", **parameters}

    def check_manual(self, provider: str, properties: Mapping[str, Value]) -> None:
        self.check(provider, properties, "")

    async def subscribe(
        self, provider: str, endpoint: str, parameters: Mapping[str, Value], credentials: str
    ) -> PluginSubscription:
        await self._call("subscribe")
        if endpoint in self.service:
            raise InvalidParam("the service has this URL already")
        self.service.append(endpoint)
        self._fail()
        return PluginSubscription(endpoint, parameters, {"secret": "s3cret"}, self.expires_at)

    async def unsubscribe(self, provider: str, subscription: PluginSubscription, credentials: str) -> None:
        await self._call("unsubscribe")
        if subscription.endpoint not in self.service:
            raise InvalidParam("the service does not have this URL")
        self.service.remove(subscription.endpoint)
        self._fail()

    async def refresh(self, provider: str, subscription: PluginSubscription, credentials: str) -> PluginSubscription:
        await self._call("refresh")
        self._fail()
        return replace(subscription, expires_at=self.expires_at)

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        self.reached.set()
        await self.gate.wait()
        if not self.late:
            self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
