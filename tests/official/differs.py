"""Where Headrace is not as Dify's official description has it, and why.

Most often because a real Dify 1.12.1 is not, either: the description is of a later version, and tells some things
otherwise than any version does them. Where the recording of that is among the tests, it is named and held against the
description too: it has to differ in the same place. No row may be out of date: each is to be found at each of its
operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.official.ours import HERE


@dataclass(frozen=True)
class Difference:
    """`what`: as the checks tell it, of each of these operations. `recorded`: a file below tests/ that holds Dify's own
    answer to the first of them, which differs likewise."""

    what: str
    operations: tuple[str, ...]
    why: str
    recorded: str = ""


RUN = "POST /workflows/run"
RUN_VERSION = "POST /workflows/{workflow_id}/run"
EVENTS = "GET /workflow/{workflow_run_id}/events"
CHAT = "POST /chat-messages"
COMPLETE = "POST /completion-messages"
ANSWER = "POST /form/human_input/{form_token}"
STOPS = (
    "POST /chat-messages/{task_id}/stop",
    "POST /completion-messages/{task_id}/stop",
    "POST /workflows/tasks/{task_id}/stop",
)
SPEAK = "POST /text-to-audio"
RUNS = "../conformance/runs"
REQUESTS = "../data/requests"

UNTOLD = "Dify 1.12.1 does not tell it"
NULL = "null in Dify 1.12.1 where nothing is set"
WITHOUT_403 = tuple(item.name for item in HERE if 403 not in item.answers)

DIFFERENCES = (
    # ------------------------------------------------------------------------------------------------------- requests
    Difference(
        'wrong user: ["nope"]: 200', (RUN, RUN_VERSION, CHAT, COMPLETE, ANSWER, *STOPS), "any user that is not empty"
    ),
    Difference("wrong task_id: no uuid: 200", STOPS, "stopping what is unknown is no error: it may have ended"),
    Difference("wrong task_id: unknown: 200", STOPS, "the same"),
    # told, and to an app's own key never answered: a 403 `forbidden` to one would be found as any other refusal is
    Difference("status 403", WITHOUT_403, "a workspace's key or a token may lack the permission, and Dify has neither"),
    Difference("status 404", (SPEAK,), "a message that is unknown is not the same as one without text"),
    Difference('wrong message_id: "nope": 404 not_found', (SPEAK,), "the same"),
    Difference(
        "wrong file: missing: 400 no_audio_uploaded", ("POST /audio-to-text",), "Dify's own code, which is not listed"
    ),
    Difference(
        "wrong job_id: no uuid: 404 not_found",
        ("GET /apps/annotation-reply/{action}/status/{job_id}",),
        "as any other path that leads nowhere",
    ),
    # -------------------------------------------------------------------------------------------------------- answers
    Difference(
        "answer outputs: type", ("GET /workflows/run/{workflow_run_id}",), "JSON in a text", f"{REQUESTS}/detail_good"
    ),
    *(
        Difference(f"never told: answer data.{name}", (RUN, RUN_VERSION), UNTOLD, f"{RUNS}/20_llm")
        for name in ("created_by", "exceptions_count", "files")
    ),
    *(
        Difference(f"answer {name}: type", ("GET /site",), NULL, f"{REQUESTS}/get_site__inputs_all")
        for name in ("chat_color_theme", "copyright", "privacy_policy")
    ),
    Difference(
        "answer user_input_form[]: oneOf",
        ("GET /parameters",),
        "each of the described forms allows every field, so that none is the only one",
        f"{REQUESTS}/get_parameters__simple_passthrough",
    ),
    Difference("answer tenant_id: type", ("GET /end-users/{end_user_id}",), "there are no workspaces here: null"),
    # -------------------------------------------------------------------------------------------------------- streams
    *(
        Difference(
            "node_finished data.execution_metadata.total_price: type",
            (operation,),
            "a text, so that nothing of it is lost",
            f"{RUNS}/20_llm",
        )
        for operation in (RUN, RUN_VERSION)
    ),
    *(
        Difference(
            f"{event}_{moment} data.id: format", (RUN, RUN_VERSION), "a container's id is its node's in Dify 1.12.1"
        )
        for event in ("iteration", "loop")
        for moment in ("started", "next", "completed")
    ),
)


def of(operation: str) -> set[str]:
    """What is known to differ at an operation."""
    return {difference.what for difference in DIFFERENCES if operation in difference.operations}


def recorded() -> Iterable[Difference]:
    return [difference for difference in DIFFERENCES if difference.recorded]
