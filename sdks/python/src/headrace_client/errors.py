"""The exceptions, as one tree.

    HeadraceError
    ├── AuthenticationError      401: the key is missing or unknown to the server
    ├── PermissionDeniedError    403: the key is valid, but does not allow this
    ├── NotFoundError            404: there is nothing with that id
    ├── ConflictError            409: the resource is not in a state that allows the request
    ├── ValidationError          any other 4xx: the server does not accept the request
    ├── RateLimitError           429: too many requests; `retry_after` seconds, if the server sends them
    ├── ServerError              5xx, or a response that cannot be understood
    ├── APIConnectionError       the server could not be reached, or the connection broke
    │   ├── APITimeoutError      the server did not respond in time
    │   └── StreamInterruptedError   a stream broke, and the run's outcome could not be fetched
    ├── WaitTimeoutError         the run, or the indexing, had not ended when the wait timed out
    ├── RunFailedError           the run failed or was stopped
    ├── IndexingFailedError      a document could not be indexed
    └── UsageError               the call itself is not valid; nothing was sent (also a ValueError)

An error has what is known: `status` (HTTP), `code` and `message` (the server's), `request_id`, `run_id`, `node`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_client.dataset_models import IndexingStatus
    from headrace_client.events import Event
    from headrace_client.models import WorkflowRun


class HeadraceError(Exception):
    """The base class of all errors; `str(error)` can be shown to a user.

    `node` is the node that failed, as the server describes it: `{"node_id", "title", ...}`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        node: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.run_id = run_id
        self.task_id = task_id
        self.node = node
        self.body = body

    def __str__(self) -> str:
        details = [f"{self.status} {self.code or ''}".strip()] if self.status is not None else []
        details += [f"run {self.run_id}"] if self.run_id else []
        details += [f"request {self.request_id}"] if self.request_id else []
        return f"{self.message} ({', '.join(details)})" if details else self.message


class AuthenticationError(HeadraceError):
    """401: the key is missing or unknown to the server."""


class PermissionDeniedError(HeadraceError):
    """403: the key is valid, but does not allow this."""


class NotFoundError(HeadraceError):
    """404: there is nothing with that id, or nothing that this key can access."""


class ConflictError(HeadraceError):
    """409: the resource is not in a state that allows the request."""


class ValidationError(HeadraceError):
    """400, 413, 415, 422 and the like: the server does not accept the request."""


class RateLimitError(HeadraceError):
    """429: too many requests. `retry_after`: seconds to wait before a retry, if the server sends them."""

    retry_after: float | None = None


class ServerError(HeadraceError):
    """5xx, or a response that cannot be understood."""


class APIConnectionError(HeadraceError):
    """The server could not be reached, or the connection broke."""


class APITimeoutError(APIConnectionError):
    """The server did not respond in time."""


class StreamInterruptedError(APIConnectionError):
    """A stream broke, and neither the rest of it nor the run's outcome could be fetched.

    `last_event` is the last event that was received; `text` is all text streamed so far; `message_id` and
    `conversation_id` are set for chats.
    """

    last_event: Event | None = None
    text: str = ""
    message_id: str | None = None
    conversation_id: str | None = None


class WaitTimeoutError(HeadraceError):
    """The run had not ended when the wait timed out. `run_status` is its last status that was read; or `documents` are
    the last statuses of the documents whose indexing had not ended."""

    run_status: str | None = None
    documents: Sequence[IndexingStatus] = ()


class RunFailedError(HeadraceError):
    """The run failed or was stopped. `run` is the run itself, if the server sent more than the error."""

    run: WorkflowRun | None = None


class IndexingFailedError(HeadraceError):
    """A document could not be indexed. `documents` are the statuses of all documents of its batch."""

    documents: Sequence[IndexingStatus] = ()


class UsageError(HeadraceError, ValueError):
    """The client or the call is not valid: a missing key, an invalid URL, a file that cannot be read. Nothing was
    sent."""
