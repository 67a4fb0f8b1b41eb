"""Making, renewing and ending subscriptions: by several processes at once, and with failures in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from headrace.errors import HeadraceError, InvalidParam, NotFound, RequestError
from headrace.ports import SubscriptionStore, TriggerSubscription
from headrace.stores.memory import memory_storage
from headrace.triggers import SubscriptionService
from headrace.triggers.subscriptions import SubscriptionRequest, status_of
from tests.triggers.trigger_plugins import StandInPlugins
from tests.triggers.world import Clock

PROVIDER = "acme/shop_trigger/shop"
REQUEST = SubscriptionRequest("default", "shop", PROVIDER, {"repository": "r"})
DAY = 86_400


@dataclass
class Processes:
    """Two processes on one store."""

    store: SubscriptionStore
    plugins: StandInPlugins
    clock: Clock
    here: SubscriptionService
    there: SubscriptionService

    async def status(self) -> str:
        (stored,) = await self.store.subscriptions()
        return status_of(stored, self.clock())

    async def stored(self) -> TriggerSubscription:
        (stored,) = await self.store.subscriptions()
        return stored


@pytest.fixture
def at() -> Processes:
    store, plugins, clock = memory_storage().subscriptions, StandInPlugins(), Clock()

    def process() -> SubscriptionService:
        return SubscriptionService(store, lambda: plugins, "https://headrace.example/", clock)

    return Processes(store, plugins, clock, process(), process())


async def code_of(call: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(RequestError) as refused:
        await call()
    return refused.value.code


async def test_a_subscription_is_made_and_ended(at: Processes) -> None:
    subscription = await at.here.subscribe(REQUEST)
    assert at.plugins.service == [subscription.endpoint]
    assert subscription.endpoint == f"https://headrace.example/triggers/plugin/{subscription.hook}"
    assert len(subscription.hook) == 24
    assert (subscription.parameters, subscription.properties) == (
        {"branch": "main", "repository": "r"},
        {"secret": "s3cret"},
    )
    assert await at.status() == "active"
    assert await at.there.of_hook(subscription.hook) == subscription
    assert "s3cret" not in repr(subscription)
    await at.there.unsubscribe(await at.there.find("default", "shop"))
    assert at.plugins.service == []
    assert await at.store.subscriptions() == []


async def test_what_is_refused_leaves_nothing(at: Processes) -> None:
    at.plugins.error = InvalidParam("bad credentials")
    assert await code_of(lambda: at.here.subscribe(REQUEST)) == "invalid_param"
    assert await at.store.subscriptions() == []
    for name in ("", "x" * 101, "a\nb", "a\udcff"):
        request = SubscriptionRequest("default", name, PROVIDER)
        assert await code_of(lambda request=request: at.here.subscribe(request)) == "invalid_param"
    nowhere = SubscriptionService(at.store, lambda: at.plugins, "", at.clock)
    assert await code_of(lambda: nowhere.subscribe(REQUEST)) == "public_url_not_set"
    assert at.plugins.calls == ["subscribe"]


async def test_two_at_once_make_one(at: Processes) -> None:
    at.plugins.gate.clear()
    first = asyncio.create_task(at.here.subscribe(REQUEST))
    await at.plugins.reached.wait()
    assert await at.status() == "creating"
    assert await code_of(lambda: at.there.subscribe(REQUEST)) == "subscription_busy"
    assert await code_of(lambda: stored_unsubscribe(at)) == "subscription_busy"
    at.plugins.gate.set()
    await first
    assert await code_of(lambda: at.there.subscribe(REQUEST)) == "subscription_exists"
    assert at.plugins.calls == ["subscribe"]
    elsewhere = SubscriptionRequest("acme", "shop", PROVIDER)
    assert (await at.there.subscribe(elsewhere)).workspace == "acme"


async def stored_unsubscribe(at: Processes) -> None:
    await at.there.unsubscribe(await at.stored())


async def test_a_process_that_dies_before_the_service_has_it(at: Processes) -> None:
    """It is in the list, and made again with the same URL."""
    at.plugins.gate.clear()
    dying = asyncio.create_task(at.here.subscribe(REQUEST))
    await at.plugins.reached.wait()
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    at.plugins.gate.set()
    assert await at.status() == "creating"
    at.clock.now += 301
    assert await at.status() == "interrupted"
    endpoint = (await at.stored()).endpoint
    assert await code_of(lambda: at.there.subscribe(SubscriptionRequest("default", "shop", "a/b/c"))) == (
        "subscription_exists"
    )
    subscription = await at.there.subscribe(REQUEST)
    assert (subscription.endpoint, subscription.active, at.plugins.service) == (endpoint, True, [endpoint])


async def test_a_process_that_dies_after_the_service_has_it(at: Processes) -> None:
    """Nobody knows what the service said. It is not made twice, and can be ended."""
    at.plugins.late, at.plugins.error = True, HeadraceError("the plugin ended")
    assert await code_of(lambda: at.here.subscribe(REQUEST)) == "subscription_failed"
    at.plugins.late, at.plugins.error = False, None
    stored = await at.stored()
    assert (await at.status(), stored.error, stored.active) == ("interrupted", "the plugin ended", False)
    assert await code_of(lambda: at.there.subscribe(REQUEST)) == "invalid_param"
    assert (await at.stored()).error == "the service has this URL already"
    await at.there.unsubscribe(stored)
    assert (at.plugins.service, await at.store.subscriptions()) == ([], [])


async def test_one_that_cannot_be_ended_stays_unless_it_is_forced(at: Processes) -> None:
    subscription = await at.here.subscribe(REQUEST)
    at.plugins.error = HeadraceError("no answer")
    assert await code_of(lambda: at.here.unsubscribe(subscription)) == "subscription_failed"
    assert (await at.status(), (await at.stored()).error) == ("failing", "no answer")
    await at.here.unsubscribe(subscription, force=True)
    assert await at.store.subscriptions() == []
    with pytest.raises(NotFound):
        await at.here.unsubscribe(subscription)


async def test_it_is_renewed_before_it_expires_by_one_process(at: Processes) -> None:
    at.plugins.expires_at = int(at.clock.now) + DAY
    subscription = await at.here.subscribe(REQUEST)
    assert subscription.refresh_at == subscription.expires_at - 3600
    await at.here.refresh_due()
    assert at.plugins.calls == ["subscribe"]
    at.clock.now = subscription.refresh_at
    at.plugins.expires_at += DAY
    await asyncio.gather(at.here.refresh_due(), at.there.refresh_due())
    assert at.plugins.calls == ["subscribe", "refresh"]
    renewed = await at.stored()
    assert (renewed.expires_at, renewed.refresh_at) == (
        subscription.expires_at + DAY,
        subscription.expires_at + DAY - 3600,
    )
    assert renewed.properties == subscription.properties


@pytest.mark.parametrize(("life", "after"), [(1800, 900), (5400, 2700), (10, 60), (0, 60)])
async def test_a_short_life_is_renewed_after_half_of_it(at: Processes, life: int, after: int) -> None:
    at.plugins.expires_at = int(at.clock.now) + life
    assert (await at.here.subscribe(REQUEST)).refresh_at == at.clock.now + after


async def test_a_failed_renewal_is_shown_and_tried_again(at: Processes) -> None:
    at.plugins.expires_at = int(at.clock.now) + DAY
    subscription = await at.here.subscribe(REQUEST)
    assert subscription.refresh_at is not None
    at.clock.now, at.plugins.error = subscription.refresh_at, HeadraceError("out of order")
    for pause in (60, 120, 240):
        await at.here.refresh_due()
        failing = await at.stored()
        assert (await at.status(), failing.error) == ("failing", "out of order")
        assert failing.refresh_at == at.clock.now + pause
        at.clock.now = failing.refresh_at
    at.clock.now = subscription.expires_at
    assert await at.status() == "expired"
    at.plugins.error, at.plugins.expires_at = None, subscription.expires_at + DAY
    await at.there.refresh_due()
    renewed = await at.stored()
    assert (await at.status(), renewed.error, renewed.failures) == ("active", "", 0)


async def test_a_process_that_dies_while_its_clock_is_years_ahead_keeps_no_claim(at: Processes) -> None:
    subscription = await at.here.subscribe(REQUEST)
    set_right, at.clock.now = at.clock.now, at.clock.now + 3650 * DAY
    assert await at.store.claim_subscription(subscription.id, "dead", at.clock.now, at.clock.now + 300) is not None
    assert await code_of(lambda: at.there.unsubscribe(subscription)) == "subscription_busy"
    at.clock.now = set_right
    await at.there.unsubscribe(subscription)
    assert await at.store.subscriptions() == []


async def test_it_is_not_ended_while_it_is_renewed(at: Processes) -> None:
    subscription = await at.here.subscribe(REQUEST)
    at.plugins.reached.clear()
    at.plugins.gate.clear()
    renewing = asyncio.create_task(at.here.refresh(subscription))
    await at.plugins.reached.wait()
    assert await code_of(lambda: at.there.unsubscribe(subscription)) == "subscription_busy"
    at.plugins.gate.set()
    await renewing
    await at.there.unsubscribe(subscription)
    assert at.plugins.service == []


async def test_a_renewal_of_a_process_that_died_is_made_by_another(at: Processes) -> None:
    at.plugins.expires_at = int(at.clock.now) + DAY
    subscription = await at.here.subscribe(REQUEST)
    assert subscription.refresh_at is not None
    at.clock.now = subscription.refresh_at
    await at.store.claim_subscription(subscription.id, "died", at.clock.now, at.clock.now + 300)
    await at.there.refresh_due()
    assert at.plugins.calls == ["subscribe"]
    at.clock.now += 300
    await at.there.refresh_due()
    assert at.plugins.calls == ["subscribe", "refresh"]


async def test_more_are_due_than_are_renewed_at_once(at: Processes) -> None:
    at.plugins.expires_at = int(at.clock.now)
    for number in range(9):
        await at.here.subscribe(SubscriptionRequest("default", f"shop {number}", PROVIDER))
    at.clock.now += DAY
    at.plugins.expires_at = -1
    assert await at.here.refresh_due() == 0.0
    assert await at.here.refresh_due() == 60.0
    assert at.plugins.calls.count("refresh") == 9


async def test_one_that_was_made_by_hand(at: Processes) -> None:
    manual = SubscriptionRequest("default", "shop", PROVIDER, properties={"secret": "s"})
    subscription = await at.here.subscribe(manual)
    assert (subscription.manual, subscription.active, await at.status()) == (True, True, "active")
    assert await code_of(lambda: at.here.subscribe(manual)) == "subscription_exists"
    assert await code_of(lambda: at.here.refresh(subscription)) == "not_refreshable"
    await at.here.unsubscribe(subscription)
    assert (at.plugins.calls, await at.store.subscriptions()) == ([], [])
