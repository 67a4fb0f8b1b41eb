"""Triggers: which there are, pausing them, and starting a run by hand."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.keys import can_access
from headrace.api.auth import Api, as_uuid
from headrace.api.http.errors import of_status
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.middleware.request_context import CALLER, TRACE
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.run_finder import accepted
from headrace.api.native.schemas import runs, triggers
from headrace.api.native.schemas.triggers import FireRequest, TriggerList, trigger_body
from headrace.api.native.services import NativeServices
from headrace.errors import NotFound
from headrace.kernel.events import RunId
from headrace.ports import Principal
from headrace.triggers import ServedTrigger, TriggerService
from headrace.triggers.listing import trigger_lines

_TRIGGER = "/triggers/{trigger_id}"
_NO_TRIGGER = NotFound("Trigger not found")


class TriggerRoutes(Routes):
    """`/triggers...`. Those of apps that the key cannot call are not found."""

    tag = "Triggers"

    def __init__(self, api: Api, services: NativeServices) -> None:
        super().__init__(api)
        self._once = services.idempotency.once
        self._triggers = TriggerService(api.run_service)

    @Operation("GET", "/triggers", triggers.TRIGGERS)
    async def list_triggers(self, request: Request) -> Response:
        """List triggers.

        Those of all apps that the key may call, or of the one that the request names.
        """
        principal = await self.api.principal(request)
        apps = await self.api.choices(request)
        lines = await trigger_lines(self._triggers, await self._triggers.triggers(apps))
        base_url = self._base_url(request, principal)
        body: TriggerList = {"data": [trigger_body(line, base_url) for line in lines]}
        return json_response(body)

    @Operation("POST", f"{_TRIGGER}/pause", triggers.TRIGGER, errors=[_NO_TRIGGER])
    async def pause_trigger(self, request: Request) -> Response:
        """Pause a trigger.

        A paused webhook responds with 404, and a paused schedule starts nothing. Needs the permission `manage`.
        """
        return await self._pause(request, paused=True)

    @Operation("POST", f"{_TRIGGER}/resume", triggers.TRIGGER, errors=[_NO_TRIGGER])
    async def resume_trigger(self, request: Request) -> Response:
        """Resume a trigger.

        What a schedule has missed in the meantime does not start a run. Needs the permission `manage`.
        """
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> Response:
        principal, trigger = await self._find(request, "manage")
        await self._triggers.pause(trigger, paused=paused)
        (line,) = await trigger_lines(self._triggers, [trigger])
        return json_response(trigger_body(line, self._base_url(request, principal)))

    @Operation(
        "POST",
        f"{_TRIGGER}/fire",
        {202: runs.ACCEPTED},
        parameters=[KEY_PARAMETER],
        body=triggers.FIRE,
        body_required=False,
        errors=[_NO_TRIGGER, of_status(413), *KEY_ERRORS],
    )
    async def fire_trigger(self, request: Request) -> Response:
        """Start a run at a trigger.

        As if it had fired, also while it is paused. `inputs` are what it outputs; they are not checked as those of a
        request to the webhook are.
        """
        _, trigger = await self._find(request, "run")
        body = await self.api.body(request)

        async def handle(run: RunId | None) -> Response:
            fields = parse(FireRequest, self.api.object_of(body) if body else {})
            inputs = trigger.inputs_of(fields.get("inputs") or {})
            return accepted(await self._triggers.fire(trigger, inputs, run, trace=TRACE.get(), key=CALLER.get()))

        return await self._once(request, trigger.release, body, handle)

    async def _find(self, request: Request, permission: str) -> tuple[Principal, ServedTrigger]:
        principal = await self.api.principal(request, permission)
        trigger = await self._triggers.find(as_uuid(request.path_params["trigger_id"], _NO_TRIGGER))
        if trigger is None or not can_access(principal, trigger.app):
            raise _NO_TRIGGER
        return principal, trigger

    def _base_url(self, request: Request, principal: Principal) -> str | None:
        if "run" not in principal.permissions:
            return None
        return (self.api.options.public_url or str(request.base_url)).rstrip("/")
