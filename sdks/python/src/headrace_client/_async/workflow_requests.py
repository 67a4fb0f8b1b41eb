"""One request to run a workflow, put to whichever API the server has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from headrace_client._async.core import AsyncSession, segment
from headrace_client._async.transport import Timeout
from headrace_client.errors import NotFoundError
from headrace_client.wire import is_json, is_uuid

_log = logging.getLogger("headrace_client")

_HINT = (
    " On Dify, a workflow's id is that of one published version (not the app's id in the studio's address); "
    "leave workflow_id out to run the published one."
)


class AsyncAsk:
    """What is to be run. Its files are uploaded once, and its Idempotency-Key is one, however often it is sent."""

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
        """`extra`: fields of the request that only Headrace knows."""
        self.session = session
        self.user = user
        self._workflow = workflow_id
        self._inputs = inputs
        self._files = files
        self._timeout = timeout
        self._key = key or str(uuid4())
        self._extra = extra or {}
        self._made: Mapping[str, Any] | None = None

    async def stream(self) -> httpx.Response:
        """The run's stream."""
        return await self.headrace("streaming") or await self.dify("streaming")

    async def again(self) -> httpx.Response | None:
        """The same stream from its beginning; None where asking again could begin a second run."""
        return await self.headrace("streaming") if self.session.known.headrace else None

    async def headrace(self, mode: str) -> httpx.Response | None:
        """The answer of Headrace's asynchronous API. None where this server has none, or the id is none that it could
        know. It may be repeated: under its key Headrace makes one run only, and other servers make none."""
        session, workflow = self.session, self._workflow
        if not workflow or session.known.headrace is False or workflow in session.known.placeholders:
            return None
        placeholder = not is_uuid(workflow)

        def refused(answer: httpx.Response) -> bool:
            return session.foreign(answer) or (answer.status_code == 404 and placeholder)

        stream = mode == "streaming"
        answer = await session.transport.request(
            "POST",
            f"/api/v1/workflows/{segment(workflow)}/run",
            json={**await self._body(), **self._extra, "response_mode": mode},
            headers={"Idempotency-Key": self._key},
            timeout=self._timeout,
            stream=stream,
            refused=refused,
        )
        if session.learn(answer):
            if answer.is_success and (stream or is_json(answer)):
                return answer
            session.known.placeholders.add(workflow)
        await answer.aclose()
        return None

    async def dify(self, mode: str) -> httpx.Response:
        """The answer under `/v1`. The request is sent again only where it did not arrive."""
        workflow = self._workflow
        if workflow and not is_uuid(workflow):
            if workflow not in self.session.known.warned:
                self.session.known.warned.add(workflow)
                _log.warning("workflow id %r is no UUID: the workflow of the API key is run as published", workflow)
            workflow = None
        stream = mode == "streaming"
        try:
            return await self.session.transport.request(
                "POST",
                f"/v1/workflows/{workflow}/run" if workflow else "/v1/workflows/run",
                json={**await self._body(), "response_mode": mode},
                timeout=self._timeout,
                repeat=False,
                stream=stream,
            )
        except NotFoundError as error:
            if workflow:
                error.message += _HINT
            raise

    async def _body(self) -> Mapping[str, Any]:
        if self._made is None:
            self._made = await self.session.body(self._inputs, self._files, self.user)
        return self._made
