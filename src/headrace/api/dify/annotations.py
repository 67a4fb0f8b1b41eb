"""Annotations: answers that people write, and whether the app gives them (annotation reply)."""

from __future__ import annotations

import math
from uuid import UUID, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify import annotation_docs as operations
from headrace.api.http.errors import of_status
from headrace.api.http.params import number, text
from headrace.api.http.responses import gone, told
from headrace.api.http.routing import OperationList
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, NotFound
from headrace.ports import Annotation
from headrace.values import Value

_ACTIONS = ("enable", "disable")
_LARGEST_PAGE = 100  # as many as Dify gives, whatever more is asked for
_MOST = 99_999_999


class AnnotationRoutes:
    """`/v1/apps/annotations` and `/v1/apps/annotation-reply`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/apps/annotations", self.listed, methods=["GET"], **operations.ANNOTATIONS)
        router.add_api_route("/apps/annotations", self.add, methods=["POST"], **operations.ADD_ANNOTATION)
        router.add_api_route(
            "/apps/annotations/{annotation_id}", self.change, methods=["PUT"], **operations.CHANGE_ANNOTATION
        )
        router.add_api_route(
            "/apps/annotations/{annotation_id}", self.remove, methods=["DELETE"], **operations.REMOVE_ANNOTATION
        )
        router.add_api_route(
            "/apps/annotation-reply/{action}", self.switch, methods=["POST"], **operations.ANNOTATION_REPLY
        )
        router.add_api_route(
            "/apps/annotation-reply/{action}/status/{job_id}",
            self.status,
            methods=["GET"],
            **operations.ANNOTATION_REPLY_STATUS,
        )

    # -------------------------------------------------------------------------------------------------- annotations

    async def listed(self, request: Request) -> Response:
        served, query = await self.api.authenticate(request), request.query_params
        page, limit = number(query, "page", 1, _MOST), min(number(query, "limit", 20, _MOST), _LARGEST_PAGE)
        keyword = query.get("keyword", "").replace("\0", "")
        total, found = await self.api.run_service.conversations.annotations(served.app.id, keyword, page, limit)
        return told(
            {
                "data": [_wire(each) for each in found],
                "has_more": page * limit < total,
                "limit": limit,
                "total": total,
                "page": page,
            }
        )

    async def add(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        asked = await self.api.json(request)
        now = self.api.run_service.world.clock()
        made = Annotation(str(uuid4()), served.app.id, text(asked, "question"), text(asked, "answer"), 0, now)
        await self.api.annotations.add(made)
        return told(_wire(made), 201)

    async def change(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        asked = await self.api.json(request)
        question, answer = text(asked, "question"), text(asked, "answer")
        changed = await self.api.annotations.change(served.app.id, _annotation(request), question, answer)
        if changed is None:
            raise _unknown()
        return told(_wire(changed))

    async def remove(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        if not await self.api.annotations.remove(served.app.id, _annotation(request)):
            raise _unknown()
        return gone()

    # --------------------------------------------------------------------------------------------- annotation reply

    async def switch(self, request: Request) -> Response:
        """Switches annotation reply on or off. Dify does it in a job; here it is done before the answer is given."""
        served = await self.api.authenticate(request, "manage")
        asked = await self.api.json(request)
        action = _action(request)
        threshold = asked.get("score_threshold")
        if "score_threshold" not in asked:
            raise InvalidParam("score_threshold: Field required")
        setting: dict[str, Value] = {
            "score_threshold": _score(threshold),
            "embedding_provider_name": text(asked, "embedding_provider_name"),
            "embedding_model_name": text(asked, "embedding_model_name"),
        }
        kept = setting if action == "enable" else None
        await self.api.run_service.conversations.save_annotation_reply(served.app.id, kept)
        return told({"job_id": _job(served, action), "job_status": "waiting"})

    async def status(self, request: Request) -> Response:
        served, action = await self.api.authenticate(request), _action(request)
        job = as_uuid(request.path_params["job_id"], of_status(404))
        if job != _job(served, action):
            raise InvalidParam("The job does not exist.")
        return told({"job_id": job, "job_status": "completed", "error_msg": ""})


def _job(served: Served, action: str) -> str:
    """What a job is called that is done already: nothing of it is kept, so its id follows from what it did."""
    return str(uuid5(UUID(served.app.id), f"annotation-reply {action}"))


def _action(request: Request) -> str:
    action = request.path_params["action"]
    if action not in _ACTIONS:
        raise InvalidParam("action: Input should be 'enable' or 'disable'")
    return action


def _score(value: Value) -> float:
    try:
        score = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise InvalidParam("score_threshold: Input should be a valid number")
    return score


def _annotation(request: Request) -> str:
    return as_uuid(request.path_params["annotation_id"], _unknown())


def _unknown() -> NotFound:
    return NotFound("Annotation not found")


def _wire(annotation: Annotation) -> dict[str, Value]:
    return {
        "id": annotation.id,
        "question": annotation.question,
        "answer": annotation.answer,
        "hit_count": annotation.hits,
        "created_at": int(annotation.created_at),
    }
