"""The workflow, as the shop sees it: a name goes in; a description and a picture come out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx
from headrace_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    HeadraceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    RunFailedError,
    ValidationError,
)
from headrace_client.events import Event, NodeFinished, NodeStarted, TextChunk, WorkflowFinished, WorkflowStarted
from pydantic import ValidationError as Mismatch

from product_studio.models import Failed, Finished, Node, ProductDetail, Progress, Reason, Started, Text
from product_studio.pictures import PictureError, made
from product_studio.settings import Settings
from product_studio.store import Store, picture_url

RUN_SECONDS = 300.0
_RETRY = RetryPolicy(max_retries=2, delay=0.3)  # somebody is waiting: rather tell them soon

_log = logging.getLogger(__name__)

_REASONS: tuple[tuple[type[HeadraceError], Reason], ...] = (
    (RunFailedError, "run"),
    (RateLimitError, "busy"),
    (APITimeoutError, "timeout"),
    (APIConnectionError, "unreachable"),
    (AuthenticationError, "configuration"),
    (PermissionDeniedError, "configuration"),
    (NotFoundError, "configuration"),
    (ValidationError, "configuration"),
)


class ProductDetailService:
    """Calls the workflow. One for the whole application: its client pools the connections."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, store: Store) -> None:
        self.client = AsyncClient(
            api_key=settings.dify_create_product_detail_api_key.get_secret_value(),
            base_url=settings.dify_workflow_api_endpoint,
            user=settings.dify_user_id,
            retry=_RETRY,
            http_client=http,
        )
        self._http = http
        self._store = store
        self.watched: set[Generation] = set()

    async def create(self, product_name: str) -> dict[str, Any]:
        """The workflow's outputs, once it has ended. HeadraceError if it fails."""
        run = await self.client.run_and_wait({"product_name": product_name}, raise_on_failure=True)
        _log.info("product detail created", extra={"run_id": run.workflow_run_id, "seconds": run.elapsed_time})
        return dict(run.outputs or {})

    def generate(self, product_name: str) -> Generation:
        """The same while one watches."""
        return Generation(self, product_name)

    async def close(self) -> None:
        """Stops what is still watched: the server ends."""
        await asyncio.gather(*[each.leave() for each in self.watched])

    async def stop(self, task_id: str) -> None:
        """Stops a run. One that has ended already is no error."""
        await self.client.stop_workflow(task_id)
        _log.info("run stopped", extra={"task_id": task_id})

    async def finished(self, outputs: object) -> Progress:
        """What a run that succeeded comes to; its picture is kept here."""
        try:
            detail = ProductDetail.model_validate(outputs)
        except Mismatch as error:
            _log.error("the workflow's outputs are not what was expected", extra={"errors": error.error_count()})
            return Failed(reason="configuration")
        try:
            picture = await made(self._http, self.client.base_url, detail.image_url)
        except PictureError as error:
            _log.warning("no picture: %s", error)
            return Finished(description=detail.description, picture_id=None, picture_url=None)
        await asyncio.to_thread(self._store.add_picture, detail.prompt_id, picture)
        url = picture_url(detail.prompt_id)
        return Finished(description=detail.description, picture_id=detail.prompt_id, picture_url=url)


class Generation:
    """A run that is watched, and stopped if it is left before its end.

    async with service.generate("a name") as generation:
        async for progress in generation:
            ...
    """

    def __init__(self, service: ProductDetailService, product_name: str) -> None:
        self._service = service
        self._stream = service.client.stream_workflow({"product_name": product_name})
        self._until = asyncio.get_running_loop().time() + RUN_SECONDS
        self._first: Event | HeadraceError | None = None
        self._writers: set[str] = set()  # the nodes whose text is the description
        self._failed: str | None = None  # the title of the node that did
        self._over = False

    async def __aenter__(self) -> Self:
        """Waits for the first event: it names the task, without which the run could not be stopped."""
        self._service.watched.add(self)
        try:
            self._first = await anext(self._stream)
        except HeadraceError as error:
            self._first = error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.aclose()
        await self.leave()
        self._service.watched.discard(self)

    async def leave(self) -> None:
        """Stops the run, unless it has ended."""
        task_id = self._stream.task_id
        if task_id is not None and not self._over:
            try:
                await self._service.stop(task_id)
            except HeadraceError as failure:
                _log.warning("a run that was left could not be stopped: %s", failure, extra={"task_id": task_id})

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """What happens, as it happens; the last is Finished or Failed."""
        try:
            if isinstance(self._first, HeadraceError):
                raise self._first
            event = self._first
            while event is not None:
                progress = await self._progress(event)
                if progress is not None:
                    self._over = self._over or isinstance(progress, Finished | Failed)
                    yield progress
                async with asyncio.timeout_at(self._until):
                    event = await anext(self._stream, None)
        except HeadraceError as error:
            yield failed(error)
        except TimeoutError:
            _log.error("the run takes too long", extra={"run_id": self._stream.run_id})
            yield Failed(reason="timeout")

    async def _progress(self, event: Event) -> Progress | None:
        match event:
            case NodeStarted(data=node):
                if node.node_type == "llm":
                    self._writers.add(node.node_id)
                return Node(id=node.node_id, title=node.title or node.node_id, state="running")
            case NodeFinished(data=node):
                title = node.title or node.node_id
                if node.status == "failed":
                    self._failed = title
                return Node(id=node.node_id, title=title, state="done" if node.status == "succeeded" else "failed")
            case TextChunk(data=piece):
                writer = piece.from_variable_selector[0] if piece.from_variable_selector else None
                return Text(text=piece.text) if writer is None or writer in self._writers else None
            case WorkflowFinished(data=outcome) if outcome.status in ("succeeded", "partial-succeeded"):
                return await self._service.finished(outcome.outputs)
            case WorkflowFinished(data=outcome):
                told = {"run_id": self._stream.run_id, "error": outcome.error}
                _log.warning("the run %s", outcome.status, extra=told)
                if outcome.status == "stopped":
                    return Failed(reason="stopped")
                return Failed(reason="run", node=self._failed)
            case WorkflowStarted(task_id=str(task), workflow_run_id=str(run)):
                return Started(task_id=task, run_id=run)
            case _ if event.event in ("error", "workflow_paused"):
                _log.error("the stream ended with %s", event.event, extra={"run_id": self._stream.run_id})
                return Failed(reason="service")
            case _:
                return None


def failed(error: HeadraceError) -> Failed:
    """An error in the page's words. What the server said goes into the log, not to the browser."""
    reasons: list[Reason] = [reason for kind, reason in _REASONS if isinstance(error, kind)]
    reason = reasons[0] if reasons else "service"
    _log.error("the workflow could not be run: %s", error, extra={"reason": reason, "run_id": error.run_id})
    return Failed(reason=reason)
