"""Documents of knowledge bases: list, get, remove, enable, archive, download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify.dataset_access import (
    LIMIT,
    NO_API,
    NO_DATASET,
    NO_DOCUMENT,
    PAGE,
    KnowledgeRoutes,
    page_of,
)
from headrace.api.dify.dataset_downloads import zip_response
from headrace.api.dify.dataset_responses import document_bodies, file_detail, metadata_values, status_body
from headrace.api.dify.schemas import documents as schemas
from headrace.api.http.params import TEXT_SCHEMA, Parameter, choice, keyword, text
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content, success
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import StoredFile
from headrace.ports.knowledge import Dataset, Document, DocumentFilter, ProcessRule, Progress
from headrace.values import Value

_DOCUMENTS = "/datasets/{dataset_id}/documents"
_DOCUMENT = f"{_DOCUMENTS}/{{document_id}}"
_ACTIONS = ("enable", "disable", "archive", "un_archive")
_ACTION = Parameter("path", "action", "What to do with the documents", TEXT_SCHEMA | {"enum": list(_ACTIONS)}, True)
KEYWORD = keyword("Text in the name")
STATUS = choice(
    "status",
    "Only documents in this state",
    ("queuing", "indexing", "paused", "error", "available", "disabled", "archived"),
    None,
)
_METADATA = text("metadata", "`all`, `only` the metadata, or `without` it; `all` by default")
_NOT_FOUND = (NO_API, NO_DATASET, NO_DOCUMENT)
_BAD_METADATA = RequestError("Invalid metadata value: x", "invalid_metadata", 400)
_BAD_ACTION = RequestError("Invalid action.", "invalid_action", 400)
ARCHIVED = RequestError("The archived document is not editable.", "archived_document_immutable", 403)
_NO_BATCH = NotFound("Documents not found.")
_NO_FILE = NotFound("Uploaded file not found.")
_MOST_IN_ARCHIVE = 100
_TOO_MANY = InvalidParam(f"document_ids: Input should have 1 to {_MOST_IN_ARCHIVE} entries")


class DocumentRoutes(KnowledgeRoutes):
    """`/v1/datasets/{dataset_id}/documents...`."""

    tag = "Documents"

    @Operation(
        "GET",
        _DOCUMENTS,
        schemas.DOCUMENTS,
        parameters=(PAGE, LIMIT, KEYWORD, STATUS),
        errors=(NO_API, NO_DATASET),
    )
    async def list_documents(self, request: Request) -> Response:
        """List the documents of a knowledge base.

        Newest first. A page has at most 100.
        """
        _, dataset = await self.dataset(request)
        page, limit = page_of(request)
        keyword = KEYWORD.of(request)
        which = DocumentFilter(keyword, STATUS.of(request) or "", (page - 1) * limit, limit)
        documents, total = await self.knowledge.store.documents.documents(dataset.id, which)
        response: schemas.DocumentPage = {
            "data": await self._bodies(dataset, documents),
            "has_more": page * limit < total,
            "limit": limit,
            "total": total,
            "page": page,
        }
        return json_response(response)

    @Operation("GET", _DOCUMENT, schemas.DETAIL, parameters=(_METADATA,), errors=(_BAD_METADATA, *_NOT_FOUND))
    async def get_document(self, request: Request) -> Response:
        """Get a document."""
        _, dataset, document = await self.document(request)
        part = _METADATA.of(request) or "all"
        if part not in ("all", "only", "without"):
            raise RequestError(f"Invalid metadata value: {part[:50]}", "invalid_metadata", 400)
        response: schemas.DocumentDetail = {"id": document.id}
        if part != "without":
            fields = await self.knowledge.store.datasets.metadata_fields(dataset.id)
            response["doc_type"] = document.doc_type
            response["doc_metadata"] = metadata_values(dataset, document, fields)
        if part != "only":
            [body] = await self._bodies(dataset, [document])
            response = {**_without_metadata(body), **await self._detail(dataset, document), **response}
        return json_response(response)

    @Operation("DELETE", _DOCUMENT, {204: ()}, errors=(ARCHIVED, *_NOT_FOUND))
    async def remove_document(self, request: Request) -> Response:
        """Remove a document.

        With its segments. One that is being indexed, too.
        """
        _, _, document = await self.document(request)
        await self.knowledge.delete_document(document)
        return no_content()

    @Operation(
        "GET", f"{_DOCUMENTS}/{{batch}}/indexing-status", schemas.STATUSES, errors=(NO_API, NO_DATASET, _NO_BATCH)
    )
    async def get_indexing_status(self, request: Request) -> Response:
        """Get the progress of indexing.

        Of the documents of a batch, as creating or changing them returned it.
        """
        _, dataset = await self.dataset(request)
        batch = request.path_params["batch"].replace("\0", "")
        documents = await self.knowledge.store.documents.documents_of_batch(dataset.id, batch)
        if not documents:
            raise _NO_BATCH
        progress = await self.knowledge.store.segments.progress([document.id for document in documents])
        response: schemas.IndexingStatuses = {
            "data": [status_body(document, *progress.get(document.id, Progress(0, 0))) for document in documents]
        }
        return json_response(response)

    @Operation(
        "PATCH",
        f"{_DOCUMENTS}/status/{{action}}",
        schemas.SUCCESS,
        body=schemas.IDS,
        parameters=(_ACTION,),
        errors=(_BAD_ACTION, *_NOT_FOUND),
    )
    async def change_document_status(self, request: Request) -> Response:
        """Enable, disable, archive or unarchive documents.

        All of them, or none if one is being indexed; ids that are not there are ignored. A search finds no document
        that is disabled or archived.
        """
        principal, dataset = await self.dataset(request)
        action = request.path_params["action"]
        if action not in _ACTIONS:
            raise _BAD_ACTION
        ids = await self._ids(request)
        await self.knowledge.set_status(dataset, ids, action, principal.id)
        return success()

    # ------------------------------------------------------------------------------------------------------ download

    @Operation("GET", f"{_DOCUMENT}/download", schemas.URL, errors=(*_NOT_FOUND, _NO_FILE))
    async def get_document_url(self, request: Request) -> Response:
        """Get a URL for a document's file.

        It is signed and needs no key.
        """
        _, _, document = await self.document(request)
        try:
            file, _ = await self.api.files.open(document.file)
        except NotFound:
            raise _NO_FILE from None
        response: schemas.DownloadUrl = {"url": f"{file.file.url}&as_attachment=true"}
        return json_response(response)

    @Operation(
        "POST", f"{_DOCUMENTS}/download-zip", schemas.ZIP, body=schemas.IDS, errors=(*_NOT_FOUND, _NO_FILE, _TOO_MANY)
    )
    async def download_documents(self, request: Request) -> Response:
        """Download the files of documents.

        As one ZIP archive, of up to 100 documents.
        """
        _, dataset = await self.dataset(request, "read")
        ids = await self._ids(request)
        if not 1 <= len(ids) <= _MOST_IN_ARCHIVE:
            raise _TOO_MANY
        found = {
            document.id: document for document in await self.knowledge.store.documents.documents_by_id(dataset.id, ids)
        }
        if len(found) < len(ids):
            raise NO_DOCUMENT
        files = [(found[id_].name, await self._file(found[id_])) for id_ in ids]
        return await zip_response(self.api.files, f"{dataset.name}.zip", files, _NO_FILE)

    # ------------------------------------------------------------------------------------------------------ response

    async def _bodies(self, dataset: Dataset, documents: Sequence[Document]) -> list[schemas.Document]:
        return await document_bodies(self.knowledge, self.api.apps.catalog, dataset, documents)

    async def _detail(self, dataset: Dataset, document: Document) -> schemas.DocumentDetail:
        progress = (await self.knowledge.store.segments.progress([document.id])).get(document.id, Progress(0, 0))
        started, completed = document.processing_started_at, document.completed_at
        rule = document.process_rule
        return {
            "id": document.id,
            "data_source_info": file_detail(await self._file(document), document),
            "dataset_process_rule": _rule(dataset.process_rule or rule),
            "document_process_rule": {"id": rule.id, "dataset_id": dataset.id, **_rule(rule)},
            "doc_language": document.doc_language,
            "completed_at": None if completed is None else int(completed),
            "updated_at": int(document.updated_at),
            "indexing_latency": None if started is None or completed is None else max(completed - started, 0.0),
            "segment_count": progress.total,
            "average_segment_length": document.word_count / progress.total if progress.total else 0,
        }

    async def _file(self, document: Document) -> StoredFile | None:
        return await self.api.apps.catalog.find_file(document.file)

    async def _ids(self, request: Request) -> list[str]:
        body = parse(schemas.DocumentSelection, await self.api.json(request))
        return list(dict.fromkeys(as_uuid(id_, NO_DOCUMENT) for id_ in body["document_ids"]))


def _without_metadata(body: schemas.Document) -> schemas.DocumentDetail:
    return {
        "id": body["id"],
        "position": body["position"],
        "data_source_type": body["data_source_type"],
        "dataset_process_rule_id": body["dataset_process_rule_id"],
        "name": body["name"],
        "created_from": body["created_from"],
        "created_by": body["created_by"],
        "created_at": body["created_at"],
        "tokens": body["tokens"],
        "indexing_status": body["indexing_status"],
        "error": body["error"],
        "enabled": body["enabled"],
        "disabled_at": body["disabled_at"],
        "disabled_by": body["disabled_by"],
        "archived": body["archived"],
        "display_status": body["display_status"],
        "hit_count": body["hit_count"],
        "doc_form": body["doc_form"],
        "summary_index_status": body["summary_index_status"],
        "need_summary": body["need_summary"],
    }


def _rule(rule: ProcessRule) -> Mapping[str, Value]:
    return {"mode": rule.mode, "rules": rule.rules}
