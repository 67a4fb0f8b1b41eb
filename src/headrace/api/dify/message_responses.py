"""Messages as responses show them: with secrets masked, the answer as far as it has come, its citations and its cost.

The answer of a run that succeeded is in the message. That of one that is running or was cut short is in its journal,
and so are the citations and the usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from uuid import UUID, uuid5

from headrace.api.dify.agent_thoughts import AgentThoughts
from headrace.api.dify.chat_responses import AnswerText, Reply, failure
from headrace.api.dify.form_events import message_content
from headrace.api.dify.schemas.messages import (
    AgentThought,
    CitedSource,
    ModelUsage,
    PastMessage,
    PastMessageFile,
    RetrieverResource,
)
from headrace.apps.catalog import Release
from headrace.errors import LoadError, NotFound
from headrace.frozen import frozen
from headrace.kernel.events import FormRequested, RunEnded
from headrace.kernel.forms import FormOutcome, FormState, without_tokens
from headrace.kernel.secrets import SecretMask
from headrace.kernel.summary import ENDED_WELL, duration
from headrace.node import Flow
from headrace.ports import Feedback, Message
from headrace.runs.service import RunService
from headrace.values import File, to_json

_STATUSES = {"failed": "error", "paused": "paused"}
_NO_PARENT = str(UUID(int=0))  # as Dify, for every message that came through this API


@frozen
class MessageView:
    """A message as it may be shown. `message` has the answer as far as it has come."""

    message: Message
    sources: Sequence[RetrieverResource]
    error: str | None
    usage: ModelUsage
    latency: float  # seconds from the question to the end of the answer
    thoughts: Sequence[AgentThought] = ()
    forms: Sequence[FormState] = ()

    def response(self, feedback: Feedback | None) -> PastMessage:
        """The message's entry in a list."""
        message, usage = self.message, self.usage
        return {
            "id": message.id,
            "conversation_id": message.conversation or "",
            "parent_message_id": _NO_PARENT,
            "inputs": to_json(dict(message.inputs)),
            "query": message.query,
            "answer": message.answer,
            "feedback": None if feedback is None else {"rating": feedback.rating},
            "retriever_resources": [_source(message, source) for source in self.sources],
            "created_at": int(message.created_at),
            "agent_thoughts": list(self.thoughts),
            "message_files": [
                *(_file(message, file, "user") for file in message.files),
                *(_file(message, file, "assistant") for file in message.answer_files),
            ],
            "message_tokens": usage["prompt_tokens"],
            "answer_tokens": usage["completion_tokens"],
            "provider_response_latency": self.latency,
            "total_price": usage["total_price"],
            "currency": usage["currency"],
            "status": _STATUSES.get(message.status, "normal"),
            "error": self.error,
            "extra_contents": [message_content(message.id, form) for form in self.forms],
            "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
        }


class Messages:
    """Finds messages, and prepares them to be shown."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service

    async def find(self, app: str, end_user: str | None, id_: str) -> Message:
        """An app's message, and if an end user is given, only one of theirs. NotFound if there is none."""
        message = await self._run_service.conversations.find_message(id_)
        if message is None or message.app != app or end_user not in (None, message.end_user):
            raise NotFound("Message Not Exists.")
        return message

    async def show(self, release: Release, message: Message, *, tokens: bool = False) -> MessageView:
        """A message of an app, whichever version of it answered; its forms with their `tokens` for those who may answer
        them."""
        flow = await self._flow(release, message)
        mask = SecretMask(flow.secrets)
        masked_message = replace(
            message,
            inputs=mask.value(dict(message.inputs)),
            query=mask.text(message.query),
            files=mask.value(list(message.files)),
            answer=mask.text(message.answer),
            answer_files=mask.value(list(message.answer_files)),
            error=message.error and mask.text(message.error),
        )
        text, reply, thoughts = AnswerText(flow), Reply(flow), AgentThoughts(flow)
        error, latency = masked_message.error if message.status == "failed" else None, 0.0
        forms: dict[str, FormState] = {}
        for record in await self._run_service.environment.journal.read(message.id):
            record = mask.record(record if tokens else without_tokens(record))
            text.feed(record)
            reply.apply(record)
            thoughts.apply(record)
            if isinstance(record.event, FormRequested):
                forms[record.event.form] = FormState(record.event, record.at)
            elif isinstance(record.event, FormOutcome):
                forms[record.event.form].outcome = record.event
            elif isinstance(record.event, RunEnded):
                latency = duration(message.created_at, record.at)
                if record.event.status == "failed":
                    error = failure(flow, record.event, reply.summary.failure).message
        answer = masked_message.answer or str(text)
        # the files of an agent's tools are in its steps only
        complete = message.status in ENDED_WELL and not thoughts.thoughts
        files = masked_message.answer_files or (() if complete else tuple(reply.files))
        message_with_answer = replace(masked_message, answer=answer, answer_files=files)
        sources = reply.metadata["retriever_resources"]
        return MessageView(
            message_with_answer, sources, error, reply.usage, latency, thoughts.thoughts, [*forms.values()]
        )

    async def _flow(self, release: Release, message: Message) -> Flow:
        """The version that the message's run executed; the app's current one where it can no longer be loaded."""
        summary = await self._run_service.runs.find_run(message.id)
        if summary is None:
            return release.flow
        try:
            return await self._run_service.apps.flow(summary.app, summary.version)
        except (NotFound, LoadError):
            return release.flow


def _source(message: Message, source: RetrieverResource) -> CitedSource:
    position = source["position"]
    return {
        "id": str(uuid5(UUID(message.id), f"source {position}")),
        "message_id": message.id,
        "position": position,
        "dataset_id": source.get("dataset_id"),
        "dataset_name": source.get("dataset_name"),
        "document_id": source.get("document_id"),
        "document_name": source.get("document_name"),
        "data_source_type": source.get("data_source_type"),
        "segment_id": source.get("segment_id"),
        "score": source.get("score"),
        "hit_count": source.get("hit_count"),
        "word_count": source.get("word_count"),
        "segment_position": source.get("segment_position"),
        "index_node_hash": source.get("index_node_hash"),
        "content": source.get("content"),
        "summary": source.get("summary"),
        "created_at": None,
    }


def _file(message: Message, file: File, owner: Literal["user", "assistant"]) -> PastMessageFile:
    return {
        "id": str(uuid5(UUID(message.id), f"{owner} {file.related_id or file.remote_url or file.url}")),
        "filename": file.filename or "",
        "type": file.type,
        "url": file.url or file.remote_url,
        "mime_type": file.mime_type,
        "size": file.size,
        "transfer_method": file.transfer_method,
        "belongs_to": owner,
        "upload_file_id": file.related_id,
    }
