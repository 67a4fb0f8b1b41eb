"""A request to run a workflow, sent to whichever API the server has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from headrace_client._async.core import AsyncSession, encode_segment
from headrace_client._async.transport import Timeout
from headrace_client.errors import NotFoundError
from headrace_client.wire import is_json, is_uuid

_log = logging.getLogger("headrace_client")

_HINT = (
    " On Dify, a workflow id identifies one published version (it is not the app's id in the studio's URL); "
    "leave workflow_id out to run the latest published version."
)


class AsyncWorkflowRequest:
    """A request to run a workflow. Its files are uploaded once, and retries have the same Idempotency-Key."""

    def __init__(
        self,
        session: AsyncSession,
        workflow_id: str | None,
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str,
        timeout: Timeout,
        key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """`extra`: fields of the request that only Headrace accepts."""
        self.session = session
        self.user = user
        self._workflow_id = workflow_id
        self._inputs = inputs
        self._files = files
        self._timeout = timeout
        self._idempotency_key = key or str(uuid4())
        self._extra = extra or {}
        self._body: Mapping[str, Any] | None = None

    async def open_stream(self) -> httpx.Response:
        """Starts the run and returns its stream."""
        return await self.send_to_headrace("streaming") or await self.send_to_dify("streaming")

    async def reopen_stream(self) -> httpx.Response | None:
        """The same stream from its start; None if the request could start a second run."""
        return await self.send_to_headrace("streaming") if self.session.state.has_async_api else None

    async def send_to_headrace(self, mode: str) -> httpx.Response | None:
        """The response of Headrace's asynchronous API. None if the server does not have it, or does not know the id.
        The request may be repeated: Headrace starts one run per key, and other servers start none."""
        session, workflow_id = self.session, self._workflow_id
        if not workflow_id or session.state.has_async_api is False or workflow_id in session.state.placeholders:
            return None
        placeholder = not is_uuid(workflow_id)

        def accept(response: httpx.Response) -> bool:
            return session.is_foreign(response) or (response.status_code == 404 and placeholder)

        stream = mode == "streaming"
        response = await session.transport.request(
            "POST",
            f"/api/v1/workflows/{encode_segment(workflow_id)}/run",
            json={**await self._build_body(), **self._extra, "response_mode": mode},
            headers={"Idempotency-Key": self._idempotency_key},
            timeout=self._timeout,
            stream=stream,
            accept=accept,
        )
        if session.detect_async_api(response):
            if response.is_success and (stream or is_json(response)):
                return response
            session.state.placeholders.add(workflow_id)
        await response.aclose()
        return None

    async def send_to_dify(self, mode: str) -> httpx.Response:
        """The response under `/v1`. The request is repeated only if it did not reach the server."""
        workflow_id = self._workflow_id
        if workflow_id and not is_uuid(workflow_id):
            if workflow_id not in self.session.state.reported_placeholders:
                self.session.state.reported_placeholders.add(workflow_id)
                _log.warning("workflow id %r is not a UUID: running the API key's published workflow", workflow_id)
            workflow_id = None
        stream = mode == "streaming"
        try:
            return await self.session.transport.request(
                "POST",
                f"/v1/workflows/{workflow_id}/run" if workflow_id else "/v1/workflows/run",
                json={**await self._build_body(), "response_mode": mode},
                timeout=self._timeout,
                repeat=False,
                stream=stream,
            )
        except NotFoundError as error:
            if workflow_id:
                error.message += _HINT
            raise

    async def _build_body(self) -> Mapping[str, Any]:
        if self._body is None:
            self._body = await self.session.build_body(self._inputs, self._files, self.user)
        return self._body
