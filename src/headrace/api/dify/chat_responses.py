"""Answers of chat and completion apps: what goes with the text of one, and the answer to a blocking call.

Facts (recorded, Dify 1.12): `usage` is summed over the models' answers, prices per unit are the last one's, and where
no model was asked all is zero ("0.0"); `time_to_first_token` counts from the question to the first text of the answer,
`time_to_generate` from there to the last. A failed chatflow is 400 `invalid_param` "Run failed: ...".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import cast

from headrace.api.dify.run_responses import Blocking
from headrace.api.http.json import encode
from headrace.conversations.messages import ANNOTATION
from headrace.errors import RequestError
from headrace.kernel.events import (
    NodeFailed,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunId,
    RunQueued,
)
from headrace.kernel.graph_response import Said
from headrace.kernel.path import Path, node_of
from headrace.kernel.response_stream import Answer
from headrace.kernel.secrets import Mask
from headrace.node import Flow
from headrace.nodes.knowledge_retrieval import retriever_resources
from headrace.values import File, Value, files_in

FLOWING = "advanced-chat"
"""The mode of chats that show their workflow; of the others only the answer is told."""

_SPEAKERS = frozenset({"answer", "end", "llm"})  # node types whose files come with the answer
_SUMMED = ("prompt_tokens", "completion_tokens", "total_tokens")
_PRICES = ("prompt_price", "completion_price", "total_price")
_NOTHING: Mapping[str, Value] = {
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


def envelope(run: RunId, queued: RunQueued, at: float) -> dict[str, Value]:
    """What every event of a message says after its name. Completion apps hold no conversations."""
    told: dict[str, Value] = {} if queued.conversation is None else {"conversation_id": queued.conversation}
    return told | {"message_id": run, "created_at": int(at)}


class Reply:
    """Folds a run's records into what goes with the text of its answer. `take` all records, and say when text is
    `heard`."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._citing = enabled(flow, "retriever_resource")
        self._containers: set[Path] = set()
        self._usage: dict[str, Value] = dict(_NOTHING)
        self._sources: list[dict[str, Value]] = []
        self._first: float | None = None
        self._last = 0.0
        self.files: list[File] = []
        self.failure: NodeFailed | None = None
        self.queued: RunQueued | None = None
        self.queued_at = 0.0

    def take(self, record: Record) -> None:
        match record.event:
            case NodeSucceeded() as event:
                self._succeeded(event)
            case NodeFailed(strategy=None) as event:
                self.failure = event
            case RoundStarted(path):
                self._containers.add(path)
            case RunQueued() as event:
                self.queued, self.queued_at = event, record.at
            case _:
                pass

    def heard(self, texts: Sequence[Said], at: float) -> None:
        if any(text.strip() for text, *_ in texts):
            self._first = at if self._first is None else self._first
            self._last = at

    @property
    def asked(self) -> RunQueued:
        assert self.queued is not None  # a run's first record
        return self.queued

    @property
    def annotation(self) -> str | None:
        """The id of the annotation that was the answer, if one was."""
        return self.asked.system.get(ANNOTATION)

    def annotated(self, outputs: Mapping[str, Value]) -> str:
        """What the annotation says, of a run that has ended; empty where there is none."""
        return "" if self.annotation is None else str(outputs.get("answer") or "")

    @property
    def flowing(self) -> bool:
        """Whether the workflow is told, and not only the answer."""
        return self._flow.mode == FLOWING and self.annotation is None

    @property
    def usage(self) -> Mapping[str, Value]:
        if self._first is None:
            return self._usage
        return self._usage | {
            "time_to_first_token": round(self._first - self.queued_at, 3),
            "time_to_generate": round(self._last - self._first, 3),
        }

    @property
    def metadata(self) -> dict[str, Value]:
        # Dify names the account that wrote an annotation; there are no accounts here
        annotation = self.annotation and {"id": self.annotation, "account": {"id": None, "name": "Headrace"}}
        return {"annotation_reply": annotation, "retriever_resources": self._sources, "usage": self.usage}

    def _succeeded(self, event: NodeSucceeded) -> None:
        if event.usage and event.path not in self._containers:  # a container's is the sum of what is counted already
            self._add(event.usage)
        node = self._flow.nodes.get(node_of(event.path))
        if node is None:
            return
        if node.type in _SPEAKERS:
            self.files += [file for file in files_in(event.outputs) if file not in self.files]
        elif self._citing and node.type == "knowledge-retrieval":
            self._cite(event.outputs)

    def _add(self, usage: Mapping[str, Value]) -> None:
        total = self._usage
        if total["total_tokens"] == 0:
            self._usage = {**_NOTHING, **usage}
            return
        added: dict[str, Value] = {name: total[name] + (usage.get(name) or 0) for name in _SUMMED}
        added |= {name: str(Decimal(total[name]) + Decimal(usage.get(name) or 0)) for name in _PRICES}
        added["latency"] = round(total["latency"] + (usage.get("latency") or 0), 3)
        self._usage = {**total, **usage, **added}

    def _cite(self, outputs: Mapping[str, Value]) -> None:
        known = {(each.get("dataset_id"), each.get("document_id")) for each in self._sources}
        for source in retriever_resources(outputs):
            document = (source.get("dataset_id"), source.get("document_id"))
            if all(document) and document in known:
                continue
            known.add(document)
            self._sources.append({**source, "position": len(self._sources) + 1})


