"""What `/docs` and `/openapi.json` say of annotations. See `operations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.dify.conversation_docs import NO_JSON, NO_KEY, TEXT, UUID, body, paging
from headrace.api.openapi import error, operation, parameter, responses

_ANNOTATION = "7dbd3a36-7c3d-45dc-b1b2-9dd9ccb12d0e"
_JOB = "b6a3cd3e-1c4c-5f4a-8e0a-0a2c36b1c3b7"
_NO_ANNOTATION = error("not_found", "Annotation not found", 404)

_WIRE_ANNOTATION: Mapping[str, Any] = {
    "id": _ANNOTATION,
    "question": "What is Headrace?",
    "answer": "It runs workflows exported from Dify.",
    "hit_count": 0,
    "created_at": 1795226714,
}
_ANNOTATION_BODY = body(
    {"question": "What is Headrace?", "answer": "It runs workflows exported from Dify."},
    {"question": TEXT, "answer": TEXT},
    "question",
    "answer",
)
_NO_ANSWER = error("invalid_param", "answer: Field required", 400)
_ONE_ANNOTATION = parameter("path", "annotation_id", "An annotation's id", UUID)
ANNOTATIONS = operation(
    "listAnnotations",
    "Annotations",
    "List annotations",
    "Questions that a person has answered, newest first. A page has 100 at most.",
    responses(
        (error("invalid_param", "page: Input should be an integer from 1 to 99999999, not '0'", 400), NO_KEY),
        json={"data": [_WIRE_ANNOTATION], "has_more": False, "limit": 20, "total": 1, "page": 1},
    ),
    [*paging(99_999_999), parameter("query", "keyword", "Found in the question or the answer", TEXT)],
)
ADD_ANNOTATION = operation(
    "addAnnotation",
    "Annotations",
    "Add an annotation",
    "Where annotation reply is on, the question gets this answer, and no model is asked.",
    responses((_NO_ANSWER, NO_KEY, NO_JSON), 201, json=_WIRE_ANNOTATION),
    body=_ANNOTATION_BODY,
)
CHANGE_ANNOTATION = operation(
    "changeAnnotation",
    "Annotations",
    "Change an annotation",
    "Its hits stay counted.",
    responses((_NO_ANSWER, _NO_ANNOTATION, NO_KEY, NO_JSON), json=_WIRE_ANNOTATION),
    [_ONE_ANNOTATION],
    _ANNOTATION_BODY,
)
REMOVE_ANNOTATION = operation(
    "removeAnnotation",
    "Annotations",
    "Remove an annotation",
    "With its hits.",
    responses((_NO_ANNOTATION, NO_KEY), 204),
    [_ONE_ANNOTATION],
)
_ACTION = parameter("path", "action", "What to do", TEXT | {"enum": ["enable", "disable"]})
ANNOTATION_REPLY = operation(
    "switchAnnotationReply",
    "Annotations",
    "Switch annotation reply on or off",
    "Questions are compared by what they say, whatever their case, spacing and punctuation. No model is needed for it; "
    "the setting is kept as it is given, and needed to switch it off, too, as in Dify.",
    responses(
        (error("invalid_param", "score_threshold: Field required", 400), NO_KEY, NO_JSON),
        json={"job_id": _JOB, "job_status": "waiting"},
    ),
    [_ACTION],
    body(
        {
            "score_threshold": 0.9,
            "embedding_provider_name": "openai",
            "embedding_model_name": "text-embedding-3-small",
        },
        {"score_threshold": {"type": "number"}, "embedding_provider_name": TEXT, "embedding_model_name": TEXT},
        "score_threshold",
        "embedding_provider_name",
        "embedding_model_name",
    ),
)
ANNOTATION_REPLY_STATUS = operation(
    "getAnnotationReplyStatus",
    "Annotations",
    "How the switching goes",
    "It is done at once here.",
    responses(
        (error("invalid_param", "The job does not exist.", 400), NO_KEY),
        json={"job_id": _JOB, "job_status": "completed", "error_msg": ""},
    ),
    [_ACTION, parameter("path", "job_id", "What switching answered", UUID)],
)
