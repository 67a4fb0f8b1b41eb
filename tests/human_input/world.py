"""A runtime whose clock the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.apps.catalog import Apps
from headrace.brokers import LocalBus
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.errors import InvalidParam
from headrace.kernel.events import Event, Record, RunEnded, RunId, RunPaused
from headrace.nodes import registry
from headrace.nodes.human_input.answer import Resolve
from headrace.ports import Form, Storage
from headrace.ports.services import Limits
from headrace.runs.forms import open_form, submit_form
from headrace.runs.service import RunService, Submission
from headrace.values import File, Value
from tests.engine.worlds import NOTHING
from tests.runs.service import SECRET, Gate

HOUR = 3600.0


async def no_file(mapping: Mapping[str, Value]) -> File:
    raise InvalidParam("Invalid upload file")


@dataclass
class Clock:
    now: float = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class People:
    """A runtime, and what people do with its forms."""

    service: RunService
    clock: Clock

    async def start(self, content: str, name: str = "flow.yml", **inputs: Any) -> RunId:
        """A run that has paused or ended."""
        release = await self.service.apps.publish(name, content)
        submitted = await self.service.submit(Submission(release, "somebody", inputs))
        await self.until(submitted.run, RunPaused, RunEnded)
        return submitted.run

    async def events(self, run: RunId) -> list[Event]:
        return [record.event for record in await self.service.environment.journal.read(run)]

    async def until(self, run: RunId, *kinds: type[Event], after: int = 0) -> Record:
        """The first record of these kinds after a number."""
        async with asyncio.timeout(60):
            async for record in self.service.follow(run, after, on_pause=True):
                if isinstance(record.event, kinds):
                    return record
        raise AssertionError(f"the run ended without {kinds}")

    async def ended(self, run: RunId) -> RunEnded:
        event = (await self.until(run, RunEnded)).event
        assert isinstance(event, RunEnded)
        return event

    async def forms(self, run: RunId) -> Sequence[Form]:
        return await self.service.forms.forms_of(run)

    async def answer(self, form: Form, action: str = "approve", resolve: Resolve = no_file, **inputs: Value) -> None:
        pending = await open_form(self.service, form.token or "")
        assert pending is not None
        await submit_form(self.service, pending, action, {"comment": "fine", **inputs}, "ada", resolve)


def people(store: Storage, clock: Clock | None = None, **limits: Any) -> People:
    clock = clock or Clock()
    environment = EngineEnvironment(store.journal, LocalBus(), NOTHING, Limits(**limits), clock=clock)
    types = {**registry(), "gate": Gate}
    apps = Apps(store.catalog, types, SECRET)  # pyright: ignore[reportArgumentType]
    return People(RunService(apps, environment, LocalDispatch(store.leases), store), clock)
