"""Knowledge pipelines. Files can be uploaded for one; none can be run here."""

from __future__ import annotations

from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response

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

_NO_PIPELINE = InvalidParam("Pipeline not found")
_PUBLISHED = boolean("is_published", "Of the published pipeline, or of its draft", default=True)
_ERRORS = (_NO_PIPELINE, NO_API, NO_DATASET)


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
            )
        stored, _ = await self.api.files.open(file.related_id or "")
        response: schemas.PipelineFile = {
            "id": stored.id,
            "name": file.filename or "",
            "size": file.size,
            "extension": (file.extension or "").lstrip("."),
            "mime_type": file.mime_type,
            "created_by": principal.id,
            "created_at": iso(stored.created_at),
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

        No knowledge base has a pipeline here: documents are created by text or by file.
        """
        await self.dataset(request)
        _PUBLISHED.of(request)
        raise _NO_PIPELINE

    @Operation(
        "POST",
        "/datasets/{dataset_id}/pipeline/datasource/nodes/{node_id}/run",
        Media(None, "", EVENT_STREAM),
        body=schemas.DATASOURCE_RUN,
        errors=_ERRORS,
    )
    async def run_datasource_node(self, request: Request) -> Response:
        """Run a datasource of a pipeline.

        No knowledge base has a pipeline here.
        """
        await self.dataset(request)
        parse(schemas.DatasourceRun, await self.api.json(request))
        raise _NO_PIPELINE

    @Operation(
        "POST",
        "/datasets/{dataset_id}/pipeline/run",
        [Media(None, "", EVENT_STREAM), schemas.PIPELINE_RESULT],
        body=schemas.PIPELINE_RUN,
        errors=_ERRORS,
    )
    async def run_pipeline(self, request: Request) -> Response:
        """Run a pipeline.

        No knowledge base has a pipeline here.
        """
        await self.dataset(request)
        parse(schemas.PipelineRun, await self.api.json(request))
        raise _NO_PIPELINE

    def _too_large(self, filename: str, size: int) -> RequestError | None:
        limit = self.api.upload_limit(PurePath(filename).suffix)
        return file_too_large(limit) if size > limit else None
