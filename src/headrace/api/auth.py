"""Authentication of requests, end users, and JSON bodies.

The order of checks is Dify's, and determines which error a client gets: the key (valid, permitted, which app), then the
body's form, then `user`, then the app's mode, then everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from starlette.requests import Request

from headrace.access.console import ConsoleAccess
from headrace.access.keys import INVALID_KEY, KNOWLEDGE
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.console_cookie import PATH as SESSIONS
from headrace.api.http.console_cookie import session_of
from headrace.api.http.errors import file_too_large, of_status, user_missing
from headrace.api.http.request_body import Body, header
from headrace.api.middleware.request_context import CALLER, RequestObserver
from headrace.apps.catalog import Apps, Release
from headrace.content.python_json import load_json
from headrace.conversations.annotations import Annotations
from headrace.conversations.messages import Chats
from headrace.errors import Forbidden, InvalidParam, LoadError, NotFound, RequestError, Unauthorized
from headrace.frozen import frozen
from headrace.kernel.secrets import SecretMask
from headrace.ports import App, CodeFlow, EndUser, ListedRun, Principal, RemoteContent, StoredFile
from headrace.ports.services import Files, Speech
from headrace.runs.service import RunService
from headrace.values import DEEPEST_INPUT, File, Value, nests_deeper

if TYPE_CHECKING:
    from headrace.knowledge.retrieval import Retriever
    from headrace.knowledge.service import KnowledgeService

_MB = 1024 * 1024
LONGEST_USER = 255  # as in Dify's database
_READING = frozenset({"GET", "HEAD"})
_APP, _RUN = "app_id", "workflow_run_id"
_HIDDEN = "The version of this run can no longer be loaded, so its error is not shown."
_APP_HEADER, _KEY_HEADER = b"headrace-app", b"authorization"
_NOT_THE_WORKSPACE = Forbidden("Knowledge bases need a key for all apps of their workspace.")


class FileStore(Files, Protocol):
    """Stored files as the API needs them: to store, to refer to, and to serve."""

    async def open(self, file_id: str) -> tuple[StoredFile, Path | RemoteContent]:
        """A stored file's record, and where its bytes are. NotFound if there is none."""
        ...

    def verify(self, file_id: str, timestamp: str, nonce: str, sign: str) -> bool:
        """Whether a URL with these parameters was signed here and is still valid."""
        ...


@frozen
class Knowledge:
    """Knowledge bases as the API needs them: what is called makes its part when it is first used."""

    service: Callable[[], KnowledgeService]
    retriever: Callable[[], Retriever]


def _default_limit(extension: str) -> int:
    return 15 * _MB


@frozen
class ApiOptions:
    """How the API presents itself. Sizes in bytes, times in seconds.

    `headers` are sent with every response: X-Version is the version of Dify whose API this is. `limit_for` returns how
    large an upload may be, by its name's extension. `ready`: whether the process accepts requests. `observer` is
    notified of all. `public_url` is where clients reach the API, "" if that is not known; `secure`: by HTTPS only.
    `issuer` is the OpenID Connect issuer whose tokens are accepted, if there is one. `console` signs people in to the
    console; where it is None the console is off, because of `console_refusal` if it was not switched off; `code_flow`
    signs them in at the issuer. `demo`: models without credentials answer from the demo provider; `storage` is the kind
    of the database.
    """

    cors_origins: Sequence[str] = ("*",)
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Version": "1.12.1", "X-Env": "PRODUCTION"})
    ping_seconds: float = 10
    max_body: int = 10 * _MB
    limit_for: Callable[[str], int] = _default_limit
    ready: Callable[[], bool] = lambda: True
    observer: RequestObserver | None = None
    public_url: str = ""
    secure: bool = False
    issuer: str = ""
    console: ConsoleAccess | None = None
    console_refusal: str = ""
    code_flow: CodeFlow | None = None
    demo: bool = False
    storage: str = "memory"