def code_of(kind: str) -> str:
    """The code for a model's failure of this kind (`NodeError.kind`)."""
    return _CODES.get(kind, "completion_request_error" if kind.startswith("Invoke") else "invalid_param")


def failure(flow: Flow, ended: RunEnded, failed: NodeFailed | None) -> RequestError:
    """The error that a failed run is told as. Apps without a workflow of their own tell the model's own error."""
    if flow.mode == FLOWING:
        return RequestError(f"Run failed: {ended.error}", "invalid_param", 400)
    return RequestError(ended.error or "The run failed.", code_of(failed.kind if failed else ""), 400)


class Text:
    """Folds a run's records into its whole answer."""

    def __init__(self, flow: Flow) -> None:
        # what an answer tells straight from the environment never was a record, so it is masked here
        self._answer = Answer(flow.graph, {"env": Mask(flow.secrets).value(dict(flow.environment))})
        self._pieces: list[str] = []

    def feed(self, record: Record) -> Sequence[Said]:
        """What the answer grew by."""
        texts = self._answer.apply(record)
        self._pieces += [text for text, *_ in texts]
        return texts

    def add(self, text: str) -> str:
        """Adds text that no node told; returns it."""
        self._pieces.append(text)
        return text

    def __str__(self) -> str:
        return "".join(self._pieces)


class BlockingReply(Blocking):
    """Folds a run's records into the one answer to a blocking call; `error` is set instead where the run failed."""

    __slots__ = ("_flow", "_reply", "_text", "error")

    def __init__(self, run: RunId, task: str, flow: Flow) -> None:
        super().__init__(run, task)
        self._flow = flow
        self._text = Text(flow)
        self._reply = Reply(flow)
        self.error: RequestError | None = None

    def feed(self, record: Record) -> bytes | None:
        self._reply.take(record)
        self._reply.heard(self._text.feed(record), record.at)
        if isinstance(record.event, RunEnded) and record.event.status == "failed":
            self.error = failure(self._flow, record.event, self._reply.failure)
            return None
        return super().feed(record)

    def _answer(self, data: dict[str, Value]) -> bytes:
        reply, paused = self._reply, data["status"] == "paused"
        told: dict[str, Value] = {"event": "workflow_paused" if paused else "message", "task_id": self._task}
        told |= {"id": self._run, "message_id": self._run}
        if reply.asked.conversation is not None:
            told["conversation_id"] = reply.asked.conversation
        told |= {
            "mode": self._flow.mode,
            "answer": str(self._text) or reply.annotated(data["outputs"]),
            "metadata": reply.metadata,
            "created_at": int(reply.queued_at),
        }
        return encode(told | {"workflow_run_id": self._run, "data": data} if paused else told)
