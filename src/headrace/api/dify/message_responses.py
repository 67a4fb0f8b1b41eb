"""Messages as they are shown: an exchange with its secrets masked, what its answer has come to, cites and has cost.

A run that ended well has its answer in the exchange. What one said that is under way, or was cut short, is in its
journal, and so are the citations and the usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from headrace.api.dify.chat_responses import Reply, Text, failure
from headrace.api.dify.run_responses import seconds
from headrace.apps.catalog import Served
from headrace.errors import LoadError, NotFound
from headrace.kernel.events import RunEnded
from headrace.kernel.secrets import Mask
from headrace.node import Flow
from headrace.ports import Feedback, Message
from headrace.runs.service import RunService
from headrace.values import File, Value, plain

_ENDED_WELL = frozenset({"succeeded", "partial-succeeded"})
_STATUSES = {"failed": "error", "paused": "paused"}
_NO_PARENT = str(UUID(int=0))  # what Dify has for every message that came through this API
_CITED = (
    "dataset_id",
    "dataset_name",
    "document_id",
    "document_name",
    "data_source_type",
    "segment_id",
    "score",
    "hit_count",
    "word_count",
    "segment_position",
    "index_node_hash",
    "content",
    "summary",
    "created_at",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as anyone outside may see it. `exchange` has the answer as far as it goes."""

    exchange: Message
    sources: Iterable[Mapping[str, Value]]
    error: str | None
    usage: Mapping[str, Value]
    latency: float  # seconds from the question to the end of the answer

    def wire(self, feedback: Feedback | None) -> dict[str, Value]:
        """The object that Dify's API shows."""
        message = self.exchange
        return {
            "id": message.id,
            "conversation_id": message.conversation,
            "parent_message_id": _NO_PARENT,
            "inputs": plain(dict(message.inputs)),
            "query": message.query,
            "answer": message.answer,
            "feedback": None if feedback is None else {"rating": feedback.rating},
            "retriever_resources": [_source(message, each) for each in self.sources],
            "created_at": int(message.created_at),
            "agent_thoughts": [],
            "message_files": [
                *(_file(message, file, "user") for file in message.files),
                *(_file(message, file, "assistant") for file in message.answer_files),
            ],
            "message_tokens": self.usage["prompt_tokens"],
            "answer_tokens": self.usage["completion_tokens"],
            "provider_response_latency": self.latency,
            "total_price": self.usage["total_price"],
            "currency": self.usage["currency"],
            "status": _STATUSES.get(message.status, "normal"),
            "error": self.error,
            "extra_contents": [],
            "total_tokens": self.usage["prompt_tokens"] + self.usage["completion_tokens"],
        }


class Messages:
    """Finds messages, and makes them fit to be shown."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service

    async def find(self, app: str, end_user: str | None, message: str) -> Message:
        """An app's message; of this end user only, if one is given. NotFound where there is none."""
        found = await self._run_service.conversations.find_message(message)
        if found is None or found.app != app or end_user not in (None, found.end_user):
            raise NotFound("Message Not Exists.")
        return found

    async def show(self, served: Served, exchange: Message) -> Shown:
        """A message of an app, whatever version of it gave the answer."""
        flow = await self._flow(served, exchange)
        mask = Mask(flow.secrets)
        masked = replace(
            exchange,
            inputs=mask.value(dict(exchange.inputs)),
            query=mask.text(exchange.query),
            files=mask.value(list(exchange.files)),
            answer=mask.text(exchange.answer),
            answer_files=mask.value(list(exchange.answer_files)),
            error=exchange.error and mask.text(exchange.error),
        )
        text, reply = Text(flow), Reply(flow)
        error, latency = masked.error if exchange.status == "failed" else None, 0.0
        for record in await self._run_service.world.journal.read(exchange.id):
            record = mask.record(record)
            text.feed(record)
            reply.take(record)
            if isinstance(record.event, RunEnded):
                latency = seconds(exchange.created_at, record.at)
                if record.event.status == "failed":
                    error = failure(flow, record.event, reply.failure).message
        answer = masked.answer or str(text)
        files = masked.answer_files or (() if exchange.status in _ENDED_WELL else tuple(reply.files))
        shown = replace(masked, answer=answer, answer_files=files)
        return Shown(shown, reply.metadata["retriever_resources"], error, reply.usage, latency)

    async def _flow(self, served: Served, exchange: Message) -> Flow:
        """What the message's run executes; the app's current version where that is not to be had any more."""
        summary = await self._run_service.runs.find_run(exchange.id)
        if summary is None:
            return served.flow
        try:
            return await self._run_service.apps.flow(summary.app, summary.version)
        except (NotFound, LoadError):
            return served.flow


def _source(message: Message, cited: Mapping[str, Value]) -> dict[str, Value]:
    position = cited.get("position")
    named = {"id": str(uuid5(UUID(message.id), f"source {position}")), "message_id": message.id, "position": position}
    return named | {name: cited.get(name) for name in _CITED}


def _file(message: Message, file: File, owner: str) -> dict[str, Value]:
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
