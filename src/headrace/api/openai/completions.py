"""A run's answer as a chat completion: whole, or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing

from headrace.api.dify.chat_responses import in_conversation
from headrace.api.http.errors import interrupted, openai_body
from headrace.api.http.responses import encode
from headrace.api.openai.answer import Answer
from headrace.api.openai.schemas import ChatCompletion, ChatCompletionChunk, ChunkChoice, Delta
from headrace.kernel.events import Record
from headrace.values import Value

_DONE = b"data: [DONE]\n\n"


class Completion(Answer):
    """An answer as a chat completion."""

    def whole(self) -> ChatCompletion:
        return {
            "id": f"chatcmpl-{self.run}",
            "object": "chat.completion",
            "created": self.created_at,
            "model": self.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": self.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            **in_conversation(self.request),
            "usage": self.usage,
        }

    def chunk(self, delta: Delta, *, last: bool = False) -> ChatCompletionChunk:
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}])

    def totals(self) -> ChatCompletionChunk:
        """The chunk that has the usage, and nothing else."""
        chunk = self._chunk([])
        chunk["usage"] = self.usage
        return chunk

    def _chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        return {
            "id": f"chatcmpl-{self.run}",
            "object": "chat.completion.chunk",
            "created": self.created_at,
            "model": self.model,
            "choices": choices,
            **in_conversation(self.request),
        }


async def chunks(
    completion: Completion, records: AsyncGenerator[Record], *, with_usage: bool = False
) -> AsyncGenerator[bytes]:
    """The completion as a stream. An error in the middle is sent as an event, since the status is sent already."""
    usage: dict[str, Value] = {"usage": None} if with_usage else {}
    has_begun = False
    try:
        async with aclosing(records):
            async for record in records:
                text = completion.feed(record)
                for delta in _deltas(text, has_begun=has_begun):
                    has_begun = True
                    yield _event({**completion.chunk(delta), **usage})
            if completion.error is not None:
                yield _event(openai_body(completion.error))
                return
            yield _event({**completion.chunk({}, last=True), **usage})
            if with_usage:
                yield _event(completion.totals())
            yield _DONE
    except Exception as error:
        yield _event(openai_body(interrupted(completion.run, error)))


def _deltas(text: str, *, has_begun: bool) -> Iterator[Delta]:
    if not has_begun:
        yield {"role": "assistant", "content": "", "refusal": None}
    if text:
        yield {"content": text}


def _event(body: Mapping[str, Value]) -> bytes:
    return b"data: %b\n\n" % encode(body)
