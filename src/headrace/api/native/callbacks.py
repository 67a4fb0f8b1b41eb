"""Callbacks: what became of the messages about a run, one more time, and how to know that they are genuine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.json import encode
from headrace.api.http.routing import OperationList
from headrace.api.native.services import Polling
from headrace.api.openapi import add_get, error, operation, parameter, responses
from headrace.errors import InvalidParam, NotFound
from headrace.ports import Callback
from headrace.times import times
from headrace.values import Value

_JSON = "application/json"
_LONGEST_URL = 2048
_NO_RUN = "Workflow run not found"
_NO_CALLBACK = "Callback not found"


class CallbackRoutes:
    """`/workflow-runs/{id}/callbacks` and `/callbacks/...`. Another app's runs and callbacks are not found."""

    def __init__(self, api: Api, parts: Polling) -> None:
        self.api = api
        self._webhook_sender = parts.webhook_sender

    def add_to(self, router: OperationList) -> None:
        add_get(router, "/workflow-runs/{workflow_run_id}/callbacks", self.listed, LIST)
        add_get(router, "/callbacks/secret", self.secret, SECRET)
        router.add_api_route("/callbacks/{callback_id}/resend", self.resend, methods=["POST"], **RESEND)

    async def listed(self, request: Request) -> Response:
        app = (await self.api.authenticate(request)).app
        run = as_uuid(request.path_params["workflow_run_id"], NotFound(_NO_RUN))
        summary = await self.api.run_service.runs.find_run(run)
        if summary is None or summary.app != app.id:
            raise NotFound(_NO_RUN)
        return _answer({"data": [wire(each) for each in await self._webhook_sender.callbacks.callbacks_of(run)]})

    async def resend(self, request: Request) -> Response:
        app = (await self.api.authenticate(request)).app
        name = as_uuid(request.path_params["callback_id"], NotFound(_NO_CALLBACK))
        found = await self._webhook_sender.callbacks.find_callback(name)
        if found is None or found.app != app.id:
            raise NotFound(_NO_CALLBACK)
        return _answer(wire(await self._webhook_sender.resend(found)), 202)

    async def secret(self, request: Request) -> Response:
        # whoever only reads must not be able to sign what others believe
        app = (await self.api.authenticate(request, "run")).app
        told = {"secret": self._webhook_sender.signing_secret(app.id)}
        return Response(encode(told), media_type=_JSON, headers={"Cache-Control": "no-store"})


def _answer(value: Mapping[str, Value], status: int = 200) -> Response:
    return Response(encode(value), status, media_type=_JSON)


def wire(callback: Callback) -> dict[str, Value]:
    """A callback as the API has it."""
    return {
        "id": callback.id,
        "workflow_run_id": callback.run,
        "event": callback.event,
        "url": callback.url,
        "status": callback.status,
        "attempts": callback.attempts,
        "last_status": callback.last_status,
        "last_error": callback.last_error,
        **times(next_attempt_at=callback.next_at, created_at=callback.created_at, delivered_at=callback.delivered_at),
    }


def callback_url(asked: Value) -> str | None:
    """The `callback_url` of a request to run; None where it has none. InvalidParam where it cannot be one. Whether it
    may be reached is known only when it is called: names change their addresses."""
    if asked is None:
        return None
    if not isinstance(asked, str) or not _is_url(asked):
        raise InvalidParam(f"callback_url must be an http or https URL of {_LONGEST_URL} characters at most.")
    return asked


def _is_url(text: str) -> bool:
    if len(text) > _LONGEST_URL or any(letter <= " " or letter == "\x7f" for letter in text):
        return False
    try:
        text.encode()  # half a surrogate pair is in no URL
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------- what /docs tells

_UUID = {"type": "string", "format": "uuid"}
_RUN_ID = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
_EXAMPLE: Mapping[str, Any] = {
    "id": "0d9f6a0e-4c0e-5f4e-9f43-2b6a8f1d7c55",
    "workflow_run_id": _RUN_ID,
    "event": "run.succeeded",
    "url": "https://example.com/hooks/headrace",
    "status": "delivered",
    "attempts": 2,
    "last_status": 204,
    "last_error": None,
    **times(next_attempt_at=None, created_at=1795226715.204, delivered_at=1795226720.391),
}
_AGAIN = dict(_EXAMPLE) | {
    "status": "pending",
    "attempts": 0,
    **times(next_attempt_at=1795226800.017, delivered_at=None),
}
_NO_KEY = error("unauthorized", "Access token is invalid", 401)

LIST = operation(
    "listCallbacks",
    "Callbacks",
    "What became of a run's callbacks",
    "The messages to the run's `callback_url`, oldest first: one when it ended, one for each pause. `status` is "
    "`pending` (to be tried at `next_attempt_at`), `delivered` or `failed`.",
    responses((error("not_found", _NO_RUN, 404), _NO_KEY), json={"data": [_EXAMPLE]}),
    [parameter("path", "workflow_run_id", "A run's id", _UUID)],
)
RESEND = operation(
    "resendCallback",
    "Callbacks",
    "Send a callback again",
    "Makes it pending again, due now and with all its tries, whether it was delivered, failed, or waits for its next "
    "try. Its id stays, so a receiver that goes by `webhook-id` knows it again. One that is being tried at this very "
    "moment stays as it is.",
    responses((error("not_found", _NO_CALLBACK, 404), _NO_KEY), 202, json=_AGAIN),
    [parameter("path", "callback_id", "A callback's id, as it is listed and as `webhook-id` tells it", _UUID)],
)
SECRET = operation(
    "getCallbackSecret",
    "Callbacks",
    "The signing secret",
    "What this app's callbacks are signed with, for the receiver that is to verify them (Standard Webhooks, `v1`). It "
    "is the same whenever it is asked for.",
    responses((_NO_KEY,), json={"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}),
)
