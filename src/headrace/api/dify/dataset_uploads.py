"""Documents of knowledge bases, created and changed by text or by a file."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify.dataset_access import NO_API, NO_DATASET, NO_DOCUMENT, KnowledgeRoutes
from headrace.api.dify.dataset_documents import ARCHIVED
from headrace.api.dify.dataset_responses import document_bodies
from headrace.api.dify.schemas import documents as schemas
from headrace.api.http.errors import file_too_large, no_file_uploaded, no_filename, unsupported_file_type
from headrace.api.http.multipart import Form, form_of
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, RequestError
from headrace.ports import Principal
from headrace.ports.knowledge import Dataset, Document

if TYPE_CHECKING:
    from headrace.knowledge.process_rules import ProcessRuleSettings
    from headrace.knowledge.service import DocumentSettings

_EXTENSIONS = "txt markdown md mdx pdf html htm xlsx xls vtt properties doc docx csv eml msg pptx ppt xml epub"
EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Files that documents can be made of."""
TOO_MANY_FILES = RequestError("Only one file is allowed.", "too_many_files", 400)
_TEXT, _TEXT_FILE = "text/plain", "document.txt"  # what a text is stored as: its name may be no file name
_NO_TECHNIQUE = InvalidParam("indexing_technique is required.")
_NO_NAME = InvalidParam("name is required when text is provided.")
_UNAVAILABLE = InvalidParam("Document is not available")
_NO_PROVIDER = RequestError(
    "No embedding model is set: name one, or set HEADRACE_EMBEDDING_MODEL to PROVIDER/MODEL.",
    "provider_not_initialize",
    400,
)
_CREATING = (_NO_TECHNIQUE, _NO_PROVIDER, NO_API, NO_DATASET)
_CHANGING = (_UNAVAILABLE, _NO_PROVIDER, NO_API, ARCHIVED, NO_DATASET, NO_DOCUMENT)
_FILES = (TOO_MANY_FILES, no_filename(), file_too_large(15 * 1024 * 1024), unsupported_file_type())


class _Content(NamedTuple):
    content: bytes | IO[bytes]
    filename: str
    mime_type: str
    name: str | None


