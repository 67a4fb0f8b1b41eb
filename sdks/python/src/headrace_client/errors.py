"""Everything that goes wrong, as one tree.

    HeadraceError
    ├── AuthenticationError      401: no key, or one that the server does not know
    ├── PermissionDeniedError    403: the key is good, but not for this
    ├── NotFoundError            404: nothing of that id
    ├── ConflictError            409: it is not in a state for this
    ├── ValidationError          any other 4xx: the request is not what the server takes
    ├── RateLimitError           429: too many requests; `retry_after` seconds, where the server says so
    ├── ServerError              5xx, or an answer that cannot be understood
    ├── APIConnectionError       the server could not be reached, or the connection broke
    │   ├── APITimeoutError      the server did not answer in time
    │   └── StreamInterruptedError   a stream broke, and its run's outcome could not be had
    ├── WaitTimeoutError         the run had not ended when the wait was over
    ├── RunFailedError           the run ended as failed or stopped
    └── UsageError               the call itself is not valid; nothing was sent (a ValueError, too)

An error says what is known: `status` (HTTP), `code` and `message` (the server's), `request_id`, `run_id`, `node`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_client.events import Event
    from headrace_client.models import WorkflowRun


class HeadraceError(Exception):
    """The root of the tree; `str(error)` is fit to be shown to a user.

    `node` is the node whose failure it was: its id, or what the server tells of it, as `{"node_id", "title", ...}`.
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
        known = [f"{self.status} {self.code or ''}".strip()] if self.status is not None else []
        known += [f"run {self.run_id}"] if self.run_id else []
        known += [f"request {self.request_id}"] if self.request_id else []
        return f"{self.message} ({', '.join(known)})" if known else self.message


class AuthenticationError(HeadraceError):
    """401: no key, or one that the server does not know."""


class PermissionDeniedError(HeadraceError):
    """403: the key is good, but not for this."""


class NotFoundError(HeadraceError):
    """404: nothing of that id, or nothing that this key may see."""


class ConflictError(HeadraceError):
    """409: what the request is about is not in a state for it."""


class ValidationError(HeadraceError):
    """400, 413, 415, 422 and the like: the request is not what the server takes."""


class RateLimitError(HeadraceError):
    """429: too many requests. `retry_after`: seconds until it may be tried again, where the server says so."""

    retry_after: float | None = None


class ServerError(HeadraceError):
    """5xx, or an answer that cannot be understood."""


class APIConnectionError(HeadraceError):
    """The server could not be reached, or the connection broke."""


class APITimeoutError(APIConnectionError):
    """The server did not answer in time."""


class StreamInterruptedError(APIConnectionError):
    """A stream broke, and neither the rest of it nor the run's outcome could be had.

    `last_event` is the last event that was told; `text` all that had been written; `message_id` and `conversation_id`
    are known of chats.
    """

    last_event: Event | None = None
    text: str = ""
    message_id: str | None = None
    conversation_id: str | None = None


class WaitTimeoutError(HeadraceError):
    """The run had not ended when the wait was over. `run_status` is the last that was heard of it."""

    run_status: str | None = None


class RunFailedError(HeadraceError):
    """The run ended as failed or stopped. `run` is what is known of it, where there is more than the error."""

    run: WorkflowRun | None = None


class UsageError(HeadraceError, ValueError):
    """The client or the call is not valid: no key, an address that is not one, a file that cannot be read. Nothing was
    sent."""
