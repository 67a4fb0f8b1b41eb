"""Subscriptions of plugins: which there are, making, renewing and ending them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.params import boolean
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.schemas import subscriptions
from headrace.api.native.schemas.subscriptions import (
    NewSubscription,
    RemovedSubscription,
    SubscriptionBody,
    SubscriptionList,
    request_of,
    subscription_body,
)
from headrace.api.native.services import NativeServices
from headrace.errors import Forbidden, InvalidParam, NotFound, RequestError
from headrace.ports import Principal, TriggerSubscription

_PATH = "/trigger-subscriptions"
_ONE = f"{_PATH}/{{subscription_id}}"
_NONE = NotFound("Subscription not found")
_BUSY = RequestError("The subscription 'shop' is being changed; try again later.", "subscription_busy", 409)
_EXISTS = RequestError("The workspace has a subscription of the name 'shop'.", "subscription_exists", 409)
_REFUSED = RequestError("The service, or its plugin, refuses: Bad credentials", "subscription_refused", 400)
_FAILED = RequestError(
    "The subscription 'shop' was not changed, or not completely: The service did not answer within 120 s.",
    "subscription_failed",
    502,
)
_FORCE = boolean("force", "Remove it even if that fails at the service")


class SubscriptionRoutes(Routes):
    """`/trigger-subscriptions...`, for keys for all apps of a workspace: its events may start runs of each."""

    tag = "Triggers"

    def __init__(self, api: Api, services: NativeServices) -> None:
        super().__init__(api)
        self._subscriptions = services.subscriptions

    @Operation("GET", _PATH, subscriptions.SUBSCRIPTIONS)
    async def list_subscriptions(self, request: Request) -> Response:
        """List subscriptions.

        Those that are stored; the file of `HEADRACE_PLUGIN_TRIGGERS` may have others. Needs a key for all apps of the
        workspace.
        """
        caller = await self._caller(request, "read")
        subscriptions = await self._subscriptions.store.subscriptions(caller.workspace)
        body: SubscriptionList = {"data": [self._body(subscription, caller) for subscription in subscriptions]}
        return json_response(body)

    @Operation(
        "POST",
        _PATH,
        {201: subscriptions.SUBSCRIPTION},
        body=subscriptions.SUBSCRIBE,
        errors=[InvalidParam("parameters: Fields required: repository"), _REFUSED, _EXISTS, _BUSY, _FAILED],
    )
    async def subscribe(self, request: Request) -> Response:
        """Subscribe to a service.

        The plugin subscribes with its credentials, which the server has. A subscription of the same name that was
        interrupted is made again, with the same URL. Needs `manage`, and a key for all apps of the workspace.
        """
        caller = await self._caller(request, "manage")
        body = parse(NewSubscription, await self.api.json(request))
        return json_response(
            self._body(await self._subscriptions.subscribe(request_of(body, caller.workspace)), caller), 201
        )

    @Operation("POST", f"{_ONE}/refresh", subscriptions.SUBSCRIPTION, errors=[_NONE, _REFUSED, _BUSY, _FAILED])
    async def refresh_subscription(self, request: Request) -> Response:
        """Renew a subscription.

        Now, instead of an hour before it expires. Needs `manage`, and a key for all apps of the workspace.
        """
        caller, subscription = await self._find(request)
        return json_response(self._body(await self._subscriptions.refresh(subscription), caller))

    @Operation("DELETE", _ONE, subscriptions.REMOVED, parameters=[_FORCE], errors=[_NONE, _REFUSED, _BUSY, _FAILED])
    async def unsubscribe(self, request: Request) -> Response:
        """Remove a subscription.

        It is ended at the service first. If that fails it stays, with the error, unless `force`. Needs `manage`, and a
        key for all apps of the workspace.
        """
        _, subscription = await self._find(request)
        await self._subscriptions.unsubscribe(subscription, force=_FORCE.of(request))
        body: RemovedSubscription = {"id": subscription.id}
        return json_response(body)

    async def _caller(self, request: Request, permission: str) -> Principal:
        caller = await self.api.principal(request, permission)
        if caller.apps is not None:
            raise Forbidden("Subscriptions concern all apps of a workspace; use a key for all of them.")
        return caller

    async def _find(self, request: Request) -> tuple[Principal, TriggerSubscription]:
        caller = await self._caller(request, "manage")
        subscription = await self._subscriptions.store.find_subscription(
            as_uuid(request.path_params["subscription_id"], _NONE)
        )
        if subscription is None or subscription.workspace != caller.workspace:
            raise _NONE
        return caller, subscription

    def _body(self, subscription: TriggerSubscription, caller: Principal) -> SubscriptionBody:
        with_url = "run" in caller.permissions
        return subscription_body(subscription, self._subscriptions.clock(), with_url=with_url)
