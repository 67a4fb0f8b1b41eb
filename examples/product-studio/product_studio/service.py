"""The workflow, as the shop sees it: a name goes in; a description and a picture come out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import httpx
from headrace_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ConflictError,
    HeadraceError,
    NotFoundError,
    PermissionDeniedError,
    PollingPlan,
    RateLimitError,
    RetryPolicy,
    RunFailedError,
    ValidationError,
    WorkflowRun,
)
from pydantic import ValidationError as Mismatch

from product_studio.models import Failed, Finished, ProductDetail, Reason
from product_studio.pictures import PictureError, fetch_picture
from product_studio.settings import Settings
from product_studio.store import Store, picture_url

_RETRY = RetryPolicy(max_retries=2, delay=0.3)  # somebody is waiting; the page itself asks again for minutes
_POLLING = PollingPlan(first=0.5, longest=2.0, timeout=60.0)

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

    async def create(self, product_name: str) -> dict[str, Any]:
        """The workflow's outputs, once the run has ended. HeadraceError if it fails."""
        run = await self.client.run_and_wait({"product_name": product_name}, raise_on_failure=True)
        _log.info("product detail created", extra={"run_id": run.workflow_run_id, "seconds": run.elapsed_time})
        return dict(run.outputs or {})

    async def retry(self, run_id: str) -> str | None:
        """The new run that continues a failed one from the node that failed. None if the server cannot do that: Dify
        has no such endpoint, and Headrace continues no run that succeeded or is not there any more."""
        try:
            return (await self.client.retry_workflow_run(run_id)).workflow_run_id
        except (NotFoundError, ValidationError, ConflictError) as error:
            _log.info("a run cannot be continued: %s", error, extra={"run_id": run_id})
            return None

    async def stop(self, task_id: str) -> None:
        """Stops a run. One that has already ended is not an error."""
        await self.client.stop_workflow(task_id)
        _log.info("run stopped", extra={"task_id": task_id})

    async def wait(self, run_id: str) -> WorkflowRun:
        """A run once it has ended, from a server that cannot repeat its stream. WaitTimeoutError after a minute."""
        return await self.client.wait(run_id, polling=_POLLING)

    async def form_url(self, token: str) -> str | None:
        """The page on which people answer a form. None if the server has none: Dify's is on its web app's address."""
        url = f"{self.client.base_url.rstrip('/')}/form/{quote(token, safe='')}"
        try:
            response = await self._http.get(url)
        except httpx.HTTPError as error:
            _log.warning("the page of a form could not be fetched: %s", type(error).__name__)  # the URL is a secret
            return None
        return url if response.status_code == 200 else None

    async def error_type(self, run_id: str) -> str | None:
        """The type of the error of the node that failed. None if the server does not say (Dify)."""
        try:
            node = (await self.client.get_workflow_run_status(run_id)).error_node
        except HeadraceError as error:
            _log.warning("the cause of a failed run could not be fetched: %s", error, extra={"run_id": run_id})
            return None
        return node.error_type if node is not None else None

    async def finish(self, outputs: object) -> Finished | Failed:
        """The result of a run that succeeded; its picture is stored here."""
        try:
            detail = ProductDetail.model_validate(outputs)
        except Mismatch as error:
            _log.error("the workflow's outputs are not those of the example", extra={"errors": error.error_count()})
            return Failed(reason="configuration")
        picture_id = detail.prompt_id
        try:
            if await asyncio.to_thread(self._store.picture, picture_id) is None:
                picture = await fetch_picture(self._http, self.client.base_url, detail.image_url)
                await asyncio.to_thread(self._store.add_picture, picture_id, picture)
        except PictureError as error:
            _log.warning("no picture: %s", error)
            return Finished(description=detail.description, picture_id=None, picture_url=None)
        return Finished(description=detail.description, picture_id=picture_id, picture_url=picture_url(picture_id))


def to_failed(error: HeadraceError) -> Failed:
    """An error in the page's words. The server's own words go into the log, not to the browser."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "service")
    _log.error("the workflow could not be run: %s", error, extra={"reason": reason, "run_id": error.run_id})
    return Failed(reason=reason)