class Api:
    """What every endpoint works with; `speech` is None if there is no provider of it, `knowledge` where there are no
    knowledge bases."""

    def __init__(
        self,
        apps: Apps,
        run_service: RunService,
        files: FileStore,
        options: ApiOptions,
        speech: Speech | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.apps = apps
        self.run_service = run_service
        self.files = files
        self.options = options
        self.speech = speech
        self.knowledge = knowledge
        self.annotations = Annotations(run_service.conversations)
        self.chats = Chats(run_service, self.annotations.answer)

    async def authenticate(self, request: Request, permission: str | None = None, app: str | None = None) -> Release:
        """The app that the request is for, if its key has access to it and the permission: by default read for a GET,
        run for everything else.

        An app's own key is for that app. With any other key the request names the app: in the path, in the header
        Headrace-App or in the query's `app_id`, in this order, unless the key has access to only one. (`app` is the id
        that a request gives in another way.) Unauthorized, Forbidden, NotFound (an app without access is reported as
        one that does not exist), or InvalidParam where none is named.
        """
        principal = await self._caller(request, permission)
        release = await self.apps.app_for(principal, app or _named_app(request))
        if (limiter := self.run_service.limiter) is not None:
            await limiter.request(principal, release.app)
        return release

    async def authenticate_run(self, request: Request, permission: str | None = None) -> Release:
        """As `authenticate`, for a run that the path names: a key for several apps need not name the run's. NotFound
        for an unknown run, and one of an app without access."""
        principal = await self._caller(request, permission)
        app = _named_app(request)
        if app is None and principal.app is None:
            accessible = {app.id for app in await self.apps.accessible_apps(principal)}
            if len(accessible) > 1:
                unknown = NotFound("Workflow run not found")
                run = await self.run_service.runs.find_run(as_uuid(request.path_params[_RUN], unknown))
                if run is None or run.app not in accessible:
                    raise unknown
                app = run.app
        return await self.authenticate(request, permission, app)

    async def accessible(self, request: Request) -> Sequence[App]:
        """All apps that a request's key has access to, whichever it names."""
        return await self.apps.accessible_apps(await self._caller(request, None))

    async def choices(self, request: Request) -> Sequence[App]:
        """The apps that a request may be for: the one that it names, or else all that its key has access to. As
        `authenticate` otherwise, but it does not count against rate limits: the call itself follows."""
        principal = await self._caller(request, None)
        app_name = _named_app(request) or principal.app
        if app_name is not None:
            return [(await self.apps.app_for(principal, app_name)).app]
        return await self.apps.accessible_apps(principal)

    async def principal(self, request: Request, permission: str | None = None) -> Principal:
        """The caller of what does not belong to an app. As `authenticate` otherwise."""
        principal = await self._caller(request, permission)
        if (limiter := self.run_service.limiter) is not None:
            await limiter.request(principal)
        return principal

    async def knowledge_principal(self, request: Request, permission: str | None = None) -> Principal:
        """The caller of what belongs to knowledge bases: below `/v1` one with a knowledge key, or Unauthorized. Below
        `/api/v1/` a session or key of the whole workspace counts, too, or Forbidden if it lacks the permission: by
        default read for a GET, manage for everything else."""
        principal = await self._identified(request)
        if KNOWLEDGE not in principal.permissions:
            if not request.scope["path"].startswith(SESSIONS):
                raise Unauthorized(INVALID_KEY)
            _check_permission(principal, permission or ("read" if request.method in _READING else "manage"))
            if principal.apps is not None:
                raise _NOT_THE_WORKSPACE
        CALLER.set(principal.id)
        if (limiter := self.run_service.limiter) is not None:
            await limiter.request(principal)
        return principal

    async def _caller(self, request: Request, permission: str | None) -> Principal:
        principal = await self._identified(request)
        if KNOWLEDGE in principal.permissions:
            raise Unauthorized(INVALID_KEY)
        _check_permission(principal, permission or ("read" if request.method in _READING else "run"))
        CALLER.set(principal.id)
        return principal

    async def _identified(self, request: Request) -> Principal:
        """The principal of a request's key or session. Unauthorized without either."""
        authorization, console = header(request, _KEY_HEADER), self.options.console
        session = session_of(request, console) if authorization is None and console is not None else None
        return session.principal if session is not None else await self.apps.access.principal(authorization)

    async def answers_forms(self, request: Request) -> bool:
        """Whether the request's key may answer forms, and so may have their tokens. As `authenticate` otherwise."""
        return "run" in (await self._caller(request, None)).permissions

    def upload_limit(self, extension: str, most: int | None = None) -> int:
        """Bytes that a file of the caller's may have, by its name's extension; `most` instead where a kind of upload
        has a limit of its own."""
        default = self.options.limit_for(extension) if most is None else most
        limiter = self.run_service.limiter
        max_upload = limiter.largest_upload() if limiter is not None else None
        return default if max_upload is None else min(default, max_upload)

    async def resolve(self, mapping: Mapping[str, Value], app: str, owners: Collection[str] = ()) -> File:
        """See `Files.resolve`. 413 where a file elsewhere says it is larger than the caller may upload."""
        file = await self.files.resolve(mapping, app, owners)
        limiter = self.run_service.limiter
        if limiter is not None and file.transfer_method == "remote_url":
            max_upload = limiter.largest_upload()
            if max_upload is not None and file.size > max_upload:
                raise file_too_large(max_upload)
        return file

    async def caller(self, app: App, user: Value) -> EndUser:
        """The end user that a request's `user` names; the anonymous one where it names none."""
        return await self.apps.end_user(app, named_user(user) or ANONYMOUS)

    async def listed(self, release: Release | None, summary: ListedRun) -> ListedRun:
        """A run of an app as a list may show it: its error has the secrets of its version masked; those of the current
        version, if its own can no longer be loaded. Without either, nothing says what is secret."""
        if summary.error is None:
            return summary
        try:
            flow = await self.apps.flow(summary.app, summary.version)
        except (NotFound, LoadError):
            if release is None:
                return replace(summary, error=_HIDDEN)
            flow = release.flow
        return replace(summary, error=SecretMask(flow.secrets).text(summary.error))

    async def json(self, request: Request) -> dict[str, Value]:
        """The body as a JSON object. RequestError if it is too large or anything else."""
        content_type = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise of_status(415)
        return self.object_of(await Body(request, self.options.max_body).whole())

    async def body(self, request: Request) -> bytes:
        """The body as received. RequestError if it is too large."""
        return await Body(request, self.options.max_body).whole()

    def object_of(self, raw: bytes) -> dict[str, Value]:
        """A body as a JSON object. RequestError if it is anything else."""
        try:
            content: Any = load_json(raw)
        except JSONDecodeError:
            raise of_status(400) from None
        if not isinstance(content, dict):
            raise of_status(400, "The request's body must be a JSON object.")
        if raw.count(b"{") + raw.count(b"[") > DEEPEST_INPUT and nests_deeper(content, DEEPEST_INPUT):
            raise of_status(400, f"The request's body is nested more than {DEEPEST_INPUT} levels deep.")
        return cast("dict[str, Value]", content)


def _check_permission(principal: Principal, permission: str) -> None:
    if permission not in principal.permissions:
        raise Forbidden(f"This key lacks the permission '{permission}'.")


def _named_app(request: Request) -> str | None:
    """The id of the app that a request names."""
    app_name = request.path_params.get(_APP) or header(request, _APP_HEADER)
    if not app_name and request.scope["query_string"]:
        app_name = request.query_params.get(_APP)
    return as_uuid(app_name, NotFound(f"App not found with id: {app_name[:50]}")) if app_name else None


def user_of(values: Mapping[str, Value]) -> str:
    """The end user that a request names. Like Dify, takes numbers and objects as Python writes them. InvalidParam if it
    names none."""
    user = named_user(values.get("user"))
    if user is None:
        raise user_missing()
    return user


def named_user(user: Value) -> str | None:
    """As `user_of`; None if the request names none."""
    if not user:
        return None
    name = str(user).replace("\0", "")
    if len(name) > LONGEST_USER:
        raise InvalidParam(f"user may have {LONGEST_USER} characters at most.")
    return name or None


def as_uuid(text: str, otherwise: RequestError) -> str:
    """The id in its canonical spelling; raises `otherwise` if it is not a UUID."""
    try:
        return str(UUID(text))
    except ValueError:
        raise otherwise from None
