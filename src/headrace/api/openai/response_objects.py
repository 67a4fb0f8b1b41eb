"""A run's answer as an object of OpenAI's responses: whole, or as events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal, cast

from headrace.api.http.errors import interrupted, openai_body
from headrace.api.http.responses import encode
from headrace.api.openai.answer import Answer
from headrace.api.openai.requests import RESPONSE_PREFIX, format_of
from headrace.api.openai.response_schemas import OutputMessage, OutputText, ResponseObject, ResponseUsage
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import PAUSED, QUEUED, STOPPED
from headrace.runs.reader import RunView

_Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]


class ResponseAnswer(Answer):
    """An answer as a response."""

    @classmethod
    def of(cls, run: RunId, view: RunView) -> ResponseAnswer:
        """That of an existing run, which no record has been fed to yet."""
        request = view.summary.request.metadata or {}
        return cls(run, view.release.flow, str(request.get("model") or view.release.app.name), format_of(request))

    @property
    def response_status(self) -> _Status:
        if self.status == PAUSED:  # a client that polls for the end should not wait for a person
            return "incomplete"
        if self.status == STOPPED:
            return "cancelled"
        if self.error is not None:
            return "failed"
        if self.is_done:
            return "completed"
        return "queued" if self.status == QUEUED else "in_progress"

    def whole(self) -> ResponseObject:
        status, conversation = self.response_status, self.request.conversation
        request = cast("Mapping[str, Any]", self.request.metadata or {})
        has_output = status == "completed" or (status in ("cancelled", "incomplete") and self.text)
        return {
            "id": f"{RESPONSE_PREFIX}{self.run}",
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": bool(request.get("background")),
            "error": {"code": "server_error", "message": self.error.message} if self.error else None,
            "incomplete_details": None,
            "instructions": request.get("instructions"),
            "metadata": request.get("metadata") or {},
            "model": self.model,
            "output": [self.message("completed" if status == "completed" else "incomplete")] if has_output else [],
            "parallel_tool_calls": False,
            "previous_response_id": request.get("previous_response_id"),
            "conversation": None if conversation is None else {"id": conversation},
            "store": True,
            "text": request.get("text") or {"format": {"type": "text"}},
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


async def events(
    answer: ResponseAnswer, records: AsyncGenerator[Record], after: int | None = None
) -> AsyncGenerator[bytes]:
    """The response as a stream, or what is `after` a number of it. An error in the middle is sent as an event, since
    the status is sent already."""
    stream = _Events(answer, -1 if after is None else after)
    is_open = False
    try:
        async with aclosing(records):
            async for record in records:
                text = answer.feed(record)
                piece = stream.delta(text) if text else b""
                if not is_open:
                    is_open = True
                    piece = stream.response("created", _CREATED) + stream.response("in_progress", _CREATED + 1) + piece
                if piece:
                    yield piece
            if rest := stream.rest():
                yield rest
    except Exception as error:
        yield stream.event("error", stream.end, openai_body(interrupted(answer.run, error)))


_CREATED, _ADDED, _TEXT = 0, 2, 3
"""Numbers of events. That of a delta also counts the characters until its end, so that a stream has the same numbers
whichever pieces its text arrives in, and can be continued in the middle of one."""


class _Events:
    """Encodes the numbered events of one response, whose output is one message with one part; nothing for those up to
    the number `after`."""

    def __init__(self, answer: ResponseAnswer, after: int) -> None:
        self.has_item = False
        self._answer = answer
        self._after = after
        self._size = 0

    @property
    def end(self) -> int:
        """The first number behind the text."""
        return _TEXT + self._size + 1

    def event(self, type_: str, number: int, fields: Mapping[str, Any]) -> bytes:
        if number <= self._after:
            return b""
        body = {"type": type_, "sequence_number": number, **fields}
        return b"event: %b\ndata: %b\n\n" % (type_.encode(), encode(body))

    def response(self, what: str, number: int) -> bytes:
        return self.event(f"response.{what}", number, {"response": self._answer.whole()})

    def of_part(self, type_: str, number: int, fields: Mapping[str, Any]) -> bytes:
        place = {"item_id": self._answer.item, "output_index": 0, "content_index": 0}
        return self.event(type_, number, {**place, **fields})

    def delta(self, text: str) -> bytes:
        item = b"" if self.has_item else self.open_item()
        self._size += len(text)
        number = _TEXT + self._size
        text = text[-(number - self._after) :] if number > self._after else ""
        return item + self.of_part("response.output_text.delta", number, {"delta": text, "logprobs": []})

    def rest(self) -> bytes:
        status = self._answer.response_status
        rest = self.open_item() if status == "completed" and not self.has_item else b""  # an answer without text
        rest += self.close_item() if self.has_item else b""
        ending = status if status in ("completed", "failed") else "incomplete"
        return rest + self.response(ending, self.end + 3)

    def open_item(self) -> bytes:
        self.has_item = True
        item = self._answer.message("in_progress")
        event = self.event("response.output_item.added", _ADDED, {"output_index": 0, "item": item})
        return event + self.of_part("response.content_part.added", _ADDED + 1, {"part": self._answer.part("")})

    def close_item(self) -> bytes:
        text, status = self._answer.text, self._answer.response_status
        item = self._answer.message("completed" if status == "completed" else "incomplete")
        return b"".join(
            (
                self.of_part("response.output_text.done", self.end, {"text": text, "logprobs": []}),
                self.of_part("response.content_part.done", self.end + 1, {"part": self._answer.part(text)}),
                self.event("response.output_item.done", self.end + 2, {"output_index": 0, "item": item}),
            )
        )
