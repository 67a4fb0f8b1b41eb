"""What somebody sees who waits for a run with rounds."""

from __future__ import annotations

import io
from uuid import UUID

import pytest
from rich.console import Console

from headrace.api.dify.run_events import RunEvents
from headrace.cli.screen import Lines, Live, Screen
from headrace.engine import Driver
from headrace.kernel.events import Delta, NodeStarted, Record
from tests.engine.nests import flow, iteration, node, queued_record
from tests.engine.worlds import world

_RETRY = {"retry_enabled": True, "max_retries": 2, "retry_interval": 0}


async def shown_to(screen: Screen) -> None:
    """Shows a run: three rounds at once of a node that streams, whose first attempt fails."""
    workflow = flow(
        [
            iteration("it", ["start", "items"], ["in", "r"], is_parallel=True),
            node("in", "slow-echo", "it", reads=[["it", "item"]], fails_first=1, retry_config=_RETRY),
        ],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    where = world()
    await where.journal.append([queued_record(items=["a", "b", "c"])])
    await Driver("run", workflow, where).drive()
    frames = RunEvents(str(UUID(int=1)), workflow)
    for record in await where.journal.read("run"):
        screen.show(record, frames.feed(record))
        if isinstance(record.event, NodeStarted) and "/" in record.event.path:
            text = Record(record.run, None, record.at, Delta(record.event.path, "text", 0, f"<{record.event.path}>"))
            screen.show(text, frames.feed(text))
    screen.close()


async def test_lines_name_the_round(capsys: pytest.CaptureFixture[str]) -> None:
    await shown_to(Lines())
    lines = capsys.readouterr().err.splitlines()
    for index in range(3):
        assert f"in [{index}]: running" in lines
        assert sum(line.startswith(f"in [{index}]: retry") for line in lines) == 1
        assert sum(line.startswith(f"in [{index}]: succeeded") for line in lines) == 1


async def test_rounds_that_run_at_once_are_distinguished() -> None:
    out = io.StringIO()
    await shown_to(Live(Console(file=out, force_terminal=True, width=100, highlight=False)))
    for index in range(3):
        assert f"in [{index}]" in out.getvalue()
