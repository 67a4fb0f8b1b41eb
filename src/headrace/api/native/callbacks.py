"""Callbacks: the delivery of a run's messages, sending one again, and the secret that verifies them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.schemas import callbacks
from headrace.api.native.schemas.callbacks import CallbackSecret, callback_body
from headrace.api.native.services import NativeServices
from headrace.errors import NotFound

_NO_RUN = "Workflow run not found"
_NO_CALLBACK = "Callback not found"


class CallbackRoutes(Routes):
    """`/workflow-runs/{id}/callbacks` and `/callbacks/...`. Another app's runs and callbacks are not found."""

    tag = "Callbacks"

    def __init__(self, api: Api, services: NativeServices) -> None:
        super().__init__(api)
        self._webhook_sender = services.webhook_sender

    @Operation("GET", "/workflow-runs/{workflow_run_id}/callbacks", callbacks.CALLBACKS, errors=[NotFound(_NO_RUN)])
    async def list_callbacks(self, request: Request) -> Response:
        """List a run's callbacks.

        The messages to the run's `callback_url`, oldest first: one when it ended, one for each pause; and the e-mails
        about its forms. `status` is `pending` (to be tried at `next_attempt_at`), `delivered` or `failed`.
        """
        app = (await self.api.authenticate(request)).app
        run = as_uuid(request.path_params["workflow_run_id"], NotFound(_NO_RUN))
        summary = await self.api.run_service.runs.find_run(run)
        if summary is None or summary.app != app.id:
            raise NotFound(_NO_RUN)
        return json_response(
            {"data": [callback_body(callback) for callback in await self._webhook_sender.callbacks.callbacks_of(run)]}
        )

    @Operation("POST", "/callbacks/{callback_id}/resend", {202: callbacks.RESENT}, errors=[NotFound(_NO_CALLBACK)])
    async def resend_callback(self, request: Request) -> Response:
        """Send a callback again.

        Makes the callback pending again, due now and with all its attempts, whether it was delivered, failed, or waits
        for its next attempt. Its id stays the same, so a receiver that goes by `webhook-id` recognizes it. One that is
        being sent at this moment stays as it is.
        """
        app = (await self.api.authenticate(request)).app
        callback_id = as_uuid(request.path_params["callback_id"], NotFound(_NO_CALLBACK))
        callback = await self._webhook_sender.callbacks.find_callback(callback_id)
        if callback is None or callback.app != app.id:
            raise NotFound(_NO_CALLBACK)
        return json_response(callback_body(await self._webhook_sender.resend(callback)), 202)

    @Operation("GET", "/callbacks/secret", callbacks.SECRET)
    async def get_callback_secret(self, request: Request) -> Response:
        """Get the signing secret.

        The secret that signs this app's callbacks, for receivers to verify them (Standard Webhooks, `v1`). It never
        changes.
        """
        # read-only keys could sign webhooks that receivers trust
        app = (await self.api.authenticate(request, "run")).app
        body: CallbackSecret = {"secret": self._webhook_sender.signing_secret(app.id)}
        return json_response(body, headers={"Cache-Control": "no-store"})
