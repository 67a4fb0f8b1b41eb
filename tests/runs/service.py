"""A runtime with its worker, on whatever store, and workflows whose nodes a test holds in its hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import ClassVar

from headrace.apps.catalog import Apps, Release
from headrace.brokers import LocalBus, LocalWire
from headrace.dispatch import LocalDispatch, SharedDispatch
from headrace.engine import EngineEnvironment
from headrace.node import Config, Context, Node, Pause, Registry, Result
from headrace.nodes.end import End
from headrace.nodes.start import Start
from headrace.ports import Dispatch, Storage
from headrace.runs.service import RunService, Submission
from headrace.runs.worker import Worker
from tests.engine.worlds import NOTHING

SECRET = b"s" * 32


class Gate(Node[Config]):
    """Waits until the test opens it. `begun` tells that a run has come to it."""

    type = "gate"
    begun: ClassVar[asyncio.Event]
    release: ClassVar[asyncio.Event]
    entered: ClassVar[int] = 0

    @classmethod
    def reset(cls) -> None:
        cls.begun, cls.release, cls.entered = asyncio.Event(), asyncio.Event(), 0

    async def run(self, ctx: Context) -> Result | Pause:
        type(self).entered += 1
        self.begun.set()
        ctx.emit("text", "through ")
        await self.release.wait()
        ctx.emit("text", "the gate")
        return Result({"text": "through the gate", "secret": ctx.variables.get(("env", "KEY"))})


REGISTRY: Registry = {"start": Start, "end": End, "gate": Gate}  # pyright: ignore[reportAssignmentType]

ECHO = """
app: {mode: workflow, name: echo}
kind: app
version: 0.5.0
workflow:
  environment_variables: [{name: KEY, value: hunter2!, value_type: secret}]
  features: {}
  graph:
    nodes:
    - {id: s, data: {type: start, title: Start, variables: [{variable: q, label: q, type: text-input}]}}
    - {id: e, data: {type: end, title: End, outputs: [{variable: q, value_selector: [s, q]}]}}
    edges:
    - {id: s-e, source: s, sourceHandle: source, target: e}
"""
GATED = """
app: {mode: workflow, name: gated}
kind: app
version: 0.5.0
workflow:
  environment_variables: [{name: KEY, value: hunter2!, value_type: secret}]
  features: {}
  graph:
    nodes:
    - {id: s, data: {type: start, title: Start, variables: []}}
    - {id: g, data: {type: gate, title: Gate}}
    - id: e
      data:
        type: end
        title: End
        outputs: [{variable: text, value_selector: [g, text]}, {variable: key, value_selector: [g, secret]}]
    edges:
    - {id: s-g, source: s, sourceHandle: source, target: g}
    - {id: g-e, source: g, sourceHandle: source, target: e}
"""


def dispatch_of(store: Storage) -> Dispatch:
    if store.queue is None:
        return LocalDispatch(store.leases)
    return SharedDispatch(store.leases, store.queue, LocalWire())


def run_service(
    store: Storage, bus: LocalBus | None = None, max_active: int = 0, dispatch: Dispatch | None = None
) -> RunService:
    world = EngineEnvironment(store.journal, bus or LocalBus(), NOTHING)
    return RunService(
        Apps(store.catalog, REGISTRY, SECRET),
        world,
        dispatch_of(store) if dispatch is None else dispatch,
        store,
        max_active,
    )


@asynccontextmanager
async def working(where: RunService, concurrency: int = 100) -> AsyncGenerator[RunService]:
    """With a worker, which is let go at the end as if its process had been told to stop."""
    task = asyncio.create_task(Worker(where, concurrency=concurrency).run())
    try:
        yield where
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def publish(where: RunService, content: str, source: str = "flow.yml") -> Release:
    return await where.apps.publish(source, content)


def submission_of(release: Release, **inputs: object) -> Submission:
    return Submission(release, "somebody", inputs)
