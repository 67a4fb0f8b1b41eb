"""Every error that Headrace raises on purpose, as one tree.

    HeadraceError
    ├── LoadError            a workflow file cannot be run: all its problems at once
    ├── NodeError            a node failed; its error strategy decides what that means
    ├── SequenceConflict     another writer took this run's next number, or the conversation's next message
    ├── StoreError           the database cannot be opened, written or read, for now or because of the operation
    └── RequestError         a request that cannot be fulfilled; has Dify's code and an HTTP status
        ├── InvalidParam     400 invalid_param
        ├── Unauthorized     401 unauthorized
        ├── Forbidden        403 forbidden
        ├── NotFound         404 not_found
        ├── TooManyRequests  429 too_many_requests
        ├── FileStorageError 503 service_unavailable
        └── ServerDraining   503 service_unavailable

An error says what happened, where (run, node, field) and what to do about it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast


class HeadraceError(Exception):
    """The root of the tree; `str(error)` can be shown to a user."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a workflow file, and where it is: line, node, field."""

    message: str
    node: str | None = None
    field: str | None = None
    line: int | None = None  # from 1
    fatal: bool = True  # False: the file loads and runs up to here (an unknown node type, a missing credential)

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        where += [f"node '{self.node}'"] if self.node else []
        where += [f"field '{self.field}'"] if self.field else []
        return f"{', '.join(where)}: {self.message}" if where else self.message


class LoadError(HeadraceError):
    """A workflow file that cannot be loaded, with all its problems."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class NodeError(HeadraceError):
    """A node failed.

    `kind` is what a workflow sees as `error_type`: the name that Dify gives the same failure
    (CodeExecutionError, HttpRequestNodeError, InvokeBadRequestError, ...).
    `inputs`, `process` and `outputs` are what is known of the attempt, shown in its node_finished.
    """

    def __init__(
        self,
        message: str,
        kind: str = "NodeError",
        *,
        inputs: Mapping[str, Any] | None = None,
        process: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.inputs: Mapping[str, Any] = inputs or {}
        self.process: Mapping[str, Any] = process or {}
        self.outputs: Mapping[str, Any] = outputs or {}
        super().__init__(message)


class SequenceConflict(HeadraceError):
    """An append came second: the run already has an event with this number, or its conversation already has a message
    with the run's number."""

    def __init__(self, run: str, seq: int) -> None:
        self.run = run
        self.seq = seq
        super().__init__(f"run {run}: event {seq} came second")


class StoreError(HeadraceError):
    """The database cannot be opened, written or read.

    `transient`: the database is the cause (locked, full, not reachable), and the same may succeed later; the store
    itself logs when that begins and ends. Otherwise the operation is the cause, and would fail again. `reason` is the
    database's own message, without its name: it can be shown to those who may not know where the data is.
    """

    def __init__(self, message: str, *, transient: bool = True, reason: str | None = None) -> None:
        self.transient = transient
        self.reason = reason or message
        super().__init__(message)

    @property
    def level(self) -> int:
        """The level at which callers log it: what the store has logged already is not repeated."""
        return logging.DEBUG if self.transient else logging.ERROR


class NewerSchema(StoreError):
    """A newer version of Headrace has migrated the database while this one used it, and only such a version can use it
    now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)

    @property
    def level(self) -> int:
        return logging.DEBUG


class NewerRecord(StoreError):
    """A newer version of Headrace wrote a record of a run, and only such a version can read it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)


def store_error(error: BaseException) -> StoreError | None:
    """The store's error, if that is the only cause of a failure; the first one of a group."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        errors = [store_error(nested) for nested in group.exceptions]
        return errors[0] if all(nested is not None for nested in errors) else None
    return None


@dataclass
class RequestError(HeadraceError):
    """A request that cannot be fulfilled. On the wire: `{code, message, status}`, as in Dify's API."""

    message: str
    code: str = "bad_request"
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.message


class InvalidParam(RequestError):
    """400: an argument is missing, of the wrong type or out of range."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "invalid_param", 400)


class Unauthorized(RequestError):
    """401: no key, or one that is unknown, revoked or of the wrong scheme."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "unauthorized", 401, {"WWW-Authenticate": 'Bearer realm="api"'})


class Forbidden(RequestError):
    """403: the key is valid, but lacks a permission."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "forbidden", 403)


class NotFound(RequestError):
    """404: nothing has that id, or the key has no access to it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "not_found", 404)


class TooManyRequests(RequestError):
    """429: a limit is reached; after `retry_after` seconds the request may succeed."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, "too_many_requests", 429, {"Retry-After": str(retry_after)})


class FileStorageError(RequestError):
    """503: the storage of files is not available. `reason` is for those who may know where the files are."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        message = "The storage of files is not available. Please try again."
        super().__init__(message, "service_unavailable", 503, {"Retry-After": "5"})


class ServerDraining(RequestError):
    """503: this process is shutting down and accepts no more runs."""

    def __init__(self) -> None:
        message = "The server is shutting down. Please try again."
        super().__init__(message, "service_unavailable", 503, {"Retry-After": "1", "Connection": "close"})


class ServerOverloaded(RequestError):
    """503: too many runs wait for a worker; after `retry_after` seconds fewer may."""

    def __init__(self, retry_after: int) -> None:
        message = "Too many runs are waiting on this server. Please try again later."
        super().__init__(message, "service_unavailable", 503, {"Retry-After": str(retry_after)})
