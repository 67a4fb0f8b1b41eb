"""What all calls share: the transport, the user, the kind of server, and the handling of files in inputs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from headrace_client._async.compat import Lock
from headrace_client._async.transport import AsyncTransport, Timeout
from headrace_client.errors import HeadraceError, NotFoundError, UsageError
from headrace_client.file_inputs import (
    FILE_VARIABLES,
    Variable,
    fit_to_variable,
    is_file,
    is_url,
    iter_items,
    map_local_file,
    map_remote_file,
    may_be_file,
    parse_variables,
    to_file,
)
from headrace_client.models import AppParameters, UploadedFile, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.wire import (
    API_VERSION_HEADER,
    is_inconclusive,
    is_json,
    is_stream,
    normalize_run,
    parse_model,
    parse_object,
)

_T = TypeVar("_T")

_NOT_FOUND_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between requests for a run that is known to exist
_MAX_NEW_RUNS = 10_000


def encode_segment(text: str) -> str:
    """A text as one segment of a path. UsageError if it would change the path."""
    if text in ("", ".", ".."):
        raise UsageError(f"{text!r} is not a valid id.")
    try:
        return quote(text, safe="")
    except UnicodeError as error:  # a lone surrogate
        raise UsageError(f"{text!r} is not a valid id.") from error


class AsyncServerState:
    """What is known about the server and the app; clients made by `with_options` share it."""

    def __init__(self) -> None:
        self.has_async_api: bool | None = None  # whether it is Headrace's; None: not known yet
        self.placeholders: set[str] = set()  # workflow ids of callers that the server does not know
        self.reported_placeholders: set[str] = set()  # those that have been logged
        self.new_runs: dict[str, None] = {}  # run ids of streams, not requested yet: ordered
        self.variables: Mapping[str, Variable] | None = None
        self.variables_lock = Lock()


class AsyncSession:
    """What the resources of one client share."""

    def __init__(
        self, transport: AsyncTransport, user: str, polling: PollingPlan, state: AsyncServerState | None = None
    ) -> None:
        self.transport = transport
        self.user = user
        self.polling = polling
        self.state = state or AsyncServerState()

    # ----------------------------------------------------------------------------------------------- kind of server

    def detect_async_api(self, response: httpx.Response) -> bool:
        """Whether a response under `/api` is of Headrace's asynchronous API. Stored if it is certain."""
        if API_VERSION_HEADER in response.headers:
            self.state.has_async_api = True
        elif response.is_success:
            # a web server may return HTML for any path; only these are of an API
            self.state.has_async_api = is_json(response) or is_stream(response)
        elif response.status_code in (404, 405, 501):
            self.state.has_async_api = False
        else:
            return False
        return self.state.has_async_api

    def is_foreign(self, response: httpx.Response) -> bool:
        """Whether a response under `/api` is of a server without the asynchronous API. 429 and 5xx do not show it, nor
        does any response of a server that is known to have it."""
        return (
            not self.state.has_async_api
            and API_VERSION_HEADER not in response.headers
            and not is_inconclusive(response)
        )

    async def get_run_detail(self, run_id: str, timeout: Timeout = None) -> WorkflowRun:
        """A run of the `/v1` API. NotFoundError also if Dify returns a run of nulls."""
        payload = await self.transport.get(f"/v1/workflows/run/{encode_segment(run_id)}", timeout=timeout)
        if payload.get("id") is None and payload.get("status") is None:
            raise NotFoundError("Workflow run not found", status=404, code="not_found", run_id=run_id)
        return parse_model(WorkflowRun, normalize_run(payload))

    async def retry_not_found(self, fetch: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `fetch` for a run that is known to exist: a new run may not be readable yet."""
        delays = list(_NOT_FOUND_DELAYS)
        while True:
            try:
                return await fetch()
            except NotFoundError:
                if not delays:
                    raise
            await self.transport.sleep(delays.pop(0))

    def add_new_run(self, run_id: str) -> None:
        """Remembers a run that a stream has named."""
        new_runs = self.state.new_runs
        new_runs[run_id] = None
        if len(new_runs) > _MAX_NEW_RUNS:
            del new_runs[next(iter(new_runs))]

    # -------------------------------------------------------------------------------------------------------- files

    async def build_body(
        self, inputs: Mapping[str, Any] | None, files: Sequence[Any] | None, user: str
    ) -> dict[str, Any]:
        """The common part of a request's body: inputs, files and user."""
        body: dict[str, Any] = {"inputs": await self._map_inputs(inputs, user), "user": user}
        return body if files is None else {**body, "files": await self._map_files(files, user)}

    async def upload_file(
        self, file: Any, *, filename: str | None = None, user: str | None = None, timeout: Timeout = None
    ) -> UploadedFile:
        part = to_file(file).part()
        try:
            response = await self.transport.request(
                "POST",
                "/v1/files/upload",
                form=lambda: {
                    "data": {"user": user or self.user},
                    "files": {"file": (filename or part.name, *part.rewind()[1:])},
                },
                timeout=timeout,
            )
        finally:
            part.close()
        return parse_model(UploadedFile, parse_object(response))

    async def get_parameters(self, *, timeout: Timeout = None) -> AppParameters:
        """The app's input form and features."""
        return parse_model(AppParameters, await self.transport.get("/v1/parameters", timeout=timeout))

    async def _get_variables(self) -> Mapping[str, Variable]:
        """The variables of the app's form; none if the server does not provide them. Requested once."""
        state = self.state
        async with state.variables_lock:
            if state.variables is None:
                try:
                    state.variables = parse_variables(await self.get_parameters())
                except HeadraceError as error:
                    if error.status not in (400, 404, 405, 501):
                        raise
                    state.variables = {}
            return state.variables

    async def _map_inputs(self, inputs: Mapping[str, Any] | None, user: str) -> dict[str, Any]:
        """Inputs with files uploaded, or referenced by URL, in the form that each variable requires."""
        values = dict(inputs or {})
        if not any(may_be_file(value) for value in values.values()):
            return values
        return await self.map_values(values, await self._get_variables(), user)

    async def map_values(
        self, values: Mapping[str, Any], variables: Mapping[str, Variable], user: str
    ) -> dict[str, Any]:
        return {name: await self._map_input(value, variables.get(name), user) for name, value in values.items()}

    async def _map_input(self, value: Any, variable: Variable | None, user: str) -> Any:
        if not may_be_file(value):
            return value
        takes_files = variable is not None and variable.kind in FILE_VARIABLES
        if not takes_files and not any(is_file(item) for item in iter_items(value)):
            return value  # a URL for a text variable
        files = [await self._map_file(item, variable, user, paths=False) for item in iter_items(value)]
        return fit_to_variable(files, value, variable)

    async def _map_files(self, files: Sequence[Any], user: str) -> list[Any]:
        """`files` of a request, uploaded or referenced by URL."""
        return [await self._map_file(item, None, user, paths=True) for item in iter_items(files)]

    async def _map_file(self, value: Any, variable: Variable | None, user: str, *, paths: bool) -> Any:
        if isinstance(value, UploadedFile):
            return map_local_file(value, variable)
        if is_url(value):
            return map_remote_file(value, variable)
        if is_file(value) or (paths and isinstance(value, str)):
            file = to_file(value)
            return map_local_file(await self.upload_file(file, user=user), variable, file.type)
        return value


class AsyncResource:
    """The base class of the groups of calls."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._transport = session.transport
