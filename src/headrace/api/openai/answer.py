"""A run's records as the answer of a model, for both of OpenAI's APIs."""

from __future__ import annotations

from headrace.api.dify.chat_responses import AnswerText, Reply, failure
from headrace.api.dify.schemas.common import TokenCounts
from headrace.api.http.responses import encode_text
from headrace.api.openai.json_format import JsonFormat
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued, RunResumed
from headrace.kernel.summary import FAILED, STOPPED
from headrace.node import Flow

PING = b": ping\n\n"  # a comment: OpenAI's clients expect every event to be one of theirs


class Answer:
    """Folds a run's records into an answer: its text, or the run's outputs where the client wants JSON. `error` is set
    instead where the run failed or waits for a person: a 400, because OpenAI's clients send the request again if the
    status suggests that it may succeed (409, 5xx)."""

    def __init__(self, run: RunId, flow: Flow, model: str, json_format: JsonFormat | None = None) -> None:
        self.run = run
        self.model = model
        self.error: RequestError | None = None
        self.is_done = False  # the run has ended, or waits for a person
        self._pieces: list[str] = []
        self._flow = flow
        self._json_format = json_format
        self._stream = AnswerText(flow)
        self._reply = Reply(flow)

    def feed(self, record: Record) -> str:
        """What a record adds to the answer."""
        self._reply.apply(record)
        texts = self._stream.feed(record)
        self._reply.on_text(texts, record.at)
        text_delta = "".join(text for text, *_ in texts) if self._json_format is None else ""
        self.is_done = isinstance(record.event, RunEnded | RunPaused)
        if isinstance(record.event, RunEnded | RunResumed):
            self.error = None  # that of a pause
        if isinstance(record.event, RunEnded):
            text_delta += self._at_end(record.event)
        elif isinstance(record.event, RunPaused):
            message = f"The run waits for a person. It can be followed at /v1/workflow/{self.run}/events."
            self.error = RequestError(message, "run_paused", 400)
        self._pieces.append(text_delta)
        return text_delta

    def _at_end(self, end: RunEnded) -> str:
        if end.status == FAILED:
            error = failure(self._flow, end, self._reply.summary.failure)
            self.error = RequestError(error.message, "run_failed", 400)
            return ""
        if self._json_format is None:
            return self._reply.annotated(end.outputs)
        if end.status == STOPPED:
            self.error = RequestError("The run was stopped before it had outputs.", "run_stopped", 400)
            return ""
        text = encode_text(dict(end.outputs))
        self.error = self._json_format.mismatch(text)
        return "" if self.error else text

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def request(self) -> RunQueued:
        return self._reply.summary.request

    @property
    def status(self) -> str:
        return self._reply.summary.status

    @property
    def created_at(self) -> int:
        return int(self._reply.summary.queued_at)

    @property
    def usage(self) -> TokenCounts:
        usage = self._reply.usage
        return {
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        }
