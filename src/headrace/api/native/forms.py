"""The forms that runs of several apps wait for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.http.params import uuid
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.cursor import CURSOR, PAGE_LIMIT, cursor_of
from headrace.api.native.schemas import forms
from headrace.api.native.schemas.forms import FormPage, form_line
from headrace.kernel.forms import WAITING
from headrace.ports import Form

_RUN = uuid("workflow_run_id", "Forms of this run")


class FormListRoutes(Routes):
    """`/forms`."""

    tag = forms.TAG

    @Operation("GET", "/forms", forms.FORMS, parameters=(_RUN, PAGE_LIMIT, CURSOR))
    async def list_forms(self, request: Request) -> Response:
        """List the forms that wait.

        Forms that runs wait for people to fill in, the first due first: those of the app that the request names, or
        else of all apps that the key may call. `form_token` opens and answers a form
        (`/v1/form/human_input/{form_token}`); it is null for forms that are delivered by e-mail only, and for keys that
        may not run. Without a key it opens the page of the form (`/form/{form_token}`). For the next page give
        `next_cursor` as `cursor`; it is null on the last.
        """
        principal = await self.api.principal(request)
        apps = {app.id: app for app in await self.api.choices(request)}
        run, limit, after = _RUN.of(request), PAGE_LIMIT.of(request), CURSOR.of(request)
        place = None if after is None else (int(after[0]), after[1])
        store = self.api.run_service.forms
        if run is None:
            waiting = await store.waiting_forms(list(apps), place, limit + 1)
        else:
            waiting = [form for form in await store.forms_of(run) if form.app in apps and form.status == WAITING]
            waiting = [form for form in sorted(waiting, key=_place) if place is None or _place(form) > place]
        page, more = waiting[:limit], len(waiting) > limit
        answers = "run" in principal.permissions
        body: FormPage = {
            "data": [form_line(form, apps[form.app], token=answers) for form in page],
            "next_cursor": cursor_of(page[-1].expires_at, page[-1].id) if more else None,
        }
        return json_response(body)


def _place(form: Form) -> tuple[int, str]:
    return form.expires_at, form.id
