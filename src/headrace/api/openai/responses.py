"""A run's records as an answer of OpenAI's chat completions: whole, or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

from headrace.api.dify.chat_responses import AnswerText, Reply, failure, in_conversation
from headrace.api.dify.schemas.common import TokenCounts
from headrace.api.http.errors import interrupted, openai_body
from headrace.api.http.json import encode
from headrace.api.openai.schemas import ChatCompletion, ChatCompletionChunk, ChunkChoice, Delta
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused
from headrace.node import Flow
from headrace.values import Value

PING = b": ping\n\n"  # a comment: OpenAI's clients take every event for a chunk
_DONE = b"data: [DONE]\n\n"


class Completion:
    """Folds a run's records into a completion. `error` is set instead where the run failed or waits for a person: a
    400, because OpenAI's clients send the request again if the status suggests that it may succeed (409, 5xx)."""

    def __init__(self, run: RunId, flow: Flow, model: str) -> None:
        self.run = run
        self.error: RequestError | None = None
        self.is_done = False  # the run has ended, or waits for a person
        self._flow = flow
        self._model = model
        self._text = AnswerText(flow)
        self._reply = Reply(flow)

    def feed(self, record: Record) -> str:
        """What a record adds to the answer."""
        self._reply.apply(record)
        texts = self._text.feed(record)
        self._reply.on_text(texts, record.at)
        added = "".join(text for text, *_ in texts)
        self.is_done = isinstance(record.event, RunEnded | RunPaused)
        if isinstance(record.event, RunEnded):
            if record.event.status == "failed":
                error = failure(self._flow, record.event, self._reply.summary.failure)
                self.error = RequestError(error.message, "run_failed", 400)
            added += self._text.add(self._reply.annotated(record.event.outputs))
        elif isinstance(record.event, RunPaused):
            message = f"The run waits for a person. It can be followed at /v1/workflow/{self.run}/events."
            self.error = RequestError(message, "run_paused", 400)
        return added

    @property
    def usage(self) -> TokenCounts:
        usage = self._reply.usage
        return {
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        }

    def whole(self) -> ChatCompletion:
        return {
            "id": f"chatcmpl-{self.run}",
            "object": "chat.completion",
            "created": int(self._reply.summary.queued_at),
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": str(self._text), "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            **in_conversation(self._reply.summary.request),
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
            "created": int(self._reply.summary.queued_at),
            "model": self._model,
            "choices": choices,
            **in_conversation(self._reply.summary.request),
        }


async def chunks(
    completion: Completion, records: AsyncIterator[Record], *, with_usage: bool = False
) -> AsyncGenerator[bytes]:
    """The completion as a stream. An error in the middle is sent as an event, since the status is sent already."""
    usage: dict[str, Value] = {"usage": None} if with_usage else {}
    has_begun = False
    try:
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
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def _deltas(text: str, *, has_begun: bool) -> Iterator[Delta]:
    if not has_begun:
        yield {"role": "assistant", "content": "", "refusal": None}
    if text:
        yield {"content": text}


def _event(body: Mapping[str, Value]) -> bytes:
    return b"data: %b\n\n" % encode(body)
