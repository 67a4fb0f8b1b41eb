"""The check of all responses is one that can fail."""

from __future__ import annotations

import pytest

from headrace.api.dify.examples import APP_INFO, WORKFLOW_RUN
from tests.api.declared import check_event, check_response

RUN = "/v1/workflows/run/fb47b2e6-5e43-4f90-be01-d5c5a088d156"
CHUNK = {"text": "x", "from_variable_selector": ["llm", "text"]}


def test_what_is_declared_passes() -> None:
    check_response("GET", RUN, 200, WORKFLOW_RUN)
    check_response("GET", "/v1/info", 200, APP_INFO)
    check_event("text_chunk", {"event": "text_chunk", "workflow_run_id": "r", "task_id": "t", "data": CHUNK})


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, {**WORKFLOW_RUN, "extra": 1}, "'extra' was unexpected"),
        (200, {name: value for name, value in WORKFLOW_RUN.items() if name != "error"}, "'error' is a required"),
        (200, {**WORKFLOW_RUN, "total_steps": "3"}, "is not of type 'integer'"),
        (202, WORKFLOW_RUN, "responds with 202, which is not declared"),
        (404, {"code": "not_found", "status": 404}, "'message' is a required"),
    ],
)
def test_what_is_not_declared_fails(status: int, body: object, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_response("GET", RUN, status, body)


def test_an_event_that_is_not_declared_fails() -> None:
    with pytest.raises(AssertionError, match="'task_id' is a required"):
        check_event("text_chunk", {"event": "text_chunk", "data": CHUNK})
    with pytest.raises(AssertionError, match="is not declared"):
        check_event("tts_message", {})
