"""What the asynchronous API remembers: first answers, callbacks, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.kernel.events import RunId
from headrace.values import Value

CALLBACK, BATCH = "callback ", "batch "
"""How the claims begin that go on with the id of a callback or a batch (`Claims`)."""


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The first answer to a request that came with an Idempotency-Key; `status` is None while it is being made."""

    app: str
    key: str
    digest: str  # of the request: another one under the same key is a conflict
    created_at: float
    status: int | None = None
    body: bytes = b""


class IdempotencyStore(Protocol):
    """First answers, kept so that a repeated request gets the same."""

    async def claim(self, app: str, key: str, digest: str, at: float, expired: float) -> IdempotencyRecord | None:
        """None: the caller is the first, and is to `complete` or `release` it. Else what the first one left.
        One made before `expired` counts as if it were not there."""
        ...

    async def complete(self, app: str, key: str, status: int, body: bytes) -> None: ...

    async def release(self, app: str, key: str) -> None:
        """There is no answer to keep: the next caller is the first again."""
        ...


@dataclass(frozen=True, slots=True)
class Callback:
    """A message to a run's `callback_url`: that it ended or paused. Its id is the same at every try.

    `status` is pending, delivered or failed; `next_at` is when it is tried next (None: not any more).
    """

    id: str
    app: str
    run: str
    url: str
    event: str  # run.succeeded, run.partial-succeeded, run.failed, run.stopped, run.paused
    seq: int  # of the record that it tells
    created_at: float
    status: str = "pending"
    attempts: int = 0
    next_at: float | None = None
    last_status: int | None = None  # HTTP status of the last try
    last_error: str | None = None
    delivered_at: float | None = None


class Callbacks(Protocol):
    """Messages to be delivered. One comes into being in the transaction that ends or pauses its run (`callback_of`)."""

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        """Pending ones whose `next_at` has come and that no worker has claimed (`CALLBACK` and its id), the longest
        due first."""
        ...

    async def save_callback(self, callback: Callback) -> None:
        """Replaces the one of the same id."""
        ...

    async def find_callback(self, callback: str) -> Callback | None: ...

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        """Oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Many runs of one version, asked for at once. `status` is running, stopped or ended; `key` is the id of the
    principal who asked, where its plan counts."""

    id: str
    app: str
    version: str
    user: str
    total: int
    created_at: float
    concurrency: int = 10
    rpm: int | None = None  # runs begun a minute, at most
    status: str = "running"
    ended_at: float | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line of a batch, from 0: the inputs of one run; of apps that answer messages also the query, and the
    conversation that it goes on with, if any. `error` says why it could not become one."""

    index: int
    inputs: Mapping[str, Value]
    error: str | None = None
    query: str | None = None
    conversation: str | None = None


class Batches(Protocol):
    """Batches and their lines. Which run does a line follows from the batch's id and the line's index alone."""

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None: ...
    async def save_batch(self, batch: Batch) -> None: ...
    async def find_batch(self, batch: str) -> Batch | None: ...

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        """Newest first."""
        ...

    async def batch_lines(self, batch: str, start: int = 0, limit: int = 1000) -> list[BatchLine]:
        """Lines from an index on, in order."""
        ...
