"""The progress of a run on stderr: on a terminal a live line for each node with its streamed text, else plain lines.

`show` gets a record, and the stream events (api/dify/run_events) made from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace.cli.shared import printable, say
from headrace.kernel.events import Delta, Event, NodeFailed, NodeRetried, NodeStarted, NodeSucceeded, Record

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from headrace.api.dify.run_events import StreamEvent

TAIL = 8  # lines shown of a streamed text, until its node has ended
_ROUND = re.compile(r"\[\d+\](?=/)")
_MARKS = {"succeeded": ("✓", "green"), "exception": ("!", "yellow"), "retry": ("↻", "yellow"), "failed": ("✗", "red")}


class Screen(Protocol):
    """Shows a run."""

    def show(self, record: Record, frames: Sequence[StreamEvent]) -> None: ...
    def close(self) -> None: ...


def screen() -> Screen:
    """The screen for a terminal or another stderr."""
    if not sys.stderr.isatty():
        return Lines()
    from rich.console import Console

    return Live(Console(stderr=True, highlight=False))


def _used(data: Mapping[str, Any]) -> str:
    """The seconds and tokens of a node that ended."""
    metadata: Mapping[str, Any] = data["execution_metadata"] or {}
    tokens = metadata.get("total_tokens")
    return f"{data['elapsed_time']:.2f} s" + (f", {tokens} tokens" if tokens else "")


def _label(data: Mapping[str, Any], path: str) -> str:
    """A node's title, with its rounds inside containers, the outermost first."""
    rounds = "".join(_ROUND.findall(path))
    return f"{data['title'] or data['node_id']}{' ' if rounds else ''}{rounds}"


def _path(event: Event) -> str:
    """The path of an event's node."""
    return event.path if isinstance(event, NodeStarted | NodeRetried | NodeSucceeded | NodeFailed) else ""


def brief(error: str) -> str:
    """An error in one line; for a traceback, its last one."""
    lines = [line.strip() for line in error.strip().splitlines() if line.strip()] or [""]
    return lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)


class Lines:
    """A line whenever a node starts or ends, without streamed text."""

    def show(self, record: Record, frames: Sequence[StreamEvent]) -> None:
        for event, data, _ in frames:
            if event == "node_started":
                say(printable(f"{_label(data, _path(record.event))}: running"))
            elif event in ("node_finished", "node_retry"):
                error = f": {brief(data['error'])}" if data["error"] else ""
                say(printable(f"{_label(data, _path(record.event))}: {data['status']}, {_used(data)}{error}"))

    def close(self) -> None:
        pass


class Quiet:
    """Shows nothing: the events go to stdout."""

    def show(self, record: Record, frames: Sequence[StreamEvent]) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(slots=True)
class _Node:
    """An active node: its label, start time and streamed text."""

    label: str
    since: float
    text: str = ""


class Live:
    """Nodes that have ended are printed; active ones stay below them, with a spinner and their text."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live as Region
        from rich.spinner import Spinner

        self._console = console
        self._spinner = Spinner("dots", style="cyan")
        self._running: dict[str, _Node] = {}  # by path, because parallel rounds have nodes of the same id
        self._region = Region(
            get_renderable=self._render, console=console, refresh_per_second=12, transient=True, redirect_stdout=False
        )
        self._region.start()

    def show(self, record: Record, frames: Sequence[StreamEvent]) -> None:
        event = record.event
        if isinstance(event, Delta) and record.seq is None and event.path in self._running:
            self._running[event.path].text += event.text
        for name, data, _ in frames:
            if name == "node_started":
                path = _path(event)
                self._running[path] = _Node(_label(data, path), self._console.get_time())
            elif name == "node_finished":
                self._finished(data, _path(event))
            elif name == "node_retry" and isinstance(event, NodeRetried):
                self._running[event.path].text = ""
                self._print(data, event.path)

    def close(self) -> None:
        self._running.clear()
        self._region.stop()

    def _finished(self, data: Mapping[str, Any], path: str) -> None:
        from rich.padding import Padding
        from rich.text import Text

        node = self._running.pop(path, None)
        self._print(data, path)
        if node is not None and node.text.strip():
            self._console.print(Padding(Text(node.text.strip(), style="dim"), (0, 0, 0, 2)))

    def _print(self, data: Mapping[str, Any], path: str) -> None:
        from rich.padding import Padding
        from rich.text import Text

        mark, colour = _MARKS[data["status"]]
        self._console.print(self._line(Text(mark, style=colour), _label(data, path), _used(data)))
        if data["error"]:
            self._console.print(Padding(Text(data["error"].strip(), style=colour), (0, 0, 0, 2)))

    def _line(self, mark: RenderableType, title: str, usage: str) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1), expand=False)
        grid.add_column(width=1)
        grid.add_column(width=max(20, min(50, self._console.width - 30)), no_wrap=True, overflow="ellipsis")
        grid.add_column(style="dim")
        grid.add_row(mark, Text(title), usage)
        return grid

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = []
        rows = max(3, self._console.height - 2 * TAIL)
        for node in [*self._running.values()][:rows]:
            lines.append(self._line(self._spinner, node.label, f"{self._console.get_time() - node.since:.1f} s"))
            if node.text.strip():
                text_lines = Text(node.text.strip(), style="dim").wrap(self._console, max(10, self._console.width - 2))
                lines.extend(Text("  ") + line for line in text_lines[-TAIL:])
        if len(self._running) > rows:
            lines.append(Text(f"  and {len(self._running) - rows} more", style="dim"))
        return Group(*lines) if lines else Text()  # an empty group would leave an empty line behind
