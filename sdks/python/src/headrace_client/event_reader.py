"""From a stream's bytes to its events, and what must be known to go on after a cut. No network here.

**Places.** Headrace gives every event an `id`, because this package asks for it; a stream that is asked for with the id
of the last event goes on with all that follows, and nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json

from headrace_client.events import Event, NodeData, NodeFinished, event_of
from headrace_client.sse import Block, Decoder

if TYPE_CHECKING:
    import httpx

WORKFLOW_ENDS = frozenset({"workflow_finished", "workflow_paused", "error"})
CHAT_ENDS = frozenset({"message_end", "workflow_paused", "error"})


class Reader:
    """Reads one stream over all its connections."""

    def __init__(self, ends: frozenset[str]) -> None:
        """`ends`: the events that end the stream."""
        self.ends = ends
        self.place: str | None = None  # the last id; None where the server sends none
        self.over = False
        self.response: httpx.Response | None = None  # of the connection that is read
        self.told = 0
        self.last: Event | None = None
        self.run_id: str | None = None
        self.task_id: str | None = None
        self.message_id: str | None = None
        self.conversation_id: str | None = None
        self.finished: Event | None = None
        self.failed: NodeData | None = None  # the node that failed first, of those whose failure nothing handles
        self._texts: list[str] = []
        self._decoder = Decoder()

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that can be told now. ValueError where this is no stream of events."""
        events: list[Event] = []
        for block in self._decoder.feed(chunk):
            self._take(block, events)
        return events

    def cut(self) -> None:
        """The connection is lost, and with it the event that was under way."""
        self._decoder = Decoder()

    def _take(self, block: Block, events: list[Event]) -> None:
        if block.id is not None:
            self.place = block.id
        if block.data is None:
            return
        told = _told(block)
        if told.get("event") == "ping":
            return
        event = event_of(told)
        self._note(event)
        events.append(event)

    def _note(self, event: Event) -> None:
        self.last = event
        self.told += 1
        self.run_id = event.workflow_run_id or self.run_id
        self.task_id = event.task_id or self.task_id
        self.message_id = event.message_id or self.message_id
        self.conversation_id = event.conversation_id or self.conversation_id
        if event.text:
            self._texts.append(event.text)
        elif event.event == "message_replace":
            self._texts = [str(event.get("answer") or "")]
        if isinstance(event, NodeFinished) and event.data.status == "failed":
            self.failed = self.failed or event.data
        if event.event == "workflow_finished":
            self.finished = event
        self.over = self.over or event.event in self.ends

    def synthesized(self, told: dict[str, Any]) -> Event:
        """Takes in an event that was made from what could be asked after a cut."""
        event = event_of({**told, "synthesized": True})
        self._note(event)
        return event


def _told(block: Block) -> dict[str, Any]:
    assert block.data is not None
    try:
        told = from_json(block.data)
    except ValueError:
        told = block.data.decode("utf-8", "replace")
    if isinstance(told, dict):
        mapping = cast("dict[str, Any]", told)
        if isinstance(mapping.get("event"), str):
            return mapping
        return {**mapping, "event": block.event or ""}
    return {"event": block.event or "", "data": told}
