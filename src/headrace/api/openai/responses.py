"""A run's records as an answer of OpenAI's chat completions: whole, or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

from headrace.api.dify.chat_responses import AnswerText, Reply, failure
from headrace.api.http.errors import interrupted, openai_body
from headrace.api.http.json import encode
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused
from headrace.node import Flow
from headrace.values import Value

BEAT = b": ping\n\n"  # a comment: OpenAI's clients take every event for a chunk
_DONE = b"data: [DONE]\n\n"


class Completion:
    """Folds a run's records into a completion; `error` is set instead where the run failed, or waits for somebody: a
    400, because OpenAI's clients send the request again for what looks as if it might pass (409, 5xx)."""

    def __init__(self, run: RunId, flow: Flow, model: str) -> None:
        self.run = run
        self.error: RequestError | None = None
        self.over = False  # the run has ended, or waits for somebody: nothing more is told
        self._flow = flow
        self._model = model
        self._text = AnswerText(flow)
        self._reply = Reply(flow)

    def feed(self, record: Record) -> str:
        """What the answer grew by."""
        self._reply.apply(record)
        texts = self._text.feed(record)
        self._reply.on_text(texts, record.at)
        grown = "".join(text for text, *_ in texts)
        self.over = isinstance(record.event, RunEnded | RunPaused)
        if isinstance(record.event, RunEnded):
            if record.event.status == "failed":
                told = failure(self._flow, record.event, self._reply.failure)
                self.error = RequestError(told.message, "run_failed", 400)
            grown += self._text.add(self._reply.annotated(record.event.outputs))
        elif isinstance(record.event, RunPaused):
            message = f"The run waits for somebody. It can be followed at /v1/workflow/{self.run}/events."
            self.error = RequestError(message, "run_paused", 400)
        return grown

    @property
    def usage(self) -> dict[str, Value]:
        usage = self._reply.usage
        return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}

    def whole(self) -> dict[str, Value]:
        message = {"role": "assistant", "content": str(self._text), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._told("chat.completion", [choice]) | {"usage": self.usage}

    def chunk(self, delta: Mapping[str, Value], finish_reason: str | None = None) -> dict[str, Value]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._told("chat.completion.chunk", [choice])

    def totals(self) -> dict[str, Value]:
        """The chunk that tells the usage, and nothing else."""
        return self._told("chat.completion.chunk", []) | {"usage": self.usage}

    def _told(self, kind: str, choices: list[dict[str, Value]]) -> dict[str, Value]:
        told: dict[str, Value] = {
            "id": f"chatcmpl-{self.run}",
            "object": kind,
            "created": int(self._reply.queued_at),
            "model": self._model,
            "choices": choices,
        }
        conversation = self._reply.queued.conversation  # beyond OpenAI's: what a chat goes on with
        return told if conversation is None else told | {"conversation_id": conversation}


async def chunks(
    completion: Completion, records: AsyncIterator[Record], *, with_usage: bool = False
) -> AsyncGenerator[bytes]:
    """The completion as a stream. An error in mid-stream is told as an event, because the status is out already."""
    more: dict[str, Value] = {"usage": None} if with_usage else {}
    begun = False
    try:
        async for record in records:
            text = completion.feed(record)
            for delta in _deltas(text, begun=begun):
                begun = True
                yield _event(completion.chunk(delta) | more)
        if completion.error is not None:
            yield _event(openai_body(completion.error))
            return
        yield _event(completion.chunk({}, "stop") | more)
        if with_usage:
            yield _event(completion.totals())
        yield _DONE
    except Exception as error:
        yield _event(openai_body(interrupted(completion.run, error)))
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def _deltas(text: str, *, begun: bool) -> Iterator[dict[str, Value]]:
    if not begun:
        yield {"role": "assistant", "content": "", "refusal": None}
    if text:
        yield {"content": text}


def _event(told: Mapping[str, Value]) -> bytes:
    return b"data: %b\n\n" % encode(told)
