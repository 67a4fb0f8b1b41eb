"""A run's records as the events of Dify's chat stream.

What `frames` makes of them is told in another envelope: text as `message`, and at the end `message_end`, or `error`
where the run failed. Apps without a workflow of their own (chat, completion) tell only these.

**Places** are those of `frames`. One more follows the run's last record: `N:1` is past the closing event, where `N` is
past workflow_finished only.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.api.dify.chat_responses import FLOWING, Reply, envelope, failure
from headrace.api.dify.run_events import START, RunEvents, StreamEvent, StreamPosition
from headrace.api.http.json import encode
from headrace.conversations.messages import AGENT, MESSAGES
from headrace.kernel.events import NodeSucceeded, Record, RunEnded, RunId
from headrace.kernel.graph_response import Said
from headrace.node import Flow
from headrace.values import File, Value

_FLAT = frozenset(
    {"message", "agent_message", "message_file", "message_end", "error"}
)  # they hold their data themselves


def events_for(run: RunId, flow: Flow, after: StreamPosition = START) -> RunEvents:
    """The frames of a run, in the dialect of its app."""
    return (ChatEvents if flow.mode in MESSAGES else RunEvents)(run, flow, after)


class ChatEvents(RunEvents):
    """Folds one run's records, from its first, into a chat's frames: those after `after` only."""

    def __init__(self, run: RunId, flow: Flow, after: StreamPosition = START) -> None:
        super().__init__(run, flow, after)
        self._flow = flow
        self._came_to = after
        self._reply = Reply(flow)

    def feed(self, record: Record) -> list[StreamEvent]:
        known = len(self._reply.files)
        self._reply.take(record)
        frames: list[StreamEvent] = []
        for frame in super().feed(record):
            if frame.event == "text_chunk":
                frames.append(self._said(frame))
            elif self._reply.flowing:
                thought = frame.event == "reasoning_chunk"
                frames.append(frame._replace(data={"message_id": self.run, **frame.data}) if thought else frame)
            elif isinstance(record.event, NodeSucceeded):
                new = self._reply.files[known:]
                frames += [StreamEvent("message_file", _message_file(file), frame.place) for file in new]
        if isinstance(record.event, RunEnded) and record.seq is not None:
            return self._closed(frames, record.event, record.seq)
        return frames

    def encode(self, frame: StreamEvent) -> bytes:
        event: dict[str, Value] = {"event": frame.event}
        event |= envelope(self.run, self._reply.asked, self._reply.queued_at)
        if frame.event == "error":
            return encode(event | frame.data)
        event["task_id"] = self.task
        if frame.event == "reasoning_chunk":
            return encode(event | {"data": frame.data})
        event |= frame.data if frame.event in _FLAT else {"workflow_run_id": self.run, "data": frame.data}
        return encode(event)

    def _heard(self, texts: Sequence[Said], at: float) -> None:
        self._reply.heard(texts, at)

    def _said(self, chunk: StreamEvent) -> StreamEvent:
        told = {"id": self.run, "answer": chunk.data["text"]}
        if self._flow.mode == AGENT:
            return chunk._replace(event="agent_message", data=told)
        selector = chunk.data["from_variable_selector"] if self._reply.flowing else None
        return chunk._replace(event="message", data={**told, "from_variable_selector": selector})

    def _closed(self, frames: list[StreamEvent], ended: RunEnded, seq: int) -> list[StreamEvent]:
        """What the run's end is told as, to a reader who may have come to between its events before."""
        came, reply = self._came_to, self._reply
        if came.seq > seq or (came.seq == seq and came.told):
            return []
        if came.seq < seq:
            if said := reply.annotated(ended.outputs):
                frames.append(self._said(StreamEvent("text_chunk", {"text": said}, START)))
            if frames:
                frames[-1] = frames[-1]._replace(place=StreamPosition(seq))
        past = StreamPosition(seq, 1)
        if ended.status == "failed":
            error = failure(self._flow, ended, reply.failure)
            told = {"code": error.code, "status": error.status, "message": error.message}
            return [*frames, StreamEvent("error", told, past)]
        files = reply.files if self._flow.mode == FLOWING else reply.files or None
        told = {"id": self.run, "metadata": reply.metadata, "files": files}
        return [*frames, StreamEvent("message_end", told, past)]


def _message_file(file: File) -> dict[str, Value]:
    return {"id": file.related_id, "type": file.type, "belongs_to": "assistant", "url": file.url or file.remote_url}
