"""Annotations: answers that people write, and whether the app responds with them (annotation reply)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from uuid import UUID, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify import examples
from headrace.api.dify.schemas import conversations as schemas
from headrace.api.http.errors import of_status
from headrace.api.http.params import keyword, paging
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.apps.catalog import Release
from headrace.errors import InvalidParam, NotFound
from headrace.ports import Annotation
from headrace.values import Value

_ACTIONS = ("enable", "disable")
_LARGEST_PAGE = 100  # Dify's limit, whatever a request asks for
_PAGE, _LIMIT = paging(99_999_999)
_KEYWORD = keyword("Text in the question or the answer")
_NO_ANSWER = InvalidParam("answer: Field required")
_ANNOTATION = Media(schemas.Annotation, examples.ANNOTATION)
_BODY = Media(
    schemas.AnnotationRequest,
    {"question": examples.ANNOTATION["question"], "answer": examples.ANNOTATION["answer"]},
)


_unknown = partial(NotFound, "Annotation not found")


class AnnotationRoutes(Routes):
    """`/v1/apps/annotations` and `/v1/apps/annotation-reply`."""

    tag = "Annotations"

    # -------------------------------------------------------------------------------------------------- annotations

    @Operation(
        "GET",
        "/apps/annotations",
        Media(
            schemas.AnnotationPage,
            {"data": [examples.ANNOTATION], "has_more": False, "limit": 20, "total": 1, "page": 1},
        ),
        parameters=(_PAGE, _LIMIT, _KEYWORD),
    )
    async def list_annotations(self, request: Request) -> Response:
        """List annotations.

        Questions that a person has answered, newest first. A page has at most 100.
        """
        release = await self.api.authenticate(request)
        page, limit = _PAGE.of(request), min(_LIMIT.of(request), _LARGEST_PAGE)
        keyword = _KEYWORD.of(request)
        total, annotations = await self.api.run_service.conversations.annotations(release.app.id, keyword, page, limit)
        response: schemas.AnnotationPage = {
            "data": [_response(annotation) for annotation in annotations],
            "has_more": page * limit < total,
            "limit": limit,
            "total": total,
            "page": page,
        }
        return json_response(response)

    @Operation("POST", "/apps/annotations", {201: _ANNOTATION}, body=_BODY, errors=(_NO_ANSWER,))
    async def add_annotation(self, request: Request) -> Response:
        """Add an annotation.

        Where annotation reply is on, the question gets this answer without calling a model.
        """
        release = await self.api.authenticate(request, "manage")
        fields = parse(schemas.AnnotationRequest, await self.api.json(request))
        now = self.api.run_service.environment.clock()
        annotation = Annotation(str(uuid4()), release.app.id, fields["question"], fields["answer"], 0, now)
        await self.api.annotations.add(annotation)
        return json_response(_response(annotation), 201)

    @Operation("PUT", "/apps/annotations/{annotation_id}", _ANNOTATION, body=_BODY, errors=(_NO_ANSWER, _unknown()))
    async def change_annotation(self, request: Request) -> Response:
        """Change an annotation.

        It keeps its number of hits.
        """
        release = await self.api.authenticate(request, "manage")
        fields = parse(schemas.AnnotationRequest, await self.api.json(request))
        annotation = await self.api.annotations.change(
            release.app.id, _annotation(request), fields["question"], fields["answer"]
        )
        if annotation is None:
            raise _unknown()
        return json_response(_response(annotation))

    @Operation("DELETE", "/apps/annotations/{annotation_id}", {204: ()}, errors=(_unknown(),))
    async def remove_annotation(self, request: Request) -> Response:
        """Remove an annotation.

        Its number of hits is lost.
        """
        release = await self.api.authenticate(request, "manage")
        if not await self.api.annotations.remove(release.app.id, _annotation(request)):
            raise _unknown()
        return no_content()

    # --------------------------------------------------------------------------------------------- annotation reply

    @Operation(
        "POST",
        "/apps/annotation-reply/{action}",
        Media(schemas.AnnotationReplyJob, {"job_id": examples.JOB, "job_status": "waiting"}),
        body=Media(
            schemas.AnnotationReplyRequest,
            {
                "score_threshold": 0.9,
                "embedding_provider_name": "openai",
                "embedding_model_name": "text-embedding-3-small",
            },
        ),
        errors=(InvalidParam("score_threshold: Field required"),),
    )
    async def switch_annotation_reply(self, request: Request) -> Response:
        """Switch annotation reply on or off.

        Questions are compared by their text, without regard to case, spacing and punctuation. It needs no model; the
        setting is only stored, and as in Dify it is required to switch it off, too.
        """
        release = await self.api.authenticate(request, "manage")
        body = await self.api.json(request)
        action = _action(request)
        setting: Mapping[str, Value] = {**parse(schemas.AnnotationReplyRequest, body)}
        saved_setting = setting if action == "enable" else None
        await self.api.run_service.conversations.save_annotation_reply(release.app.id, saved_setting)
        job: schemas.AnnotationReplyJob = {"job_id": _job(release, action), "job_status": "waiting"}
        return json_response(job)

    @Operation(
        "GET",
        "/apps/annotation-reply/{action}/status/{job_id}",
        Media(
            schemas.AnnotationReplyJobStatus,
            {"job_id": examples.JOB, "job_status": "completed", "error_msg": ""},
        ),
        errors=(InvalidParam("The job does not exist."),),
    )
    async def get_annotation_reply_status(self, request: Request) -> Response:
        """Get the status of switching.

        It is always complete here.
        """
        release, action = await self.api.authenticate(request), _action(request)
        job = as_uuid(request.path_params["job_id"], of_status(404))
        if job != _job(release, action):
            raise InvalidParam("The job does not exist.")
        status: schemas.AnnotationReplyJobStatus = {"job_id": job, "job_status": "completed", "error_msg": ""}
        return json_response(status)


def _job(release: Release, action: str) -> str:
    """The id of a job, which is complete at once: it is derived from the action, so that it need not be stored."""
    return str(uuid5(UUID(release.app.id), f"annotation-reply {action}"))


def _action(request: Request) -> str:
    action = request.path_params["action"]
    if action not in _ACTIONS:
        raise InvalidParam("action: Input should be 'enable' or 'disable'")
    return action


def _annotation(request: Request) -> str:
    return as_uuid(request.path_params["annotation_id"], _unknown())


def _response(annotation: Annotation) -> schemas.Annotation:
    return {
        "id": annotation.id,
        "question": annotation.question,
        "answer": annotation.answer,
        "hit_count": annotation.hits,
        "created_at": int(annotation.created_at),
    }
