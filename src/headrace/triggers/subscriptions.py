"""Subscriptions to services whose events plugins understand: made, ended and renewed by the plugin.

A subscription is stored before its plugin makes it, so that one at the service whose process died is not lost: it is in
the list, and its URL starts no runs. Making it again uses the same URL, which services refuse to have twice; ending it
undoes what is left of it. Every change is claimed for longer than it may take, across processes; after a crash the
claim ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import field, replace
from functools import cached_property

from headrace.background import Periodic, back_off
from headrace.cache import MAX_AGE_SECONDS, Cache
from headrace.errors import HeadraceError, InvalidParam, NotFound, RequestError
from headrace.frozen import frozen
from headrace.ids import new_id
from headrace.ports import PluginSubscription, SubscriptionStore, TriggerSubscription
from headrace.ports.plugins import TriggerPlugins
from headrace.values import Value

logger = logging.getLogger(__name__)

_CLAIM_SECONDS = 300.0  # more than a plugin needs to start, and a service to answer
_EARLY = 3600.0  # seconds before it expires, a subscription is renewed, or after half of a shorter life
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds between attempts to renew one
_POLL_SECONDS = 60.0
_AT_ONCE = 8
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")  # surrogates: bytes of a command line that are not UTF-8
_LONGEST_ERROR = 500
_BUSY = "subscription_busy"


@frozen
class SubscriptionRequest:
    """A subscription to make. With `properties`, it was made at the service by hand."""

    workspace: str
    name: str
    provider: str
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value])
    credentials: str = ""
    properties: Mapping[str, Value] | None = None


class SubscriptionService:
    """`plugins` makes what calls the plugins, when it is first needed; `public_url` is the address of this server for
    services, "" if it is not known."""

    def __init__(
        self,
        store: SubscriptionStore,
        plugins: Callable[[], TriggerPlugins],
        public_url: str,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.clock = clock
        self._make_plugins = plugins
        self._public_url = public_url.rstrip("/")
        self._by_hook: Cache[Mapping[str, TriggerSubscription]] = Cache(1, MAX_AGE_SECONDS)
        self._polling = Periodic("renewing subscriptions", self.refresh_due, _POLL_SECONDS)

    @cached_property
    def _plugins(self) -> TriggerPlugins:
        return self._make_plugins()

    async def of_hook(self, hook: str) -> TriggerSubscription | None:
        """The subscription with this last part of its URL, as it is now, or was half a second ago. An unknown one costs
        no more than a look at the database every half second, however many requests there are."""

        async def load() -> Mapping[str, TriggerSubscription]:
            return {subscription.hook: subscription for subscription in await self.store.subscriptions()}

        return (await self._by_hook.get("hooks", load)).get(hook)

    async def find(self, workspace: str, name_or_id: str) -> TriggerSubscription:
        """One of a workspace, by its id or name. NotFound if there is none."""
        for subscription in await self.store.subscriptions(workspace):
            if name_or_id in (subscription.id, subscription.name):
                return subscription
        raise NotFound("Subscription not found")

    async def subscribe(self, request: SubscriptionRequest) -> TriggerSubscription:
        """Makes a subscription at the service; returns it once it is stored. RequestError if it cannot be made."""
        if not self._public_url:
            raise RequestError(
                "Set HEADRACE_PUBLIC_URL: the service sends its events there.", "public_url_not_set", 400
            )
        if not _NAME.fullmatch(request.name):
            raise InvalidParam("name: Input should have 1 to 100 characters, none of which is a control character")
        if request.properties is not None:
            self._plugins.check_manual(request.provider, request.properties)
            return await self._add_manual(request, request.properties)
        parameters = self._plugins.check(request.provider, request.parameters, request.credentials)
        subscription, is_new = await self._claim_new(request)
        subscription = replace(subscription, parameters=parameters, credentials=request.credentials)
        try:
            result = await self._plugins.subscribe(
                subscription.provider, subscription.endpoint, parameters, request.credentials
            )
        except RequestError as error:
            if is_new:
                await self._remove(subscription)  # nothing has been made
            else:
                await self._release(subscription, str(error))
            raise
        except HeadraceError as error:
            await self._release(subscription, str(error))
            raise _unknown(error, subscription.name) from error
        return await self._release(self._refreshed(subscription, result))

    async def _add_manual(self, request: SubscriptionRequest, properties: Mapping[str, Value]) -> TriggerSubscription:
        subscription = replace(
            self._new(request), manual=True, active=True, parameters=request.parameters, properties=properties
        )
        if not await self.store.add_subscription(subscription):
            raise _exists(request.name)
        self._by_hook.invalidate()
        return subscription

    async def _claim_new(self, request: SubscriptionRequest) -> tuple[TriggerSubscription, bool]:
        """The subscription to make, claimed, and whether it is new: one that was interrupted is made again."""
        now, claim = self.clock(), new_id()
        subscription = replace(self._new(request), claim=claim, claimed_until=now + _CLAIM_SECONDS)
        if await self.store.add_subscription(subscription):
            self._by_hook.invalidate()
            return subscription, True
        other = await self.find(request.workspace, request.name)
        if other.active or other.provider != request.provider:
            raise _exists(request.name)
        claim_of_other = await self.store.claim_subscription(other.id, claim, now, now + _CLAIM_SECONDS)
        if claim_of_other is None or claim_of_other.active:
            raise _busy(request.name)
        return claim_of_other, False

    def _new(self, request: SubscriptionRequest) -> TriggerSubscription:
        hook = secrets.token_urlsafe(18)  # 24 characters, as in Dify
        endpoint = f"{self._public_url}/triggers/plugin/{hook}"
        return TriggerSubscription(
            new_id(),
            request.workspace,
            request.name,
            request.provider,
            hook,
            endpoint,
            self.clock(),
            credentials=request.credentials,
        )

    async def unsubscribe(self, subscription: TriggerSubscription, *, force: bool = False) -> None:
        """Ends a subscription at the service, and removes it. If that fails it stays, unless `force`."""
        async with self._claimed(subscription) as own:
            if not own.manual:
                try:
                    await self._plugins.unsubscribe(own.provider, own.for_plugin(), own.credentials)
                except HeadraceError as error:
                    if not force:
                        await self._release(own, str(error))
                        raise error if isinstance(error, RequestError) else _unknown(error, own.name) from error
                    logger.warning("%s: it may still be at the service: %s", own.name, error)
            await self._remove(own)

    async def refresh(self, subscription: TriggerSubscription) -> TriggerSubscription:
        """Renews a subscription now. RequestError if that fails; it is tried again later."""
        if subscription.manual or not subscription.active:
            raise RequestError("Only a subscription that a plugin has made can be renewed.", "not_refreshable", 400)
        async with self._claimed(subscription) as own:
            return await self._renew(own)

    async def _renew(self, subscription: TriggerSubscription) -> TriggerSubscription:
        try:
            renewal = await self._plugins.refresh(
                subscription.provider, subscription.for_plugin(), subscription.credentials
            )
        except HeadraceError as error:
            failures = subscription.failures + 1
            again = self.clock() + back_off(failures, _FIRST_PAUSE, _LONGEST_PAUSE)
            refresh_at = None if subscription.expires_at < 0 else again
            await self._release(replace(subscription, failures=failures, refresh_at=refresh_at), str(error))
            raise error if isinstance(error, RequestError) else _unknown(error, subscription.name) from error
        return await self._release(self._refreshed(subscription, renewal))

    async def run(self) -> None:
        """Renews what is due, until it is cancelled."""
        await self._polling.run()

    async def refresh_due(self) -> float:
        """Renews some of what is due. Returns how many seconds to sleep."""
        due = await self.store.due_subscriptions(self.clock(), _AT_ONCE)
        await asyncio.gather(*map(self._refresh_one, due))
        return 0.0 if len(due) == _AT_ONCE else _POLL_SECONDS

    async def _refresh_one(self, subscription: TriggerSubscription) -> None:
        try:
            async with self._claimed(subscription) as own:
                if own.refresh_at is None or own.refresh_at > self.clock():
                    await self._release(own, own.error)  # another process has renewed it by now
                else:
                    await self._renew(own)
        except RequestError as error:
            if error.code != _BUSY:
                logger.warning("the subscription %s was not renewed: %s", subscription.name, error)

    # ------------------------------------------------------------------------------------------------------- claims

    @asynccontextmanager
    async def _claimed(self, subscription: TriggerSubscription) -> AsyncGenerator[TriggerSubscription]:
        now = self.clock()
        own = await self.store.claim_subscription(subscription.id, new_id(), now, now + _CLAIM_SECONDS)
        if own is None:
            if await self.store.find_subscription(subscription.id) is None:
                raise NotFound("Subscription not found")
            raise _busy(subscription.name)
        yield own

    async def _release(self, subscription: TriggerSubscription, error: str = "") -> TriggerSubscription:
        """Stores a subscription that is claimed, and gives up the claim."""
        released_subscription = replace(subscription, error=error[:_LONGEST_ERROR], claim="", claimed_until=0.0)
        if not await self.store.save_subscription(released_subscription, subscription.claim):
            raise _busy(subscription.name)
        self._by_hook.invalidate()
        return released_subscription

    async def _remove(self, subscription: TriggerSubscription) -> None:
        if not await self.store.remove_subscription(subscription.id, subscription.claim):
            raise _busy(subscription.name)
        self._by_hook.invalidate()

    def _refreshed(self, subscription: TriggerSubscription, result: PluginSubscription) -> TriggerSubscription:
        now = self.clock()
        life = result.expires_at - now
        return replace(
            subscription,
            active=True,
            parameters=result.parameters,
            properties=result.properties,
            expires_at=result.expires_at,
            # a service that renews for no time is not called without end
            refresh_at=None if result.expires_at < 0 else now + max(life - _EARLY, life / 2, _FIRST_PAUSE),
            failures=0,
        )


def status_of(subscription: TriggerSubscription, now: float) -> str:
    """`creating`, `interrupted` (the process that made it has died, or the service did not answer), `active`,
    `failing` (the last attempt to change it failed) or `expired`."""
    if not subscription.active:
        return "creating" if subscription.claimed_until > now else "interrupted"
    if 0 <= subscription.expires_at <= now:
        return "expired"
    return "failing" if subscription.error else "active"


def _exists(name: str) -> RequestError:
    return RequestError(f"The workspace has a subscription of the name {name!r}.", "subscription_exists", 409)


def _busy(name: str) -> RequestError:
    return RequestError(f"The subscription {name!r} is being changed; try again later.", _BUSY, 409)


def _unknown(error: HeadraceError, name: str) -> RequestError:
    message = f"The subscription {name!r} was not changed, or not completely: {error}"
    return RequestError(message, "subscription_failed", 502)
