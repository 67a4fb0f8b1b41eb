"""A run's records as the events of Dify's chat stream.

The events of `run_events` in another envelope: text as `message`, and at the end `message_end`, or `error` where the
run failed. Apps without a workflow of their own (chat, completion) send only these.

Positions are those of `run_events`. One more follows the run's last record: `N:1` is past the closing event,
where `N` is past workflow_finished only.
"""

from __future__ import annotations

from headrace.api.dify.agent_thoughts import AgentThoughts
from headrace.api.dify.chat_responses import FLOWING, Reply, envelope, failure
from headrace.api.dify.run_events import START, RunEvents, StreamEvent, StreamPosition
from headrace.api.dify.schemas.events import ErrorData
from headrace.api.dify.schemas.message_events import (
    AgentThoughtData,
    MessageData,
    MessageEndData,
    MessageFileData,
)
from headrace.api.dify.schemas.messages import AgentThought
from headrace.api.http.responses import encode
from headrace.conversations.messages import AGENT
from headrace.kernel.events import REASONING, Record, RunEnded, RunId
from headrace.kernel.summary import FAILED
from headrace.node import Flow
from headrace.values import File, Value

_FLAT = frozenset(
    {"message", "agent_message", "agent_thought", "message_file", "message_end", "error"}
)  # their data is not under `data`, but beside the name


class ChatEvents(RunEvents):
    """Folds a run's records, from its first, into the events of a chat after a position."""

    def __init__(self, run: RunId, flow: Flow, after: StreamPosition = START) -> None:
        super().__init__(run, flow, after)
        self._flow = flow
        self._position = after
        self._reply = Reply(flow)
        self._thoughts = AgentThoughts(flow)

    def feed(self, record: Record) -> list[StreamEvent]:
        file_count = len(self._reply.files)
        self._reply.apply(record)
        new_thought = self._thoughts.apply(record)
        events: list[StreamEvent] = []
        workflow_events = super().feed(record)
        self._reply.on_text([text for text in self.texts if text.selector[1] != REASONING], record.at)
        for event in workflow_events:
            if event.event == "text_chunk":
                events.append(self._message(event))
            elif self._reply.flowing:
                thought = event.event == "reasoning_chunk"
                events.append(event._replace(data={"message_id": self.run, **event.data}) if thought else event)
            else:
                files = self._reply.files[file_count:]
                events += [StreamEvent("message_file", _message_file(file), event.position) for file in files]
                if new_thought is not None:
                    events.append(StreamEvent("agent_thought", _agent_thought(new_thought), event.position))
        if isinstance(record.event, RunEnded) and record.seq is not None:
            return self._close(events, record.event, record.seq)
        return events

    def encode(self, event: StreamEvent) -> bytes:
        body: dict[str, Value] = {"event": event.event}
        body |= envelope(self.run, self._summary.request, self._summary.queued_at)
        if event.event == "error":
            return encode({**body, **event.data})
        body["task_id"] = self.task
        if event.event == "reasoning_chunk":
            return encode(body | {"data": event.data})
        body.update(event.data if event.event in _FLAT else {"workflow_run_id": self.run, "data": event.data})
        return encode(body)

    def _message(self, chunk: StreamEvent) -> StreamEvent:
        data: MessageData = {"id": self.run, "answer": chunk.data["text"]}
        if self._flow.mode == AGENT:
            return chunk._replace(event="agent_message", data=data)
        data["from_variable_selector"] = chunk.data["from_variable_selector"] if self._reply.flowing else None
        return chunk._replace(event="message", data=data)

    def _close(self, events: list[StreamEvent], run_end: RunEnded, seq: int) -> list[StreamEvent]:
        """The events of the run's end, for a reader that may have seen some of them."""
        position, reply = self._position, self._reply
        if position.seq > seq or (position.seq == seq and position.sent):
            return []
        if position.seq < seq:
            if text := reply.annotated(run_end.outputs):
                events.append(self._message(StreamEvent("text_chunk", {"text": text}, START)))
            if events:
                events[-1] = events[-1]._replace(position=StreamPosition(seq))
        past = StreamPosition(seq, 1)
        if run_end.status == FAILED:
            error = failure(self._flow, run_end, reply.summary.failure)
            error_data: ErrorData = {"code": error.code, "status": error.status, "message": error.message}
            return [*events, StreamEvent("error", error_data, past)]
        files = reply.files if self._flow.mode == FLOWING else reply.files or None
        end: MessageEndData = {"id": self.run, "metadata": reply.metadata, "files": files}
        return [*events, StreamEvent("message_end", end, past)]


def _agent_thought(thought: AgentThought) -> AgentThoughtData:
    return {
        "id": thought["id"],
        "position": thought["position"],
        "thought": thought["thought"],
        "observation": thought["observation"],
        "tool": thought["tool"],
        "tool_labels": thought["tool_labels"],
        "tool_input": thought["tool_input"],
        "message_files": thought["files"],
    }


def _message_file(file: File) -> MessageFileData:
    return {"id": file.related_id, "type": file.type, "belongs_to": "assistant", "url": file.url or file.remote_url}
