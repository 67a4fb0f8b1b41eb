"""What an endpoint is: one declaration, from which requests reach it and `openapi` describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from headrace.api.auth import Api
from headrace.api.http.deprecation import DEPRECATION, Deprecation
from headrace.api.http.params import Parameter
from headrace.api.http.schema import Media
from headrace.errors import RequestError
from headrace.frozen import frozen

Endpoint = Callable[[Request], Awaitable[Response]]
Contents = Media[Any] | Sequence[Media[Any]]
"""One kind of content, or several to choose from."""
_Method = TypeVar("_Method", bound=Callable[[Any, Request], Awaitable[Response]])
_DECLARED = "__operation__"
_LAZY_ROUTE = "headrace.lazy_route"


@frozen
class Security:
    """What authenticates a request: a bearer token of this kind, which may lack a permission where it has any."""

    name: str
    description: str
    has_permissions: bool = True


@frozen
class Operation:
    """Decorates a method of `Routes`: makes it one method of one path. Its name in camel case is the operation's id;
    the first line of its docstring is the summary, the rest and `note` are the description.

    `response` is what it returns with 200, or by status; `errors` are those of its own, beside the ones that follow
    from its security, its parameters and its body. Parameters of the path need not be listed, see PATH_PARAMETERS. One
    that is `public` needs no key, and `path` is the whole path."""

    method: str
    path: str
    response: Contents | Mapping[int, Contents] = ()
    _: KW_ONLY
    tag: str = ""
    note: str = ""
    errors: Sequence[RequestError] = ()
    parameters: Sequence[Parameter] = ()
    body: Contents = ()
    body_required: bool = True
    public: bool = False
    deprecated: Deprecation | None = None

    def __call__(self, method: _Method) -> _Method:
        setattr(method, _DECLARED, self)
        return method


class ApiRoute(Route):
    """Responds with what the endpoint returns; to HEAD where it does to GET, as Dify."""

    def __init__(
        self, operation: Operation, endpoint: Endpoint, tag: str, prefix: str = "", security: Security | None = None
    ) -> None:
        super().__init__(prefix + operation.path, endpoint, methods=[operation.method])
        self.operation = operation
        self.tag = tag
        self.security = security
        self._start = self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # the start of a path rules out most routes, and is much cheaper than a regular expression
        if not scope["path"].startswith(self._start) and not scope.get("root_path"):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": self.operation.method})
        if self.operation.deprecated:
            scope[DEPRECATION] = self.operation.deprecated.headers
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class LazyRoutes(BaseRoute):
    """The routes below some paths, of which the first is `path`. They are loaded when a request for one of these paths,
    or for the description, comes first."""

    def __init__(self, starts: tuple[str, ...], load: Callable[[], list[ApiRoute]]) -> None:
        self.path = starts[0]
        self._starts = starts
        self._load = load

    @cached_property
    def routes(self) -> list[ApiRoute]:
        return self._load()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope["path"].startswith(self._starts) and not scope.get("root_path"):
            return Match.NONE, {}
        partial: Scope = {}
        for route in self.routes:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                return match, {**child_scope, _LAZY_ROUTE: route}
            if match is Match.PARTIAL and not partial:
                partial = {**child_scope, _LAZY_ROUTE: route}
        return (Match.PARTIAL if partial else Match.NONE), partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: ApiRoute = scope[_LAZY_ROUTE]
        scope["route"] = route  # what metrics count by
        await route.handle(scope, receive, send)


def api_routes(routes: Iterable[BaseRoute]) -> Iterator[ApiRoute]:
    """All routes of operations among these."""
    for route in routes:
        if isinstance(route, ApiRoute):
            yield route
        elif isinstance(route, LazyRoutes):
            yield from route.routes


class Routes:
    """The operations of one subject: the methods that `Operation` decorates. `tag` is the heading of those without
    their own."""

    tag: ClassVar[str]

    def __init__(self, api: Api) -> None:
        self.api = api

    def mounted(self, prefix: str, security: Security | None = None, *, documented: bool = True) -> list[ApiRoute]:
        """Their routes below a prefix, in the order of their definition."""
        routes: list[ApiRoute] = []
        for name, member in vars(type(self)).items():
            operation: Operation | None = getattr(member, _DECLARED, None)
            if operation is not None:
                endpoint, tag = getattr(self, name), operation.tag or self.tag
                public = operation.public
                route = ApiRoute(operation, endpoint, tag, "" if public else prefix, None if public else security)
                route.include_in_schema = documented
                routes.append(route)
        return routes
