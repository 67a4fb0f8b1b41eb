"""Runs of instant nodes only, driven in the task of the caller who waits for them (docs/decisions/0038)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Protocol

from headrace.engine import Driver, EngineEnvironment
from headrace.errors import StoreError
from headrace.kernel.events import Record, RunId, RunQueued
from headrace.node import Flow


class RunObserver(Protocol):
    """Is notified of the runs that are driven here. It must not fail or wait."""

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven; its records are published on the bus from now on. Without a `flow` it only
        ends."""
        ...

    def on_released(self, run: RunId) -> None: ...


class InlineDrive:
    """Drives a new run to its end or pause at once, and appends all of its records together.

    Nobody knows the run before they are durable, so there is nothing to stop, to follow or to take over meanwhile; a
    crash leaves nothing of it, as of a request that has not arrived. The parameters are as those of `Worker`.
    """

    def __init__(
        self, environment: EngineEnvironment, notify_callback: Callable[[], None], observer: RunObserver | None
    ) -> None:
        self._environment = environment
        self._notify_callback = notify_callback
        self._observer = observer

    async def __call__(self, record: Record, flow: Flow) -> Sequence[Record] | None:
        """The records of a run of a flow that is `instant`, once they are durable. None, and nothing is written, if it
        is for a worker: it needs more than one slice, or has a value that cannot be stored."""
        context = copy_context()  # log lines of the run name it, those of the request do not
        records = context.run(self._drive, record, flow)
        if records is None:
            return None
        try:
            append = asyncio.ensure_future(self._environment.journal.append(records))
        except ValueError:  # nested too deeply
            self._release(record.run)
            return None
        append.add_done_callback(partial(self._on_appended, records), context=context)
        try:
            await asyncio.shield(append)  # a caller who leaves does not end it
        except StoreError as error:
            if error.transient:
                raise
            return None
        return records

    def _drive(self, record: Record, flow: Flow) -> Sequence[Record] | None:
        if self._observer is not None:
            self._observer.on_acquired([record], flow)
        records = Driver(record.run, flow, self._environment).finish_at_once(record)
        if records is None:
            self._release(record.run)
        return records

    def _on_appended(self, records: Sequence[Record], append: asyncio.Future[None]) -> None:
        first, *others = records
        if not append.cancelled() and append.exception() is None:
            self._environment.bus.publish(others)
            if isinstance(first.event, RunQueued) and first.event.callback is not None:
                self._notify_callback()
        self._release(first.run)

    def _release(self, run: RunId) -> None:
        if self._observer is not None:
            self._observer.on_released(run)
