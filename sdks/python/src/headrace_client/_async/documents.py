"""Documents of knowledge bases: create, wait until they are indexed, list, change, download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from headrace_client._async.dataset_calls import AsyncDatasetResource, dataset_path
from headrace_client._async.pages import AsyncPages
from headrace_client._async.transport import Timeout
from headrace_client.dataset_models import Document, DocumentDetail, IndexedDocument, IndexingStatus
from headrace_client.errors import APITimeoutError, IndexingFailedError, UsageError, WaitTimeoutError
from headrace_client.models import Result
from headrace_client.options import PollingPlan
from headrace_client.response_model import Page
from headrace_client.wire import format_seconds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from headrace_client.dataset_models import PipelineRun
    from headrace_client.dataset_settings import DocumentAction, DocumentSettings

_GRACE = 5.0  # seconds that the last request of a wait may take


class AsyncDocuments(AsyncDatasetResource):
    """Calls for the documents of knowledge bases."""

    # ------------------------------------------------------------------------------------------------------- create

    async def create_document_by_text(
        self,
        dataset_id: str,
        name: str,
        text: str,
        *,
        timeout: Timeout = None,
        **settings: Unpack[DocumentSettings],
    ) -> IndexedDocument:
        """Creates a document, which is indexed after the response: see `wait_until_indexed`. `settings`: see
        `DocumentSettings`."""
        path = dataset_path(dataset_id, "document", "create-by-text")
        body = {"name": name, "text": text, **settings}
        return await self._call(IndexedDocument, "POST", path, body, timeout=timeout, repeat=False)

    async def create_document_by_file(
        self,
        dataset_id: str,
        file: Any,
        *,
        filename: str | None = None,
        timeout: Timeout = None,
        **settings: Unpack[DocumentSettings],
    ) -> IndexedDocument:
        """Creates a document of a file: a path, bytes, a file object opened in binary mode, or a `File`. A path or a
        file object is not read into memory. It is indexed after the response."""
        path = dataset_path(dataset_id, "document", "create-by-file")
        return await self._upload(IndexedDocument, path, file, filename, settings, timeout)

    async def update_document_by_text(
        self,
        dataset_id: str,
        document_id: str,
        *,
        name: str | None = None,
        text: str | None = None,
        timeout: Timeout = None,
        **settings: Unpack[DocumentSettings],
    ) -> IndexedDocument:
        """Indexes a document again: with another name, text or settings."""
        path = dataset_path(dataset_id, "documents", document_id, "update-by-text")
        new = {field: value for field, value in (("name", name), ("text", text)) if value is not None}
        return await self._call(IndexedDocument, "POST", path, {**new, **settings}, timeout=timeout, repeat=False)

    async def update_document_by_file(
        self,
        dataset_id: str,
        document_id: str,
        file: Any,
        *,
        filename: str | None = None,
        timeout: Timeout = None,
        **settings: Unpack[DocumentSettings],
    ) -> IndexedDocument:
        """Replaces the content of a document by a file, and indexes it again."""
        path = dataset_path(dataset_id, "documents", document_id, "update-by-file")
        return await self._upload(IndexedDocument, path, file, filename, settings, timeout)

    # --------------------------------------------------------------------------------------------------------- wait

    async def get_indexing_status(
        self, dataset_id: str, batch: str | IndexedDocument | PipelineRun, *, timeout: Timeout = None
    ) -> list[IndexingStatus]:
        """How far the documents of a batch are. `batch`: as creating or changing a document returned it."""
        path = dataset_path(dataset_id, "documents", _to_batch(batch), "indexing-status")
        return (await self._call(Page[IndexingStatus], "GET", path, timeout=timeout)).data

    async def wait_until_indexed(
        self,
        dataset_id: str,
        batch: str | IndexedDocument | PipelineRun,
        *,
        polling: PollingPlan | None = None,
        raise_on_failure: bool = False,
    ) -> list[IndexingStatus]:
        """Polls until all documents of a batch are completed or in error. IndexingFailedError with `raise_on_failure`
        if one is in error. WaitTimeoutError, with the last statuses, after the plan's timeout; the indexing itself
        continues."""
        plan, clock = polling or self._session.polling, self._transport.clock
        deadline = clock() + plan.timeout
        interval = plan.first
        documents: list[IndexingStatus] = []
        while (remaining := deadline - clock()) > 0:
            await self._transport.sleep(min(interval, remaining))
            interval = plan.after(interval)
            try:
                grace = max(deadline - clock(), 0.0) + _GRACE
                documents = await self.get_indexing_status(dataset_id, batch, timeout=grace)
            except APITimeoutError as error:
                if clock() < deadline:
                    raise
                raise _wait_timeout(documents, plan) from error
            if all(document.ended for document in documents):
                failures = [document for document in documents if document.indexing_status == "error"]
                if failures and raise_on_failure:
                    raise _indexing_failed(failures, documents)
                return documents
        raise _wait_timeout(documents, plan)

    # --------------------------------------------------------------------------------------------------- read, change

    def list_documents(
        self,
        dataset_id: str,
        *,
        keyword: str | None = None,
        status: str | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AsyncPages[Document]:
        """The documents of a knowledge base, newest first. `status`: queuing, indexing, paused, error, available,
        disabled or archived. A page has at most 100."""
        params = {"keyword": keyword, "status": status, "limit": limit}
        return self._pages(Page[Document], dataset_path(dataset_id, "documents"), params, page)

    async def get_document(
        self,
        dataset_id: str,
        document_id: str,
        *,
        metadata: Literal["all", "only", "without"] | None = None,
        timeout: Timeout = None,
    ) -> DocumentDetail:
        """A document with its settings. `metadata`: all fields (the default), only the metadata, or all without it."""
        path = dataset_path(dataset_id, "documents", document_id)
        return await self._call(DocumentDetail, "GET", path, params={"metadata": metadata}, timeout=timeout)

    async def delete_document(self, dataset_id: str, document_id: str, *, timeout: Timeout = None) -> None:
        """Deletes a document and its segments."""
        await self._send("DELETE", dataset_path(dataset_id, "documents", document_id), timeout=timeout)

    async def update_document_status(
        self, dataset_id: str, document_ids: Sequence[str], action: DocumentAction, *, timeout: Timeout = None
    ) -> Result:
        """Enables, disables, archives documents, or takes them out of the archive. A search finds only documents that
        are enabled and not archived."""
        path = dataset_path(dataset_id, "documents", "status", action)
        return await self._call(Result, "PATCH", path, {"document_ids": list(document_ids)}, timeout=timeout)

    async def get_document_url(self, dataset_id: str, document_id: str, *, timeout: Timeout = None) -> str:
        """A signed URL of a document's file; no key is needed to download it."""
        path = dataset_path(dataset_id, "documents", document_id, "download")
        payload = await self._transport.get(path, timeout=timeout)
        return str(payload.get("url") or "")

    async def download_documents(
        self, dataset_id: str, document_ids: Sequence[str], *, timeout: Timeout = None
    ) -> bytes:
        """The files of up to 100 documents, as one ZIP archive."""
        path = dataset_path(dataset_id, "documents", "download-zip")
        body = {"document_ids": list(document_ids)}
        return (await self._transport.request("POST", path, json=body, timeout=timeout)).content


def _to_batch(batch: str | IndexedDocument | PipelineRun) -> str:
    name = batch if isinstance(batch, str) else batch.batch
    if not name:
        raise UsageError("A batch is required: a string, or what creating or changing a document returned.")
    return name


def _indexing_failed(failures: Sequence[IndexingStatus], documents: Sequence[IndexingStatus]) -> IndexingFailedError:
    reasons = "; ".join(f"{document.id}: {document.error or 'unknown error'}" for document in failures[:3])
    error = IndexingFailedError(f"{len(failures)} of {len(documents)} documents could not be indexed: {reasons}")
    error.documents = documents
    return error


def _wait_timeout(documents: Sequence[IndexingStatus], plan: PollingPlan) -> WaitTimeoutError:
    count = sum(document.ended for document in documents)
    progress = f"{count} of {len(documents)} documents have ended" if documents else "its status is not known"
    error = WaitTimeoutError(f"The indexing had not ended after {format_seconds(plan.timeout)}; {progress}.")
    error.documents = documents
    return error
