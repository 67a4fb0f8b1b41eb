"""The app, its files, human input forms, datasets, and the server's health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headrace_client._async.core import AsyncResource, encode_segment
from headrace_client._async.transport import Timeout
from headrace_client.file_inputs import may_be_file
from headrace_client.human_input import HumanInputForm
from headrace_client.models import (
    AppInfo,
    AppMeta,
    AppParameters,
    AppSite,
    Health,
    Result,
    UploadedFile,
)
from headrace_client.response_model import Payload
from headrace_client.wire import is_json, parse_model, parse_object

if TYPE_CHECKING:
    from headrace_client._async.datasets import AsyncDatasets


class AsyncApps(AsyncResource):
    """Calls for the app, its files, human input forms, datasets and health."""

    async def get_info(self, *, timeout: Timeout = None) -> AppInfo:
        """The app's name, description and mode."""
        return parse_model(AppInfo, await self._transport.get("/v1/info", timeout=timeout))

    async def get_parameters(self, *, timeout: Timeout = None) -> AppParameters:
        """The app's input form and features."""
        return await self._session.get_parameters(timeout=timeout)

    async def get_meta(self, *, timeout: Timeout = None) -> AppMeta:
        """The icons of the tools that the app uses."""
        return parse_model(AppMeta, await self._transport.get("/v1/meta", timeout=timeout))

    async def get_site(self, *, timeout: Timeout = None) -> AppSite:
        """The settings of the app's web page."""
        return parse_model(AppSite, await self._transport.get("/v1/site", timeout=timeout))

    async def upload_file(
        self, file: Any, *, filename: str | None = None, user: str | None = None, timeout: Timeout = None
    ) -> UploadedFile:
        """Uploads a file: a path, bytes, a file object opened in binary mode, or a `File`. The returned object, or its
        `id`, can be used in `inputs` and `files` of the same user's runs."""
        return await self._session.upload_file(file, filename=filename, user=user, timeout=timeout)

    async def download_file(self, file_id: str, *, user: str | None = None, timeout: Timeout = None) -> bytes:
        """The bytes of an uploaded file."""
        params = {"user": user or self._session.user}
        path = f"/v1/files/{encode_segment(file_id)}/preview"
        return (await self._transport.request("GET", path, params=params, timeout=timeout)).content

    async def get_human_input_form(self, form_token: str, *, timeout: Timeout = None) -> HumanInputForm:
        """The form of a run that waits for a person's input. `form_token` is in the event human_input_required."""
        path = f"/v1/form/human_input/{encode_segment(form_token)}"
        return parse_model(HumanInputForm, await self._transport.get(path, timeout=timeout))

    async def submit_human_input_form(
        self,
        form_token: str,
        *,
        action: str,
        inputs: Mapping[str, Any] | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Result:
        """Submits a form; the run continues. `action`: the id of one of its `user_actions`. `inputs`: all of its inputs
        by name; files are uploaded, or referenced by URL. ValidationError with the status 412 if the form has been
        submitted, or its time is over."""
        values = dict(inputs or {})
        name = user or self._session.user
        if any(may_be_file(value) for value in values.values()):
            form = await self.get_human_input_form(form_token, timeout=timeout)
            values = await self._session.map_values(values, form.variables(), name)
        body = {"inputs": values, "action": action, "user": name}
        path = f"/v1/form/human_input/{encode_segment(form_token)}"
        return parse_model(Result, await self._transport.post(path, body, timeout, repeat=False))

    @property
    def datasets(self) -> AsyncDatasets:
        """Knowledge bases. Their calls need a knowledge key (`dataset-...`) instead of an app's."""
        from headrace_client._async.datasets import AsyncDatasets

        return AsyncDatasets(self._session)

    async def get_health(self, *, timeout: Timeout = None) -> Health:
        """Whether the server is alive (Headrace: /healthz)."""
        return await self._health("/healthz", timeout)

    async def get_readiness(self, *, timeout: Timeout = None) -> Health:
        """Whether the server accepts requests (Headrace: /readyz). It is not an error if it does not."""
        return await self._health("/readyz", timeout)

    async def _health(self, path: str, timeout: Timeout) -> Health:
        response = await self._transport.request(
            "GET",
            path,
            timeout=timeout,
            repeat=False,
            accept=lambda response: response.status_code == 503 and is_json(response),
        )
        return parse_model(Health, Payload({**parse_object(response), "healthy": response.is_success}, response))
