"""Knowledge pipelines. Here each knowledge base has one: local files, which are indexed as its other documents are."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify.dataset_access import NO_API, NO_DATASET, KnowledgeRoutes
from headrace.api.dify.dataset_uploads import TOO_MANY_FILES, check_file
from headrace.api.dify.schemas import dataset_metadata as schemas
from headrace.api.http.errors import file_too_large, no_file_uploaded, no_filename, unsupported_file_type
from headrace.api.http.multipart import form_of
from headrace.api.http.params import boolean
from headrace.api.http.request_body import parse
from headrace.api.http.responses import iso, json_response
from headrace.api.http.routing import Operation
from headrace.api.http.schema import EVENT_STREAM, UPLOAD, Media
from headrace.errors import InvalidParam, RequestError

LOCAL_FILE = "local_file"
"""The only datasource, and the id of its node."""
_NO_DRAFT = InvalidParam("is_published: A pipeline here has no draft; use true.")
_NO_PLUGIN = InvalidParam(
    "datasource_type: Only local_file is available: online_document, website_crawl and online_drive need a pipeline "
    "with datasource plugins, which this server does not run."
)
_NOTHING_TO_RUN = InvalidParam(
    "The datasource local_file has nothing to run: upload files at /v1/datasets/pipeline/file-upload, then run the "
    "pipeline."
)
_no_node = partial(InvalidParam, f"The only datasource node is {LOCAL_FILE}.")
_PUBLISHED = boolean("is_published", "Of the published pipeline, or of its draft", default=True)
_ERRORS = (_NO_DRAFT, NO_API, NO_DATASET)


def _no_file(reference: str) -> InvalidParam:
    return InvalidParam(f"datasource_info_list: File not found: {reference[:100]!r}")


class PipelineRoutes(KnowledgeRoutes):
    """`/v1/datasets/pipeline/file-upload` and `/v1/datasets/{dataset_id}/pipeline/...`."""

    tag = "Pipelines"

    @Operation(
        "POST",
        "/datasets/pipeline/file-upload",
        {201: schemas.PIPELINE_FILE},
        body=UPLOAD,
        errors=(
            no_file_uploaded(),
            no_filename(),
            TOO_MANY_FILES,
            file_too_large(15 * 1024 * 1024),
            unsupported_file_type(),
        ),
    )
    async def upload_pipeline_file(self, request: Request) -> Response:
        """Upload a file for a pipeline."""
        principal = await self.api.knowledge_principal(request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise no_file_uploaded()
        largest = self.api.upload_limit("", self.api.options.limit_for(""))
        form = await form_of(request, largest, file_too_large(largest), self._too_large)
        with form.file:
            check_file(form, required=True)
            file = await self.api.files.save(
                form.file,
                filename=form.filename or "",
                mime_type=form.content_type,
                transfer_method="local_file",
                owner=principal.workspace,
            )
        content_file, _ = await self.api.files.open(file.related_id or "")
        response: schemas.PipelineFile = {
            "id": content_file.id,
            "name": file.filename or "",
            "size": file.size,
            "extension": (file.extension or "").lstrip("."),
            "mime_type": file.mime_type,
            "created_by": principal.id,
            "created_at": iso(content_file.created_at),
        }
        return json_response(response, 201)

    @Operation(
        "GET",
        "/datasets/{dataset_id}/pipeline/datasource-plugins",
        schemas.DATASOURCES,
        parameters=(_PUBLISHED,),
        errors=_ERRORS,
    )
    async def list_datasource_plugins(self, request: Request) -> Response:
        """List the datasources of a pipeline.

        Local files: a pipeline here has no other.
        """
        await self.dataset(request)
        if not _PUBLISHED.of(request):
            raise _NO_DRAFT
        response: list[schemas.DatasourcePlugin] = [
            {
                "node_id": LOCAL_FILE,
                "plugin_id": "langgenius/file",
                "provider_name": "file",
                "datasource_type": LOCAL_FILE,
                "title": "File",
                "user_input_variables": [],
                "credentials": [],
            }
        ]
        return json_response(response)

    @Operation(
        "POST",
        "/datasets/{dataset_id}/pipeline/datasource/nodes/{node_id}/run",
        Media(None, "", EVENT_STREAM),
        body=schemas.DATASOURCE_RUN,
        errors=(_NOTHING_TO_RUN, _NO_PLUGIN, _no_node(), *_ERRORS),
    )
    async def run_datasource_node(self, request: Request) -> Response:
        """Run a datasource of a pipeline.

        Local files have nothing to run, and a pipeline here has no other datasource: this always says so.
        """
        await self.dataset(request)
        body = parse(schemas.DatasourceRun, await self.api.json(request))
        _check(body, request.path_params["node_id"])
        raise _NOTHING_TO_RUN

    @Operation(
        "POST",
        "/datasets/{dataset_id}/pipeline/run",
        [Media(None, "", EVENT_STREAM), schemas.PIPELINE_RESULT],
        body=schemas.PIPELINE_RUN,
        errors=(_NO_PLUGIN, _no_node(), _no_file("x"), *_ERRORS),
    )
    async def run_pipeline(self, request: Request) -> Response:
        """Run a pipeline.

        Makes a document of each uploaded file, which is indexed after the response with the settings of the knowledge
        base; the batch has their progress. As in Dify, a published pipeline responds so in both modes.
        """
        principal, dataset = await self.dataset(request)
        body = parse(schemas.PipelineRun, await self.api.json(request))
        _check(body, body["start_node_id"])
        files = [await self._file(principal.workspace, info) for info in body["datasource_info_list"]]
        documents = await self.knowledge.add_stored_files(dataset, principal.id, files)
        response: schemas.PipelineResult = {
            "batch": documents[0].batch,
            "dataset": {
                "id": dataset.id,
                "name": dataset.name,
                "description": dataset.description,
                "chunk_structure": documents[0].doc_form,
            },
            "documents": [
                {
                    "id": document.id,
                    "position": document.position,
                    "data_source_type": document.data_source_type,
                    "data_source_info": {"upload_file_id": document.file},
                    "name": document.name,
                    "indexing_status": document.status,
                    "error": document.error,
                    "enabled": document.enabled,
                }
                for document in documents
            ],
        }
        return json_response(response)

    async def _file(self, workspace: str, info: schemas.LocalFile) -> tuple[str, str]:
        """The id and the name of a file that was uploaded in this workspace for a pipeline."""
        reference = info.get("reference") or info.get("related_id") or ""
        id_ = as_uuid(reference, _no_file(reference))
        stored_file = await self.api.apps.catalog.find_file(id_)
        if stored_file is None or stored_file.owner != workspace or stored_file.app is not None:
            raise _no_file(reference)
        return id_, info.get("name") or stored_file.file.filename or "untitled"

    def _too_large(self, filename: str, size: int) -> RequestError | None:
        limit = self.api.upload_limit(PurePath(filename).suffix)
        return file_too_large(limit) if size > limit else None


def _check(body: schemas.DatasourceRun | schemas.PipelineRun, node: str) -> None:
    """InvalidParam unless the request is for local files of the published pipeline."""
    if body["datasource_type"] != LOCAL_FILE:
        raise _NO_PLUGIN
    if not body["is_published"]:
        raise _NO_DRAFT
    if node != LOCAL_FILE:
        raise _no_node()
