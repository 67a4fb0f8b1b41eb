"""Forms that people fill in, by the token that an event has or an e-mail brings."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import user_of
from headrace.api.dify import examples
from headrace.api.dify.schemas.common import Object
from headrace.api.dify.schemas.forms import FormAction, FormField, FormRequest, FormResponse
from headrace.api.http.errors import user_missing
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.errors import NotFound, RequestError
from headrace.kernel.forms import FILE_TYPES, WEBAPP
from headrace.ports import App
from headrace.runs.forms import TokenForm, check_waiting, form_expired, form_submitted, open_form, submit_form

_NO_FORM = NotFound("Form not found")
_OVER = (_NO_FORM, form_submitted("..."), form_expired("..."))
_PATH = "/form/human_input/{form_token}"


class FormRoutes(Routes):
    """`/v1/form/human_input/{form_token}`."""

    tag = "Human input"

    @Operation("GET", _PATH, Media(FormResponse, examples.FORM), errors=_OVER)
    async def get_human_input_form(self, request: Request) -> Response:
        """Get a form.

        A form that a run waits for, by the `form_token` of its `human_input_required` event. A form that is delivered
        by e-mail only has no token for this.
        """
        release = await self.api.authenticate(request)
        token_form = await self._open_form(request, release.app)
        check_waiting(self.api.run_service, token_form.form)
        form = token_form.request
        body: FormResponse = {
            "form_content": form.content,
            "inputs": cast("list[FormField]", list(form.inputs)),
            "resolved_default_values": cast("dict[str, str]", dict(form.defaults)),
            "user_actions": cast("list[FormAction]", list(form.actions)),
            "expiration_time": token_form.form.expires_at,
        }
        return json_response(body)

    @Operation(
        "POST",
        _PATH,
        Media(Object, {}),
        body=Media(FormRequest, examples.FORM_REQUEST),
        errors=(
            user_missing(),
            RequestError("Missing required inputs: comment", "invalid_form_data", 400),
            *_OVER,
        ),
    )
    async def submit_human_input_form(self, request: Request) -> Response:
        """Answer a form.

        The run continues with the branch of the `action`. The first answer counts, whoever gives it. After an answer
        that is not valid the form still waits.
        """
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        user = user_of(body)
        fields = parse(FormRequest, body)
        token_form = await self._open_form(request, release.app)
        owners = await self._owners(release.app, token_form, user)
        resolve = partial(self.api.resolve, app=release.app.id, owners=owners)
        inputs = dict(fields["inputs"])
        await submit_form(self.api.run_service, token_form, fields["action"], inputs, user, resolve)
        return json_response({})

    async def _owners(self, app: App, token_form: TokenForm, user: str) -> Collection[str]:
        """The end users whose uploads an answer may have: that of the run, and the one who answers."""
        if not any(item["type"] in FILE_TYPES for item in token_form.request.inputs):
            return ()
        run = await self.api.run_service.runs.find_run(token_form.form.run)
        answering = await self.api.caller(app, user)
        return {answering.id, *([run.end_user] if run and run.end_user else [])}

    async def _open_form(self, request: Request, app: App) -> TokenForm:
        """The form of a token. Those of other apps, and tokens that an e-mail has, are not found."""
        token_form = await open_form(self.api.run_service, request.path_params["form_token"])
        if token_form is None or token_form.form.app != app.id or token_form.token.channel != WEBAPP:
            raise _NO_FORM
        return token_form
