"""Submissions from requests to run an app of any mode, and from messages to chat and completion apps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, cast

from headrace.api.auth import Api
from headrace.api.dify.runs import run_submission
from headrace.api.dify.schemas.messages import ChatFields, CompletionFields
from headrace.api.dify.schemas.runs import RunFields
from headrace.api.http.errors import app_unavailable
from headrace.api.http.request_body import parse
from headrace.apps.catalog import Release
from headrace.batches import Accept, Line
from headrace.conversations.messages import CHATS, MESSAGES, Chats
from headrace.errors import InvalidParam
from headrace.kernel.events import RunId
from headrace.node import Flow
from headrace.nodes.start import Resolve, Start
from headrace.ports import EndUser
from headrace.runs.service import Submission
from headrace.values import Value

C = TypeVar("C", bound=ChatFields)


async def app_submission(
    api: Api,
    release: Release,
    user: str,
    body: Mapping[str, Value],
    *,
    callback: str | None = None,
    run: RunId | None = None,
) -> Submission:
    """The run that a request to an app of any mode starts. See `message_submission`."""
    if release.app.mode in MESSAGES:
        message = message_fields(release.app.mode, body)
        return await message_submission(api, release, user, message, callback=callback, run=run)
    return await run_submission(api, release, user, _workflow_fields(release.flow, body), callback)


def message_fields(mode: str, body: Mapping[str, Value]) -> ChatFields | CompletionFields:
    """The message of a request to an app of this mode. InvalidParam where a field is missing or wrong."""
    return with_text(parse(ChatFields, body)) if mode in CHATS else parse(CompletionFields, body)


def with_text(message: C) -> C:
    """A chat's message. InvalidParam where it is empty."""
    if not message["query"]:
        raise InvalidParam("query is required")
    return message


def _workflow_fields(flow: Flow, body: Mapping[str, Value]) -> RunFields:
    """The fields of a request to a workflow. A `query`, as chats have it, is the input of that name, where the start
    node declares one and the inputs have none; otherwise it is ignored."""
    fields, query, start = parse(RunFields, body), body.get("query"), flow.nodes[flow.graph.root]
    if not query or "query" in fields["inputs"] or not isinstance(start, Start):
        return fields
    if all(field["variable"] != "query" for entry in start.form() for field in entry.values()):
        return fields
    return {**fields, "inputs": {**fields["inputs"], "query": query}}


def line_reader(release: Release, end_user: EndUser, chats: Chats, resolve: Resolve) -> Accept:
    """Checks the lines of a batch of an app: requests without files. app_unavailable where the app cannot run."""
    app, flow = release.app, release.flow
    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        raise app_unavailable()

    async def accept(body: Mapping[str, Value]) -> Line:
        if app.mode not in MESSAGES:
            return Line(await start.accept(_workflow_fields(flow, body)["inputs"], resolve))
        message = message_fields(app.mode, body)
        conversation = message.get("conversation_id")
        if conversation is not None:
            await chats.find(app.id, end_user.id, conversation)
        return Line(await start.accept(message["inputs"], resolve), message.get("query", ""), conversation)

    return accept


async def message_submission(
    api: Api,
    release: Release,
    user: str,
    message: ChatFields | CompletionFields,
    *,
    callback: str | None = None,
    run: RunId | None = None,
) -> Submission:
    """The run that answers a message. `run`: its id, see `RunService.submit`. InvalidParam where the
    app does not accept the message, NotFound for an unknown conversation."""
    if release.app.mode not in CHATS:
        submission = await run_submission(api, release, user, message, callback)
        return replace(submission, query=message.get("query", ""))
    chat = cast("ChatFields", message)
    end_user = await api.apps.end_user(release.app, user)
    conversation = None
    if (id_ := chat.get("conversation_id")) is not None:
        conversation = await api.chats.find(release.app.id, end_user.id, id_)
    submission = replace(await run_submission(api, release, user, message, callback), query=chat["query"])
    return await api.chats.message(submission, conversation, named=chat.get("auto_generate_name", True), run=run)
