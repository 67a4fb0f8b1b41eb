"""The app itself, files, forms for people, datasets, and the server's health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace_client._async.core import AsyncCalls, segment
from headrace_client._async.transport import Timeout
from headrace_client.models import (
    AppInfo,
    AppMeta,
    AppParameters,
    AppSite,
    Health,
    HumanInputForm,
    Payload,
    Result,
    Retrieved,
    UploadedFile,
)
from headrace_client.wire import is_json, object_of, typed


class AsyncApps(AsyncCalls):
    """Calls about the app and what it works with."""

    async def get_info(self, *, timeout: Timeout = None) -> AppInfo:
        """The app's name, description and mode."""
        return typed(AppInfo, await self._transport.get("/v1/info", timeout=timeout))

    async def get_parameters(self, *, timeout: Timeout = None) -> AppParameters:
        """What the app takes as inputs, and what it offers."""
        return await self._session.get_parameters(timeout=timeout)

    async def get_meta(self, *, timeout: Timeout = None) -> AppMeta:
        """The icons of the tools that the app uses."""
        return typed(AppMeta, await self._transport.get("/v1/meta", timeout=timeout))

    async def get_site(self, *, timeout: Timeout = None) -> AppSite:
        """How the app's own web page presents itself."""
        return typed(AppSite, await self._transport.get("/v1/site", timeout=timeout))

    async def upload_file(
        self, file: Any, *, filename: str | None = None, user: str | None = None, timeout: Timeout = None
    ) -> UploadedFile:
        """Uploads a file: a path, bytes, a file object opened in binary mode, or a `File`. Its `id` names it in runs of
        the same user; the answer itself may stand in `inputs` and `files`."""
        return await self._session.upload_file(file, filename=filename, user=user, timeout=timeout)

    async def download_file(self, file_id: str, *, user: str | None = None, timeout: Timeout = None) -> bytes:
        """The bytes of an uploaded file."""
        params = {"user": user or self._session.user}
        path = f"/v1/files/{segment(file_id)}/preview"
        return (await self._transport.request("GET", path, params=params, timeout=timeout)).content

    async def get_human_input_form(self, form_token: str, *, timeout: Timeout = None) -> HumanInputForm:
        """What a paused run asks a person for. `form_token` is in the event human_input_required."""
        path = f"/v1/form/human_input/{segment(form_token)}"
        return typed(HumanInputForm, await self._transport.get(path, timeout=timeout))

    async def submit_human_input_form(
        self,
        form_token: str,
        *,
        action: str,
        inputs: Mapping[str, Any] | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Result:
        """Answers a form; the run goes on. `action`: the id of one of its `user_actions`."""
        body = {"inputs": dict(inputs or {}), "action": action, "user": user or self._session.user}
        path = f"/v1/form/human_input/{segment(form_token)}"
        return typed(Result, await self._transport.post(path, body, timeout, repeat=False))

    async def retrieve(self, dataset_id: str, query: str, *, timeout: Timeout = None, **options: Any) -> Retrieved:
        """What a dataset has on a query. Needs a dataset key. `options`: retrieval_model, external_retrieval_model,
        attachment_ids."""
        path = f"/v1/datasets/{segment(dataset_id)}/retrieve"
        return typed(Retrieved, await self._transport.post(path, {"query": query, **options}, timeout))

    async def get_health(self, *, timeout: Timeout = None) -> Health:
        """Whether the server is alive (Headrace: /healthz)."""
        return await self._health("/healthz", timeout)

    async def get_readiness(self, *, timeout: Timeout = None) -> Health:
        """Whether the server takes requests (Headrace: /readyz). One that does not is an answer, too."""
        return await self._health("/readyz", timeout)

    async def _health(self, path: str, timeout: Timeout) -> Health:
        answer = await self._transport.request(
            "GET",
            path,
            timeout=timeout,
            repeat=False,
            refused=lambda found: found.status_code == 503 and is_json(found),
        )
        return typed(Health, Payload({**object_of(answer), "healthy": answer.is_success}, answer))
