"""A service whose clock the test sets, with workflows that triggers start."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.apps.catalog import Apps, Release
from headrace.background import background
from headrace.brokers import LocalBus
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.kernel.events import NodeSucceeded, Record, RunQueued
from headrace.nodes import registry
from headrace.ports import RunFilter, Storage
from headrace.ports.journal import ListedRun
from headrace.rate_limits import Limiter
from headrace.runs.service import RunService
from headrace.runs.worker import Worker
from headrace.stores.memory import memory_storage
from headrace.triggers import ServedTrigger, TriggerService
from tests.api.serving import NoHttp
from tests.resources import only

SECRET = b"s" * 32


def triggered(*triggers: Mapping[str, Any], outputs: Mapping[str, Sequence[str]] | None = None) -> str:
    """A workflow that these triggers start: their data, with an id if it is not t1, t2 ..."""
    names = itertools.count(1)
    nodes = [{"id": str(data.get("id") or f"t{next(names)}"), "data": {"title": "T", **data}} for data in triggers]
    ends = [{"variable": name, "value_selector": list(selector)} for name, selector in (outputs or {}).items()]
    end = {"id": "end", "data": {"type": "end", "title": "End", "outputs": ends}}
    edges = [{"source": node["id"], "sourceHandle": "source", "target": "end"} for node in nodes]
    graph = {"nodes": [*nodes, end], "edges": edges}
    return yaml.safe_dump(
        {
            "app": {"mode": "workflow", "name": "triggered"},
            "kind": "app",
            "version": "0.5.0",
            "workflow": {"features": {}, "graph": graph},
        }
    )


def webhook(**data: Any) -> dict[str, Any]:
    return {"type": "trigger-webhook", "method": "post", "content_type": "application/json", **data}


def cron(expression: str, timezone: str = "UTC", **data: Any) -> dict[str, Any]:
    more = {"mode": "cron", "cron_expression": expression, "timezone": timezone, **data}
    return {"type": "trigger-schedule", **more}


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """One process of a service."""

    storage: Storage
    run_service: RunService
    files: FileStore
    triggers: TriggerService
    clock: Clock

    async def publish(self, content: str, source: str = "flow.yml", workspace: str = "default") -> Release:
        release = await self.run_service.apps.publish(source, content, workspace)
        self.triggers.invalidate()
        return release

    async def trigger(self, node: str = "t1") -> ServedTrigger:
        (trigger,) = [one for one in await self.triggers.triggers() if one.node == node]
        return trigger

    async def runs(self) -> list[ListedRun]:
        """All runs, oldest first."""
        apps = [app.id for app in await self.run_service.apps.catalog.apps()]
        _, runs = await self.run_service.runs.list_runs(RunFilter(apps, limit=1000))
        return sorted(runs, key=lambda run: run.created_at)

    async def queued(self) -> list[RunQueued]:
        records = [await self.run_service.environment.journal.read(run.run) for run in await self.runs()]
        return [one[0].event for one in records if isinstance(one[0].event, RunQueued)]

    async def records(self, run: str) -> list[Record]:
        """Those of a run, until it ends."""
        return [record async for record in self.run_service.follow(run)]

    async def outputs(self, node: str = "t1") -> Mapping[str, Any]:
        """What a trigger has output in the newest run."""
        for record in await self.records((await self.runs())[-1].run):
            if isinstance(record.event, NodeSucceeded) and record.event.path == node:
                return record.event.outputs
        raise AssertionError(f"{node} has not run")


@asynccontextmanager
async def world(
    folder: Path, storage: Storage | None = None, clock: Clock | None = None, limiter: Limiter | None = None
) -> AsyncGenerator[World]:
    storage, clock = storage or memory_storage(), clock or Clock()
    files = FileStore(FileBlobStore(folder / "files"), storage.catalog, SECRET, NoHttp(), "http://host.example", clock)
    environment = EngineEnvironment(storage.journal, LocalBus(), only(files=files), clock=clock)
    apps = Apps(storage.catalog, registry(()), SECRET, clock)
    run_service = RunService(apps, environment, LocalDispatch(storage.leases), storage, limiter=limiter)
    async with background("worker", Worker(run_service).run()):
        yield World(storage, run_service, files, TriggerService(run_service), clock)
