"""A run's answer as an object of OpenAI's responses: whole, or as events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Literal, cast

from headrace.api.http.errors import interrupted, openai_body
from headrace.api.http.responses import encode
from headrace.api.openai.answer import Answer
from headrace.api.openai.json_format import JsonFormat
from headrace.api.openai.requests import RESPONSE_PREFIX
from headrace.api.openai.response_schemas import OutputMessage, OutputText, ResponseObject, ResponseUsage
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import PAUSED, QUEUED, STOPPED
from headrace.node import Flow
from headrace.values import Value

_Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]


class ResponseAnswer(Answer):
    """An answer as a response. `request` is the body of the one that it answers, if it is known."""

    def __init__(
        self,
        run: RunId,
        flow: Flow,
        model: str,
        json_format: JsonFormat | None = None,
        request: Mapping[str, Value] | None = None,
    ) -> None:
        super().__init__(run, flow, model, json_format)
        self._fields = cast("Mapping[str, Any]", request or {})

    @property
    def response_status(self) -> _Status:
        if self.status == PAUSED:  # a client that polls for the end should not wait for a person
            return "incomplete"
        if self.error is not None:
            return "failed"
        if self.status == STOPPED:
            return "cancelled"
        if self.is_done:
            return "completed"
        return "queued" if self.status == QUEUED else "in_progress"

    def whole(self) -> ResponseObject:
        status, conversation = self.response_status, self.request.conversation
        has_output = status == "completed" or (status in ("cancelled", "incomplete") and self.text)
        return {
            "id": f"{RESPONSE_PREFIX}{self.run}",
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": bool(self._fields.get("background")),
            "error": {"code": "server_error", "message": self.error.message} if self.error else None,
            "incomplete_details": None,
            "instructions": self._fields.get("instructions"),
            "metadata": self._fields.get("metadata") or {},
            "model": self.model,
            "output": [self.message("completed" if status == "completed" else "incomplete")] if has_output else [],
            "parallel_tool_calls": False,
            "previous_response_id": self._fields.get("previous_response_id"),
            "conversation": None if conversation is None else {"id": conversation},
            "store": True,
            "text": self._fields.get("text") or {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "usage": self._usage() if self.is_done else None,
        }

    def message(self, status: Literal["in_progress", "completed", "incomplete"]) -> OutputMessage:
        return {
            "id": self.item,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if status == "in_progress" else [self.part(self.text)],
        }

    @property
    def item(self) -> str:
        return f"msg_{self.run}"

    def part(self, text: str) -> OutputText:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _usage(self) -> ResponseUsage:
        usage = self.usage
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }


async def events(answer: ResponseAnswer, records: AsyncIterator[Record]) -> AsyncGenerator[bytes]:
    """The response as a stream. An error in the middle is sent as an event, since the status is sent already."""
    stream = _Events(answer)
    try:
        async for record in records:
            text = answer.feed(record)
            if not stream.number:
                yield stream.response("created")
                yield stream.response("in_progress")
            if text:
                if not stream.has_item:
                    yield stream.open_item()
                yield stream.of_part("response.output_text.delta", {"delta": text, "logprobs": []})
        if answer.response_status == "completed" and not stream.has_item:  # an answer without text
            yield stream.open_item()
        if stream.has_item:
            yield stream.close_item()
        endings = {"completed": "completed", "failed": "failed"}
        yield stream.response(endings.get(answer.response_status, "incomplete"))
    except Exception as error:
        yield stream.event("error", openai_body(interrupted(answer.run, error)))
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


class _Events:
    """Encodes the numbered events of one response, whose output is one message with one part."""

    def __init__(self, answer: ResponseAnswer) -> None:
        self.number = 0
        self.has_item = False
        self._answer = answer

    def event(self, type_: str, fields: Mapping[str, Any]) -> bytes:
        body = {"type": type_, "sequence_number": self.number, **fields}
        self.number += 1
        return b"event: %b\ndata: %b\n\n" % (type_.encode(), encode(body))

    def response(self, what: str) -> bytes:
        return self.event(f"response.{what}", {"response": self._answer.whole()})

    def of_part(self, type_: str, fields: Mapping[str, Any]) -> bytes:
        return self.event(type_, {"item_id": self._answer.item, "output_index": 0, "content_index": 0, **fields})

    def open_item(self) -> bytes:
        self.has_item = True
        item = self._answer.message("in_progress")
        added = self.event("response.output_item.added", {"output_index": 0, "item": item})
        return added + self.of_part("response.content_part.added", {"part": self._answer.part("")})

    def close_item(self) -> bytes:
        text, status = self._answer.text, self._answer.response_status
        item = self._answer.message("completed" if status == "completed" else "incomplete")
        return b"".join(
            (
                self.of_part("response.output_text.done", {"text": text, "logprobs": []}),
                self.of_part("response.content_part.done", {"part": self._answer.part(text)}),
                self.event("response.output_item.done", {"output_index": 0, "item": item}),
            )
        )