class DocumentUploadRoutes(KnowledgeRoutes):
    """`/v1/datasets/{dataset_id}/document/create-by-...` and `.../documents/{document_id}/update-by-...`."""

    tag = "Documents"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._largest = api.options.limit_for("")

    @Operation(
        "POST",
        "/datasets/{dataset_id}/document/create-by-text",
        schemas.INDEXED,
        body=schemas.TEXT,
        errors=_CREATING,
    )
    async def create_document_by_text(self, request: Request) -> Response:
        """Create a document by text.

        It is indexed after the response; the batch has its progress. The first document decides what the knowledge base
        leaves open: `indexing_technique`, `doc_form` and the embedding model.
        """
        principal, dataset = await self.dataset(request)
        body = parse(schemas.TextRequest, await self.api.json(request))
        content = _Content(body["text"].encode(), _TEXT_FILE, _TEXT, body["name"])
        return await self._create(principal, dataset, content, body)

    @Operation(
        "POST",
        "/datasets/{dataset_id}/document/create-by-file",
        schemas.INDEXED,
        body=schemas.FILE,
        errors=(no_file_uploaded(), *_FILES, *_CREATING),
    )
    async def create_document_by_file(self, request: Request) -> Response:
        """Create a document by file.

        As by text; the field `data` of the form has the settings, as JSON text.
        """
        principal, dataset = await self.dataset(request)
        async with self._upload(request, required=True) as (form, settings):
            assert form.filename is not None
            content = _Content(form.file, form.filename, _type_of(form), settings.get("name"))
            return await self._create(principal, dataset, content, settings)

    @Operation(
        "POST",
        "/datasets/{dataset_id}/documents/{document_id}/update-by-text",
        schemas.INDEXED,
        body=schemas.TEXT_CHANGE,
        errors=(_NO_NAME, *_CHANGING),
    )
    async def change_document_by_text(self, request: Request) -> Response:
        """Change a document by text.

        It is indexed again, with a new text or new settings.
        """
        _, dataset, document = await self.document(request)
        body = parse(schemas.TextChange, await self.api.json(request))
        text, name = body.get("text"), body.get("name")
        if text and not name:
            raise _NO_NAME
        content = text.encode() if text else None
        new_document = await self.knowledge.update_document(
            dataset, document, _settings(body), content, _TEXT_FILE, _TEXT, name
        )
        return await self._response(dataset, new_document)

    @Operation(
        "POST",
        "/datasets/{dataset_id}/documents/{document_id}/update-by-file",
        schemas.INDEXED,
        body=schemas.FILE_CHANGE,
        errors=(*_FILES, *_CHANGING),
    )
    async def change_document_by_file(self, request: Request) -> Response:
        """Change a document by file.

        It is indexed again, with a new file or new settings.
        """
        return await self._change_by_file(request)

    @Operation(
        "PATCH",
        "/datasets/{dataset_id}/documents/{document_id}",
        schemas.INDEXED,
        body=schemas.FILE_CHANGE,
        errors=(*_FILES, *_CHANGING),
    )
    async def change_document(self, request: Request) -> Response:
        """Change a document.

        As `update-by-file`.
        """
        return await self._change_by_file(request)

    async def _change_by_file(self, request: Request) -> Response:
        _, dataset, document = await self.document(request)
        async with self._upload(request, required=False) as (form, settings):
            content = None if form.filename is None else form.file
            new_document = await self.knowledge.update_document(
                dataset,
                document,
                _settings(settings),
                content,
                form.filename,
                _type_of(form),
                settings.get("name") or form.filename,
            )
        return await self._response(dataset, new_document)

    async def _create(
        self,
        principal: Principal,
        dataset: Dataset,
        content: _Content,
        body: schemas.TextRequest | schemas.FileSettings,
    ) -> Response:
        """Adds a document, or replaces the content of the one that `original_document_id` names."""
        settings = _settings(body)
        if original := body.get("original_document_id"):
            document = await self.knowledge.document(dataset, as_uuid(original, NO_DOCUMENT))
            new_document = await self.knowledge.update_document(dataset, document, settings, *content)
        else:
            new_document = await self.knowledge.add_document(
                dataset, principal.id, content.content, content.filename, content.mime_type, settings, content.name
            )
        return await self._response(dataset, new_document)

    # -------------------------------------------------------------------------------------------------------- forms

    @asynccontextmanager
    async def _upload(self, request: Request, *, required: bool) -> AsyncGenerator[tuple[Form, schemas.FileSettings]]:
        """The form of a request and the settings in it, until the block is left."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise no_file_uploaded()
        largest = self.api.upload_limit("", self._largest)
        form = await form_of(request, largest, file_too_large(largest), self._too_large)
        with form.file:
            check_file(form, required=required)
            data = form.fields.get("data", "")
            yield form, parse(schemas.FileSettings, self.api.object_of(data.encode()) if data.strip() else {})

    def _too_large(self, filename: str, size: int) -> RequestError | None:
        limit = self.api.upload_limit(PurePath(filename).suffix)
        return file_too_large(limit) if size > limit else None

    async def _response(self, dataset: Dataset, document: Document) -> Response:
        [body] = await document_bodies(self.knowledge, self.api.apps.catalog, dataset, [document])
        response: schemas.IndexedDocument = {"document": body, "batch": document.batch}
        return json_response(response)


def _type_of(form: Form) -> str:
    """The MIME type of a form's file, from its name if the client does not say."""
    return form.content_type or mimetypes.guess_type(form.filename or "")[0] or "application/octet-stream"


def check_file(form: Form, *, required: bool) -> None:
    """RequestError for a form without a file, if one is required, or with one that cannot be read."""
    if len(form.file_fields) > 1:
        raise TOO_MANY_FILES
    if form.filename is None:
        if required:
            raise no_file_uploaded()
    elif not form.filename:
        raise no_filename()
    elif PurePath(form.filename).suffix.lower().lstrip(".") not in EXTENSIONS:
        raise unsupported_file_type()


def _settings(body: schemas.DocumentSettings) -> DocumentSettings:
    """The settings of a request that are set, by the names of the service."""
    settings: DocumentSettings = {}
    if technique := body.get("indexing_technique"):
        settings["technique"] = technique
    if form := body.get("doc_form"):
        settings["doc_form"] = form
    if language := body.get("doc_language"):
        settings["doc_language"] = language
    if rule := body.get("process_rule"):
        settings["process_rule"] = cast("ProcessRuleSettings", rule)
    if model := body.get("retrieval_model"):
        settings["retrieval_model"] = {**model}
    if name := body.get("embedding_model"):
        settings["embedding_model"] = name
    if provider := body.get("embedding_model_provider"):
        settings["embedding_provider"] = provider
    return settings
