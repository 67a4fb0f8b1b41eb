"""From a stream's bytes to its events, and what must be known to go on after a cut. No network here.

**Places.** Headrace follows every event with its `id`, in a block of its own; whoever comes back with it is told all
that follows, and nothing twice. So once a server is known to send ids, an event is held until its id is there (both
come in one piece): what was told is then always what the place stands for.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import from_json

from headrace_client.events import Event, NodeData, NodeFinished, event_of
from headrace_client.sse import Block, Decoder

WORKFLOW_ENDS = frozenset({"workflow_finished", "workflow_paused", "error"})
CHAT_ENDS = frozenset({"message_end", "workflow_paused", "error"})


class Reader:
    """Reads one stream over all its connections."""

    def __init__(self, ends: frozenset[str], places: bool = False) -> None:
        """`ends`: the events that end the stream; `places`: the server is known to send ids."""
        self.ends = ends
        self.places = places
        self.place: str | None = None
        self.over = False
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
        self._held: dict[str, Any] | None = None
        self._unplaced: list[dict[str, Any]] = []  # told since the last place: the server may tell them again
        self._again: list[dict[str, Any]] = []

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

    def end(self) -> list[Event]:
        """The connection has ended in order: what was held is told, too."""
        events: list[Event] = []
        self._release(events)
        return events

    def cut(self) -> None:
        """The connection is lost: what was held will come again."""
        self._decoder = Decoder()
        self._held = None
        self._again, self._unplaced = self._unplaced, []

    def _take(self, block: Block, events: list[Event]) -> None:
        if block.data is None:
            if block.id is not None:
                self.places = True
            self._release(events)
            if block.id is not None:
                self.place, self._unplaced = block.id, []
            return
        told = _told(block)
        if told.get("event") == "ping":
            return
        self._release(events)
        if self._again:
            if told == self._again.pop(0):
                self._unplaced.append(told)
                return
            self._again = []
        self._held = told
        if block.id is not None:
            self.places = True
            self._release(events)
            self.place, self._unplaced = block.id, []
        elif not self.places:
            self._release(events)

    def _release(self, events: list[Event]) -> None:
        told, self._held = self._held, None
        if told is None:
            return
        event = event_of(told)
        self._note(event)
        self._unplaced = [*self._unplaced, told] if self.places else [told]
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
