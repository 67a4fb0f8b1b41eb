"""Annotations: answers that people write, and whether the app gives them (annotation reply)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify import examples
from headrace.api.dify.schemas import conversations as schemas
from headrace.api.http.errors import of_status
from headrace.api.http.params import number
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import TEXT_SCHEMA, Operation, paging, parameter
from headrace.api.http.schema import Media, parse
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, NotFound
from headrace.ports import Annotation
from headrace.values import Value

_ACTIONS = ("enable", "disable")
_LARGEST_PAGE = 100  # Dify's limit, whatever a request asks for
_MOST = 99_999_999

_NO_ANSWER = InvalidParam("answer: Field required")
_ANNOTATION = Media(schemas.Annotation, examples.ANNOTATION)
_BODY = Media(
    schemas.AnnotationRequest,
    {"question": examples.ANNOTATION["question"], "answer": examples.ANNOTATION["answer"]},
)


class AnnotationRoutes:
    """`/v1/apps/annotations` and `/v1/apps/annotation-reply`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "GET",
                "/apps/annotations",
                self.list_annotations,
                id="listAnnotations",
                tag="Annotations",
                summary="List annotations",
                description="Questions that a person has answered, newest first. A page has at most 100.",
                parameters=(
                    *paging(_MOST),
                    parameter("query", "keyword", "Text in the question or the answer", TEXT_SCHEMA),
                ),
                response=Media(
                    schemas.AnnotationPage,
                    {"data": [examples.ANNOTATION], "has_more": False, "limit": 20, "total": 1, "page": 1},
                ),
                errors=(InvalidParam("page: Input should be an integer from 1 to 99999999, not '0'"),),
            ),
            Operation(
                "POST",
                "/apps/annotations",
                self.add,
                id="addAnnotation",
                tag="Annotations",
                summary="Add an annotation",
                description="Where annotation reply is on, the question gets this answer without calling a model.",
                body=_BODY,
                response={201: _ANNOTATION},
                errors=(_NO_ANSWER,),
            ),
            Operation(
                "PUT",
                "/apps/annotations/{annotation_id}",
                self.change,
                id="changeAnnotation",
                tag="Annotations",
                summary="Change an annotation",
                description="It keeps its number of hits.",
                body=_BODY,
                response=_ANNOTATION,
                errors=(_NO_ANSWER, _unknown()),
            ),
            Operation(
                "DELETE",
                "/apps/annotations/{annotation_id}",
                self.remove,
                id="removeAnnotation",
                tag="Annotations",
                summary="Remove an annotation",
                description="Its number of hits is lost.",
                response={204: ()},
                errors=(_unknown(),),
            ),
            Operation(
                "POST",
                "/apps/annotation-reply/{action}",
                self.switch,
                id="switchAnnotationReply",
                tag="Annotations",
                summary="Switch annotation reply on or off",
                description="Questions are compared by their text, without regard to case, spacing and punctuation. It "
                "needs no model; the setting is only stored, and as in Dify it is required to switch it off, too.",
                body=Media(
                    schemas.AnnotationReplyRequest,
                    {
                        "score_threshold": 0.9,
                        "embedding_provider_name": "openai",
                        "embedding_model_name": "text-embedding-3-small",
                    },
                ),
                response=Media(schemas.AnnotationReplyJob, {"job_id": examples.JOB, "job_status": "waiting"}),
                errors=(InvalidParam("score_threshold: Field required"),),
            ),
            Operation(
                "GET",
                "/apps/annotation-reply/{action}/status/{job_id}",
                self.status,
                id="getAnnotationReplyStatus",
                tag="Annotations",
                summary="Get the status of switching",
                description="It is always complete here.",
                response=Media(
                    schemas.AnnotationReplyJobStatus,
                    {"job_id": examples.JOB, "job_status": "completed", "error_msg": ""},
                ),
                errors=(InvalidParam("The job does not exist."),),
            ),
        )

    # -------------------------------------------------------------------------------------------------- annotations

    async def list_annotations(self, request: Request) -> Response:
        served, query = await self.api.authenticate(request), request.query_params
        page, limit = number(query, "page", 1, _MOST), min(number(query, "limit", 20, _MOST), _LARGEST_PAGE)
        keyword = query.get("keyword", "").replace("\0", "")
        total, stored = await self.api.run_service.conversations.annotations(served.app.id, keyword, page, limit)
        response: schemas.AnnotationPage = {
            "data": [_response(annotation) for annotation in stored],
            "has_more": page * limit < total,
            "limit": limit,
            "total": total,
            "page": page,
        }
        return json_response(response)

    async def add(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        fields = parse(schemas.AnnotationRequest, await self.api.json(request))
        now = self.api.run_service.world.clock()
        annotation = Annotation(str(uuid4()), served.app.id, fields["question"], fields["answer"], 0, now)
        await self.api.annotations.add(annotation)
        return json_response(_response(annotation), 201)

    async def change(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        fields = parse(schemas.AnnotationRequest, await self.api.json(request))
        changed = await self.api.annotations.change(
            served.app.id, _annotation(request), fields["question"], fields["answer"]
        )
        if changed is None:
            raise _unknown()
        return json_response(_response(changed))

    async def remove(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        if not await self.api.annotations.remove(served.app.id, _annotation(request)):
            raise _unknown()
        return no_content()

    # --------------------------------------------------------------------------------------------- annotation reply

    async def switch(self, request: Request) -> Response:
        """Switches annotation reply on or off. Dify does so in a job; here it is done before the response."""
        served = await self.api.authenticate(request, "manage")
        body = await self.api.json(request)
        action = _action(request)
        setting: Mapping[str, Value] = {**parse(schemas.AnnotationReplyRequest, body)}
        stored = setting if action == "enable" else None
        await self.api.run_service.conversations.save_annotation_reply(served.app.id, stored)
        job: schemas.AnnotationReplyJob = {"job_id": _job(served, action), "job_status": "waiting"}
        return json_response(job)

    async def status(self, request: Request) -> Response:
        served, action = await self.api.authenticate(request), _action(request)
        job = as_uuid(request.path_params["job_id"], of_status(404))
        if job != _job(served, action):
            raise InvalidParam("The job does not exist.")
        status: schemas.AnnotationReplyJobStatus = {"job_id": job, "job_status": "completed", "error_msg": ""}
        return json_response(status)


def _job(served: Served, action: str) -> str:
    """The id of a job, which is complete at once: it is derived from the action, so that it need not be stored."""
    return str(uuid5(UUID(served.app.id), f"annotation-reply {action}"))


def _action(request: Request) -> str:
    action = request.path_params["action"]
    if action not in _ACTIONS:
        raise InvalidParam("action: Input should be 'enable' or 'disable'")
    return action


def _annotation(request: Request) -> str:
    return as_uuid(request.path_params["annotation_id"], _unknown())


def _unknown() -> NotFound:
    return NotFound("Annotation not found")


def _response(annotation: Annotation) -> schemas.Annotation:
    return {
        "id": annotation.id,
        "question": annotation.question,
        "answer": annotation.answer,
        "hit_count": annotation.hits,
        "created_at": int(annotation.created_at),
    }
