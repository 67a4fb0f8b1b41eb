"""The data of the asynchronous API: idempotency records, callbacks, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.values import Value

CALLBACK, BATCH = "callback ", "batch "
"""Prefixes of the claims of callbacks and batches, before their id (`Claims`)."""


MAILTO = "mailto:"
"""How the URL of a callback begins that is an e-mail about a form; the recipient's address follows."""


@frozen
class IdempotencyRecord:
    """The response to the first request with an Idempotency-Key; `status` is None until it is complete."""

    app: str
    key: str
    digest: str  # of the request: another request with the same key is a conflict
    created_at: float
    status: int | None = None
    body: bytes = b""


class IdempotencyStore(Protocol):
    """Keeps responses, so that a repeated request gets the same one."""

    async def claim(self, app: str, key: str, digest: str, at: float, expired: float) -> IdempotencyRecord | None:
        """None: the caller is the first, and must `complete` or `release` the key. Otherwise the record of the first
        one. A record from before `expired` does not count."""
        ...

    async def complete(self, app: str, key: str, status: int, body: bytes) -> None: ...

    async def release(self, app: str, key: str) -> None:
        """Gives up a key without a response: the next caller is the first again."""
        ...


@frozen
class Callback:
    """A message to a run's `callback_url` that the run has ended or paused, or an e-mail about a form. Its id is the
    same in every attempt.

    `status` is pending, delivered or failed; `next_at` is the time of the next attempt, None if there is none.
    """

    id: str
    app: str
    run: str
    url: str
    event: str  # run.succeeded, run.partial-succeeded, run.failed, run.stopped, run.paused, form.requested
    seq: int  # of the record that it reports
    created_at: float
    status: str = "pending"
    attempts: int = 0
    next_at: float | None = None
    last_status: int | None = None  # HTTP status of the last attempt
    last_error: str | None = None
    delivered_at: float | None = None


class Callbacks(Protocol):
    """Callbacks to be delivered. They are added in the transaction that ends or pauses their run, or that requests
    their form (`callback_of`, `mails_of`)."""

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        """Pending ones whose `next_at` has come and that no worker has claimed (`CALLBACK` and the id), in order of
        `next_at`."""
        ...

    async def save_callback(self, callback: Callback) -> None:
        """Replaces the one with the same id."""
        ...

    async def find_callback(self, callback: str) -> Callback | None: ...

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        """Oldest first."""
        ...


@frozen
class Batch:
    """Many runs of one version, requested together. `status` is running, stopped or ended; `key` is the id of the
    caller's principal, if its plan applies."""

    id: str
    app: str
    version: str
    user: str
    total: int
    created_at: float
    concurrency: int = 10
    rpm: int | None = None  # runs started a minute, at most
    status: str = "running"
    ended_at: float | None = None
    key: str | None = None


@frozen
class BatchLine:
    """One line of a batch, counted from 0: the inputs of one run; for apps that answer messages also the query and the
    conversation that it continues, if any. `error` says why the line is invalid."""

    index: int
    inputs: Mapping[str, Value]
    error: str | None = None
    query: str | None = None
    conversation: str | None = None


class Batches(Protocol):
    """Batches and their lines. The id of a line's run follows from the batch's id and the line's index alone."""

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None: ...
    async def save_batch(self, batch: Batch) -> None: ...
    async def find_batch(self, batch: str) -> Batch | None: ...

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        """Newest first."""
        ...

    async def batch_lines(self, batch: str, start: int = 0, limit: int = 1000) -> list[BatchLine]:
        """Lines from an index on, in order."""
        ...
