"""Requests to run an app of any mode, and messages of chat and completion apps: read, checked, and made into
submissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from headrace.api.auth import Api, as_uuid
from headrace.api.dify.run_requests import accepted, payload
from headrace.api.http.errors import app_unavailable
from headrace.api.http.params import truth
from headrace.apps.catalog import Served
from headrace.batches import Accept, Line
from headrace.conversations.messages import CHATS, MESSAGES, Chats
from headrace.errors import InvalidParam
from headrace.kernel.events import RunId
from headrace.node import Flow
from headrace.nodes.start import Resolve, Start
from headrace.ports import EndUser
from headrace.runs.submission import Submission
from headrace.values import Value


class Message(NamedTuple):
    """A message whose form is right. `conversation` is None for a new one; `version`: of a chatflow, in place of the
    current."""

    query: str
    inputs: Mapping[str, Value]
    files: Sequence[Mapping[str, Value]]
    conversation: str | None = None
    named: bool = True
    version: str | None = None


def chat_message(asked: Mapping[str, Value]) -> Message:
    """InvalidParam where an argument is missing or of the wrong form."""
    inputs, files = payload(asked)
    if "query" not in asked:
        raise InvalidParam("query: Field required")
    query = _text(asked, "query")
    conversation = conversation_of(asked.get("conversation_id"))
    named, version = truth(asked, "auto_generate_name", True), asked.get("workflow_id")
    if version is not None and not isinstance(version, str):
        raise InvalidParam("workflow_id: Input should be a valid string")
    if not query:
        raise InvalidParam("query is required")
    return Message(query, inputs, files, conversation, named, version or None)


def completion_message(asked: Mapping[str, Value]) -> Message:
    """As `chat_message`; a completion needs no query, and has no conversation."""
    inputs, files = payload(asked)
    return Message(_text(asked, "query"), inputs, files)


def conversation_of(value: Value) -> str | None:
    """A conversation's id; None where there is none. InvalidParam where it is malformed."""
    given = value.strip() if isinstance(value, str) else value
    if not given:
        return None
    malformed = InvalidParam("conversation_id: Value error, conversation_id must be a valid UUID")
    if not isinstance(given, str):
        raise malformed
    return as_uuid(given, malformed)


async def submission_of(
    api: Api,
    served: Served,
    user: str,
    asked: Mapping[str, Value],
    *,
    callback: str | None = None,
    run: RunId | None = None,
) -> Submission:
    """What a request asks for, of an app of any mode: a run of a workflow, or a message. See `message_submission`."""
    if served.app.mode in MESSAGES:
        message = message_of(served.app.mode, asked)
        return await message_submission(api, served, user, message, callback=callback, run=run)
    inputs, files = payload(asked)
    return await accepted(api, served, user, with_query(served.flow, inputs, asked.get("query")), files, callback)


def message_of(mode: str, asked: Mapping[str, Value]) -> Message:
    """The message that a request to an app of this mode brings."""
    return chat_message(asked) if mode in CHATS else completion_message(asked)


def with_query(flow: Flow, inputs: Mapping[str, Value], query: Value) -> Mapping[str, Value]:
    """The inputs of a workflow that is given a query, as chats are: it is the input of that name, where the start node
    declares one and the inputs have none; else a workflow has no use for it."""
    start = flow.nodes[flow.graph.root]
    if not query or "query" in inputs or not isinstance(start, Start):
        return inputs
    names = {field["variable"] for entry in start.form() for field in entry.values()}
    return {**inputs, "query": query} if "query" in names else inputs


def line_reader(served: Served, end_user: EndUser, chats: Chats, resolve: Resolve) -> Accept:
    """Checks the lines of a batch of an app: requests without files. app_unavailable where it has no start node."""
    app, flow = served.app, served.flow
    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        raise app_unavailable()

    async def accept(fields: Mapping[str, Value]) -> Line:
        if app.mode not in MESSAGES:
            inputs, _ = payload(fields)
            return Line(await start.accept(with_query(flow, inputs, fields.get("query")), resolve))
        message = message_of(app.mode, fields)
        if message.conversation is not None:
            await chats.find(app.id, end_user.id, message.conversation)
        return Line(await start.accept(message.inputs, resolve), message.query, message.conversation)

    return accept


async def message_submission(
    api: Api,
    served: Served,
    user: str,
    message: Message,
    *,
    callback: str | None = None,
    run: RunId | None = None,
) -> Submission:
    """A message as the run that answers it. `run`: the id that this run is to have, see `RunService.submit`.

    InvalidParam where the app does not take it, NotFound for an unknown conversation."""
    end_user = await api.end_user(served.app, user)
    conversation = None
    if message.conversation is not None:
        conversation = await api.chats.find(served.app.id, end_user.id, message.conversation)
    submission = await accepted(api, served, user, message.inputs, message.files, callback)
    submission = replace(submission, query=message.query)
    if served.app.mode not in CHATS:
        return submission
    return await api.chats.message(submission, conversation, named=message.named, run=run)


def _text(asked: Mapping[str, Value], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise InvalidParam(f"{name}: Input should be a valid string")
    return value.replace("\0", "")
