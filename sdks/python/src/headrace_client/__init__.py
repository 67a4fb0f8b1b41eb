"""A client for workflows, chats and knowledge bases of Headrace, Dify Cloud and self-hosted Dify.

from headrace_client import Client

client = Client(api_key="app-...")
run = client.run_and_wait({"text": "Hello World"})
print(run.outputs)
"""

from headrace_client._async.client import AsyncClient
from headrace_client._async.pages import AsyncPages
from headrace_client._async.streams import AsyncStream
from headrace_client._sync.client import Client
from headrace_client._sync.pages import Pages
from headrace_client._sync.streams import Stream
from headrace_client.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConflictError,
    HeadraceError,
    IndexingFailedError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RunFailedError,
    ServerError,
    StreamInterruptedError,
    UsageError,
    ValidationError,
    WaitTimeoutError,
)
from headrace_client.events import Event
from headrace_client.file_inputs import File
from headrace_client.human_input import HumanInputForm
from headrace_client.models import CreatedRun, Message, UploadedFile, WorkflowRun
from headrace_client.options import PollingPlan, RetryPolicy
from headrace_client.wire import VERSION as __version__

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AsyncClient",
    "AsyncPages",
    "AsyncStream",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "CreatedRun",
    "Event",
    "File",
    "HeadraceError",
    "HumanInputForm",
    "IndexingFailedError",
    "Message",
    "NotFoundError",
    "Pages",
    "PermissionDeniedError",
    "PollingPlan",
    "RateLimitError",
    "RetryPolicy",
    "RunFailedError",
    "ServerError",
    "Stream",
    "StreamInterruptedError",
    "UploadedFile",
    "UsageError",
    "ValidationError",
    "WaitTimeoutError",
    "WorkflowRun",
    "__version__",
]
