"""Subscriptions of plugins: requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Url, Uuid, closed, described
from headrace.api.native.schemas.common import Seconds, one_of
from headrace.ports import TriggerSubscription
from headrace.times import whole_seconds
from headrace.triggers.subscriptions import SubscriptionRequest, status_of

SUBSCRIPTION_ID = "9a1c7c56-6f0e-4f43-8b8e-55a1f6f0e7d2"


@described
class SubscriptionBody(TypedDict):
    """A subscription to a service whose events a plugin understands. What it was made with is not shown: it may contain
    secrets."""

    id: Uuid
    name: str
    provider: str
    """`author/plugin/provider`, as nodes name it."""
    url: Url | None
    """Where the service sends its events; null for keys without the permission `run`, since the URL starts runs."""
    manual: bool
    """Made at the service by hand: it is not renewed, and not ended there when it is removed."""
    status: Annotated[str, one_of("creating", "interrupted", "active", "failing", "expired")]
    """`interrupted`: it may be at the service, but starts no runs; make it again, or remove it. `failing`: the last
    attempt to renew or end it failed."""
    error: str | None
    created_at: Seconds
    expires_at: Seconds | None
    refresh_at: Seconds | None
    """When it is renewed next."""


class SubscriptionList(TypedDict):
    """Subscriptions of a workspace, by name."""

    data: list[SubscriptionBody]


@closed
class NewSubscription(TypedDict):
    """A subscription that the plugin makes; with `properties`, one that was made at the service by hand."""

    provider: str
    """`author/plugin/provider`"""
    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": 100})]
    parameters: NotRequired[Mapping[str, Any] | None]
    """As the provider declares them; those with a default may be left out."""
    credentials: NotRequired[str | None]
    """The name of a set in the file of credentials; the default set, or the environment, without it."""
    properties: NotRequired[Mapping[str, Any] | None]
    """What the plugin needs to verify requests, such as a secret."""


class RemovedSubscription(TypedDict):
    """What was removed."""

    id: Uuid


def request_of(body: NewSubscription, workspace: str) -> SubscriptionRequest:
    return SubscriptionRequest(
        workspace,
        body["name"],
        body["provider"],
        body.get("parameters") or {},
        body.get("credentials") or "",
        body.get("properties"),
    )


def subscription_body(subscription: TriggerSubscription, now: float, *, with_url: bool) -> SubscriptionBody:
    return {
        "id": subscription.id,
        "name": subscription.name,
        "provider": subscription.provider,
        "url": subscription.endpoint if with_url else None,
        "manual": subscription.manual,
        "status": status_of(subscription, now),
        "error": subscription.error or None,
        "created_at": whole_seconds(subscription.created_at),
        "expires_at": None if subscription.expires_at < 0 else subscription.expires_at,
        "refresh_at": whole_seconds(subscription.refresh_at),
    }


# ----------------------------------------------------------------------------------------------------------- examples

_SUBSCRIPTION: SubscriptionBody = {
    "id": SUBSCRIPTION_ID,
    "name": "shop",
    "provider": "langgenius/github_trigger/github",
    "url": "https://headrace.example/triggers/plugin/Vn3kQm2xT9aLw8Rz1bYc5dEf",
    "manual": False,
    "status": "active",
    "error": None,
    "created_at": 1795226714,
    "expires_at": 1797818714,
    "refresh_at": 1797815114,
}

SUBSCRIPTION = Media(SubscriptionBody, _SUBSCRIPTION)
SUBSCRIPTIONS = Media(SubscriptionList, {"data": [_SUBSCRIPTION]})
SUBSCRIBE = Media(
    NewSubscription,
    {
        "provider": "langgenius/github_trigger/github",
        "name": "shop",
        "parameters": {"repository": "acme/shop", "events": ["issues"]},
    },
)
REMOVED = Media(RemovedSubscription, {"id": SUBSCRIPTION_ID})
