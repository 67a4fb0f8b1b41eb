"""Answers of chat and completion apps: what accompanies the text of one, and the response to a blocking request.

Facts (recorded, Dify 1.12): `usage` is the sum over the models' answers, prices per unit are the last one's, and all is
zero ("0.0") where no model was called; `time_to_first_token` counts from the question to the first text of the answer,
`time_to_generate` from there to the last. A failed chatflow is 400 `invalid_param` "Run failed: ...".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from headrace.api.dify.run_responses import BlockingResponse
from headrace.api.dify.schemas.message_events import MessageEnvelope
from headrace.api.dify.schemas.messages import (
    InConversation,
    Message,
    MessageMetadata,
    ModelUsage,
    PausedMessage,
    RetrieverResource,
)
from headrace.api.dify.schemas.runs import PausedRun, RunResult
from headrace.api.http.responses import encode
from headrace.conversations.messages import ANNOTATION
from headrace.errors import RequestError
from headrace.kernel.events import (
    NodeFailed,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunQueued,
    StepEnded,
)
from headrace.kernel.graph import node_of
from headrace.kernel.graph_response import TextChunk
from headrace.kernel.response import ResponseStream
from headrace.kernel.summary import FAILED, RunSummary
from headrace.node import Flow
from headrace.nodes._tool_messages import SOURCES
from headrace.values import File, Value, files_in

FLOWING = "advanced-chat"
"""The mode of chats whose streams show their workflow; the others show only the answer."""

_NO_USAGE: ModelUsage = {
    "prompt_tokens": 0,
    "prompt_unit_price": "0.0",
    "prompt_price_unit": "0.0",
    "prompt_price": "0.0",
    "completion_tokens": 0,
    "completion_unit_price": "0.0",
    "completion_price_unit": "0.0",
    "completion_price": "0.0",
    "total_tokens": 0,
    "total_price": "0.0",
    "currency": "USD",
    "latency": 0.0,
    "time_to_first_token": None,
    "time_to_generate": None,
}
_CODES = {
    "ProviderTokenNotInitError": "provider_not_initialize",
    "QuotaExceededError": "provider_quota_exceeded",
    "ModelCurrentlyNotSupportError": "model_currently_not_support",
}


def enabled(flow: Flow, feature: str) -> bool:
    """Whether a feature of the app is on."""
    setting = flow.features.get(feature)
    return isinstance(setting, dict) and bool(cast("dict[str, Value]", setting).get("enabled"))


def in_conversation(request: RunQueued) -> InConversation:
    """The conversation of a message. Completion apps have none."""
    return {} if request.conversation is None else {"conversation_id": request.conversation}


def envelope(run: RunId, request: RunQueued, at: float) -> MessageEnvelope:
    """The first fields of all events of a message."""
    return {**in_conversation(request), "message_id": run, "created_at": int(at)}


class Reply:
    """Folds a run's records into what accompanies the text of its answer: `apply` takes all records, `on_text` the
    times at which text came."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._cites = enabled(flow, "retriever_resource")
        self.summary = RunSummary(flow.graph)
        self._sources: list[RetrieverResource] = []
        self._first_text_at: float | None = None
        self._last_text_at = 0.0
        self.files: list[File] = []

    def apply(self, record: Record) -> None:
        self.summary.apply(record)
        if isinstance(record.event, NodeSucceeded):
            self._succeeded(record.event)
        elif isinstance(record.event, StepEnded) and self._flow.mode != FLOWING:
            self._add_files(record.event.result)  # an agent's, which its answer shows as they come

    def on_text(self, texts: Sequence[TextChunk], at: float) -> None:
        if any(text.strip() for text, *_ in texts):
            self._first_text_at = at if self._first_text_at is None else self._first_text_at
            self._last_text_at = at

    @property
    def annotation(self) -> str | None:
        """The id of the annotation that was the answer, if one was."""
        return self.summary.request.system.get(ANNOTATION)

    def annotated(self, outputs: Mapping[str, Value]) -> str:
        """The text of the annotation that answered a run that has ended; empty where none did."""
        return "" if self.annotation is None else str(outputs.get("answer") or "")

    @property
    def flowing(self) -> bool:
        """Whether the stream shows the workflow, and not only the answer."""
        return self._flow.mode == FLOWING and self.annotation is None

    @property
    def usage(self) -> ModelUsage:
        total = self.summary.usage
        usage = cast("ModelUsage", {**_NO_USAGE, **total.wire()}) if total.last else _NO_USAGE
        if self._first_text_at is None:
            return usage
        return {
            **usage,
            "time_to_first_token": round(self._first_text_at - self.summary.queued_at, 3),
            "time_to_generate": round(self._last_text_at - self._first_text_at, 3),
        }

    @property
    def metadata(self) -> MessageMetadata:
        annotation = self.annotation
        return {
            # Dify names the account that wrote an annotation; there are no accounts here
            "annotation_reply": {"id": annotation, "account": {"id": None, "name": "Headrace"}} if annotation else None,
            "retriever_resources": self._sources,
            "usage": self.usage,
        }

    def _succeeded(self, event: NodeSucceeded) -> None:
        node = self._flow.nodes.get(node_of(event.path))
        if node is None:
            return
        if node.traits.response or node.traits.generates:
            self._add_files(event.outputs)
        if self._cites and node.traits.cites:
            from headrace.nodes.knowledge_retrieval import retriever_resources

            self._cite(retriever_resources(event.outputs))
        if self._cites and (sources := event.process.get(SOURCES)):  # of a plugin's tool
            self._cite(cast("Sequence[Mapping[str, Value]]", sources))

    def _add_files(self, values: Mapping[str, Value]) -> None:
        self.files += [file for file in files_in(values) if file not in self.files]

    def _cite(self, sources: Sequence[Mapping[str, Value]]) -> None:
        citations = {(source.get("dataset_id"), source.get("document_id")) for source in self._sources}
        for source in sources:
            document = (source.get("dataset_id"), source.get("document_id"))
            if all(document) and document in citations:
                continue
            citations.add(document)
            self._sources.append(cast("RetrieverResource", {**source, "position": len(self._sources) + 1}))


