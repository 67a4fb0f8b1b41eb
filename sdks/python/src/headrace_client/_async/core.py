"""What all calls work with: the transport, who is asking, which kind of server it is, and files in inputs."""

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
    as_file,
    is_file,
    is_url,
    listed,
    local,
    may_be_file,
    remote,
    shaped,
    variables_of,
)
from headrace_client.models import AppParameters, UploadedFile, WorkflowRun, workflow_run
from headrace_client.options import PollingPlan
from headrace_client.wire import MARK, is_json, is_silent, is_stream, object_of, typed

_T = TypeVar("_T")

_UNREADABLE = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between looks at a run that must be there
_REMEMBERED = 10_000


def segment(text: str) -> str:
    """A text as one part of a path. UsageError where it would name another path."""
    if text in ("", ".", ".."):
        raise UsageError(f"{text!r} is not a valid id.")
    try:
        return quote(text, safe="")
    except UnicodeError as unwritable:  # half a character
        raise UsageError(f"{text!r} is not a valid id.") from unwritable


class AsyncKnowledge:
    """What has been found out about the server and the app; clients made by `with_options` share it."""

    def __init__(self) -> None:
        self.headrace: bool | None = None  # whether the server has the asynchronous API; None: not found out yet
        self.placeholders: set[str] = set()  # names that were given as workflow ids, and are none
        self.warned: set[str] = set()  # those of them that a warning was given of
        self.fresh: dict[str, None] = {}  # runs that a stream told of, and that nobody has looked at yet
        self.variables: Mapping[str, Variable] | None = None
        self.asking = Lock()


class AsyncSession:
    """What the groups of calls share."""

    def __init__(
        self, transport: AsyncTransport, user: str, polling: PollingPlan, known: AsyncKnowledge | None = None
    ) -> None:
        self.transport = transport
        self.user = user
        self.polling = polling
        self.known = known or AsyncKnowledge()

    # ----------------------------------------------------------------------------------------------- kind of server

    def learn(self, response: httpx.Response) -> bool:
        """Whether an answer under `/api` comes from Headrace's asynchronous API. Remembered, where it is certain."""
        if MARK in response.headers:
            self.known.headrace = True
        elif response.is_success:
            # a page for people answers any path; only these are of an API
            self.known.headrace = is_json(response) or is_stream(response)
        elif response.status_code in (404, 405, 501):
            self.known.headrace = False
        else:
            return False
        return self.known.headrace

    def foreign(self, response: httpx.Response) -> bool:
        """Whether an answer under `/api` is of a server that has no asynchronous API. 429 and 5xx say nothing; nor does
        anything where the server is known to have one."""
        return not self.known.headrace and MARK not in response.headers and not is_silent(response)

    async def detail(self, run: str, timeout: Timeout = None) -> WorkflowRun:
        """A run as `/v1` tells it. NotFoundError also where Dify says so in its own way."""
        told = await self.transport.get(f"/v1/workflows/run/{segment(run)}", timeout=timeout)
        if told.get("id") is None and told.get("status") is None:
            raise NotFoundError("Workflow run not found", status=404, code="not_found", run_id=run)
        return typed(WorkflowRun, workflow_run(told))

    async def settled(self, look: Callable[[], Awaitable[_T]]) -> _T:
        """What `look` finds of a run that is known to be there: one that has just begun may not be readable yet."""
        waits = list(_UNREADABLE)
        while True:
            try:
                return await look()
            except NotFoundError:
                if not waits:
                    raise
            await self.transport.sleep(waits.pop(0))

    def begun(self, run: str) -> None:
        """Remembers a run that a stream has told of."""
        fresh = self.known.fresh
        fresh[run] = None
        if len(fresh) > _REMEMBERED:
            del fresh[next(iter(fresh))]

    # -------------------------------------------------------------------------------------------------------- files

    async def body(self, inputs: Mapping[str, Any] | None, files: Sequence[Any] | None, user: str) -> dict[str, Any]:
        """What a request to run begins with: inputs, files and user."""
        body: dict[str, Any] = {"inputs": await self._inputs(inputs, user), "user": user}
        sent = await self._files(files, user)
        return body if sent is None else {**body, "files": sent}

    async def upload_file(
        self, file: Any, *, filename: str | None = None, user: str | None = None, timeout: Timeout = None
    ) -> UploadedFile:
        part = as_file(file).part()
        try:
            response = await self.transport.request(
                "POST",
                "/v1/files/upload",
                form=lambda: {
                    "data": {"user": user or self.user},
                    "files": {"file": (filename or part.name, *part.again()[1:])},
                },
                timeout=timeout,
            )
        finally:
            part.close()
        return typed(UploadedFile, object_of(response))

    async def get_parameters(self, *, timeout: Timeout = None) -> AppParameters:
        """What the app takes as inputs, and what it offers."""
        return typed(AppParameters, await self.transport.get("/v1/parameters", timeout=timeout))

    async def _form(self) -> Mapping[str, Variable]:
        """The variables of the app's form; none where the server does not tell. Asked for once."""
        known = self.known
        async with known.asking:
            if known.variables is None:
                try:
                    known.variables = variables_of(await self.get_parameters())
                except HeadraceError as error:
                    if error.status not in (400, 404, 405, 501):
                        raise
                    known.variables = {}
            return known.variables

    async def _inputs(self, inputs: Mapping[str, Any] | None, user: str) -> dict[str, Any]:
        """Inputs with their files uploaded, or passed on, in the shape that each variable wants."""
        given = dict(inputs or {})
        if not any(may_be_file(value) for value in given.values()):
            return given
        form = await self._form()
        return {name: await self._input(value, form.get(name), user) for name, value in given.items()}

    async def _input(self, value: Any, variable: Variable | None, user: str) -> Any:
        if not may_be_file(value):
            return value
        wanted = variable is not None and variable.kind in FILE_VARIABLES
        if not wanted and not any(is_file(each) for each in listed(value)):
            return value  # a URL for a variable that takes text
        many = [await self._file(each, variable, user, paths=False) for each in listed(value)]
        return shaped(many, value, variable)

    async def _files(self, files: Sequence[Any] | None, user: str) -> list[Any] | None:
        """`files` of a request, uploaded or passed on."""
        if files is None:
            return None
        return [await self._file(each, None, user, paths=True) for each in listed(files)]

    async def _file(self, value: Any, variable: Variable | None, user: str, *, paths: bool) -> Any:
        if isinstance(value, UploadedFile):
            return local(value, variable)
        if is_url(value):
            return remote(value, variable)
        if is_file(value) or (paths and isinstance(value, str)):
            file = as_file(value)
            return local(await self.upload_file(file, user=user), variable, file.type)
        return value


class AsyncCalls:
    """The base of the groups of calls."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._transport = session.transport
