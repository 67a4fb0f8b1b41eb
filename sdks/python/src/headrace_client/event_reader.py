"""Parses a stream's bytes into events, and keeps what is needed to resume after a cut. No network access here.

Headrace sends every event with an `id`, because this package asks for it. A stream that is requested with the last id
continues with the events that follow, and repeats none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json

from headrace_client.events import Event, NodeData, NodeFinished, parse_event
from headrace_client.sse import Block, Decoder

if TYPE_CHECKING:
    import httpx

WORKFLOW_ENDS = frozenset({"workflow_finished", "workflow_paused", "error"})
CHAT_ENDS = frozenset({"message_end", "workflow_paused", "error"})


class EventReader:
    """Reads one stream over all its connections."""

    def __init__(self, ends: frozenset[str]) -> None:
        """`ends`: the events that end the stream."""
        self.ends = ends
        self.last_event_id: str | None = None  # None if the server sends no ids
        self.ended = False
        self.response: httpx.Response | None = None  # of the current connection
        self.event_count = 0
        self.last_event: Event | None = None
        self.run_id: str | None = None
        self.task_id: str | None = None
        self.message_id: str | None = None
        self.conversation_id: str | None = None
        self.finished_event: Event | None = None
        self.failed_node: NodeData | None = None  # the first node that failed without an error handler
        self._texts: list[str] = []
        self._decoder = Decoder()

    @property
    def ends_at_pause(self) -> bool:
        """Whether the stream ends when the run pauses."""
        return "workflow_paused" in self.ends

    @property
    def text(self) -> str:
        """All text streamed so far."""
        return "".join(self._texts)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes. ValueError if this is not an event stream."""
        events: list[Event] = []
        for block in self._decoder.feed(chunk):
            self._read_block(block, events)
        return events

    def discard_partial(self) -> None:
        """Drops what was received of an event when the connection was lost."""
        self._decoder = Decoder()

    def _read_block(self, block: Block, events: list[Event]) -> None:
        if block.id is not None:
            self.last_event_id = block.id
        if block.data is None:
            return
        payload = _parse_payload(block)
        if payload.get("event") == "ping":
            return
        event = parse_event(payload)
        self._record(event)
        events.append(event)

    def _record(self, event: Event) -> None:
        self.last_event = event
        self.event_count += 1
        self.run_id = event.workflow_run_id or self.run_id
        self.task_id = event.task_id or self.task_id
        self.message_id = event.message_id or self.message_id
        self.conversation_id = event.conversation_id or self.conversation_id
        if event.text:
            self._texts.append(event.text)
        elif event.event == "message_replace":
            self._texts = [str(event.get("answer") or "")]
        if isinstance(event, NodeFinished) and event.data.status == "failed":
            self.failed_node = self.failed_node or event.data
        if event.event == "workflow_finished":
            self.finished_event = event
        self.ended = self.ended or event.event in self.ends

    def add_synthesized(self, payload: dict[str, Any]) -> Event:
        """Records an event that was made from what could be fetched after a cut."""
        event = parse_event({**payload, "synthesized": True})
        self._record(event)
        return event


def _parse_payload(block: Block) -> dict[str, Any]:
    assert block.data is not None
    try:
        data = from_json(block.data)
    except ValueError:
        data = block.data.decode("utf-8", "replace")
    if isinstance(data, dict):
        payload = cast("dict[str, Any]", data)
        if isinstance(payload.get("event"), str):
            return payload
        return {**payload, "event": block.event or ""}
    return {"event": block.event or "", "data": data}