def code_of(kind: str) -> str:
    """The error code for a model's failure of a kind (`NodeError.kind`)."""
    return _CODES.get(kind, "completion_request_error" if kind.startswith("Invoke") else "invalid_param")


def failure(flow: Flow, end: RunEnded, failed_node: NodeFailed | None) -> RequestError:
    """The error of a failed run. Apps without a workflow of their own return the model's."""
    if flow.mode == FLOWING:
        return RequestError(f"Run failed: {end.error}", "invalid_param", 400)
    return RequestError(end.error or "The run failed.", code_of(failed_node.kind if failed_node else ""), 400)


class AnswerText:
    """Folds a run's records into its whole answer."""

    def __init__(self, flow: Flow) -> None:
        self._answer = ResponseStream(flow.graph, {"env": flow.masked_environment})
        self._pieces: list[str] = []

    def feed(self, record: Record) -> Sequence[TextChunk]:
        """What a record adds to the answer."""
        texts = self._answer.apply(record)
        self._pieces += [text for text, *_ in texts]
        return texts

    def add(self, text: str) -> str:
        """Adds text that comes from no node; returns it."""
        self._pieces.append(text)
        return text

    def __str__(self) -> str:
        return "".join(self._pieces)


class BlockingMessage(BlockingResponse):
    """Folds a run's records into the response of a blocking request; `error` is set instead where the run failed."""

    __slots__ = ("_reply", "_text")

    def __init__(self, run: RunId, task: str, flow: Flow) -> None:
        super().__init__(run, task, flow)
        self._text = AnswerText(flow)
        self._reply = Reply(flow)

    def feed(self, record: Record) -> bytes | None:
        self._reply.apply(record)
        self._reply.on_text(self._text.feed(record), record.at)
        if isinstance(record.event, RunEnded) and record.event.status == FAILED:
            self.error = failure(self._flow, record.event, self._reply.summary.failure)
            return None
        return super().feed(record)

    def _encode(self, data: RunResult | PausedRun) -> bytes:
        reply = self._reply
        message: Message = {
            "event": "message",
            "task_id": self._task,
            "id": self._run,
            "message_id": self._run,
            **in_conversation(reply.summary.request),
            "mode": self._flow.mode,
            "answer": str(self._text) or reply.annotated(data["outputs"]),
            "metadata": reply.metadata,
            "created_at": int(reply.summary.queued_at),
        }
        if "reasons" not in data:
            return encode(message)
        message_body: PausedMessage = {
            **message,
            "event": "workflow_paused",
            "workflow_run_id": self._run,
            "data": data,
        }
        return encode(message_body)
