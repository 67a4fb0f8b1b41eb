"""What callers may rely on: the API's version in every response, and half a year's notice of a removal."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace.api.http.deprecation import deprecated
from headrace.api.http.routing import Operation, Routes
from headrace.api.middleware.request_context import RequestContext
from headrace.api.openapi import document
from headrace.errors import NotFound
from tests.native.calling import Caller

DEPRECATED = deprecated(date(2026, 12, 1), date(2027, 6, 1), "https://example.com/changes#old")


async def respond(request: Request) -> Response:
    match request.query_params.get("how"):
        case "refused":
            raise NotFound("nothing there")
        case "broken":
            raise RuntimeError("unforeseen")
        case "linked":
            return Response(b"{}", headers={"Link": "</next>; rel=next"})
        case "stream":
            return StreamingResponse(iter([b"a", b"b"]))
        case _:
            return Response(b"{}")


class OldAndNewRoutes(Routes):
    tag = "Stability"

    @Operation("GET", "/new")
    async def new(self, request: Request) -> Response:
        """Get the new one."""
        return await respond(request)

    @Operation("GET", "/old", deprecated=DEPRECATED)
    async def old(self, request: Request) -> Response:
        """Get the old one.

        As the new one.
        """
        return await respond(request)


@pytest.fixture
def app() -> Starlette:
    """An API with the same route twice, deprecated and not."""
    app = Starlette()
    app.middleware_stack = RequestContext(
        app.router.app,
        origins=["*"],
        headers={"X-Version": "1.12.1"},
        prefixes=("/api",),
        version={"Headrace-API-Version": "1"},
    )
    for prefix in ("/api/v1", "/v1"):
        app.router.routes += OldAndNewRoutes(cast("Any", None)).mounted(prefix)
    return app


@pytest.mark.parametrize("query", ["", "?how=refused", "?how=broken", "?how=linked", "?how=stream"])
async def test_a_deprecated_route_says_so_in_every_answer(app: Starlette, query: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL)
    answer = await Caller(app)("GET", f"/api/v1/old{query}")
    assert answer.headers["deprecation"] == "@1796083200"
    assert datetime.fromtimestamp(1796083200, UTC) == datetime(2026, 12, 1, tzinfo=UTC)
    assert answer.headers["sunset"] == "Tue, 01 Jun 2027 00:00:00 GMT"
    assert parsedate_to_datetime(answer.headers["sunset"]) == datetime(2027, 6, 1, tzinfo=UTC)
    links = answer.headers["link"].split(", ")
    assert links[-1] == '<https://example.com/changes#old>; rel="deprecation"; type="text/html"'
    assert links[:-1] == (["</next>; rel=next"] if "linked" in query else [])
    assert answer.headers["headrace-api-version"] == "1"


@pytest.mark.parametrize("query", ["", "?how=refused", "?how=broken"])
async def test_other_routes_do_not(app: Starlette, query: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL)
    answer = await Caller(app)("GET", f"/api/v1/new{query}")
    assert answer.headers["headrace-api-version"] == "1"
    assert not answer.headers.keys() & {"deprecation", "sunset", "link"}


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("GET", "/api/v1/nothing", True),
        ("GET", "/api", True),
        ("DELETE", "/api/v1/new", True),
        ("GET", "/v1/new", False),
        ("GET", "/apia", False),
        ("GET", "/nothing", False),
    ],
)
async def test_the_version_is_named_also_where_there_is_no_route(app: Starlette, method: str, path: str, named: bool):
    answer = await Caller(app)(method, path)
    assert ("headrace-api-version" in answer.headers) == named


async def test_browsers_may_read_the_version(app: Starlette):
    answer = await Caller(app)("GET", "/api/v1/new", headers={"Origin": "https://shop.example"})
    exposed = answer.headers["access-control-expose-headers"].replace(" ", "").split(",")
    assert {"Headrace-API-Version", "X-Version"} <= set(exposed)


def test_the_documentation_says_so_too(app: Starlette):
    paths = document(app.routes)["paths"]
    old = paths["/api/v1/old"]["get"]
    assert old["deprecated"] is True
    assert "2027-06-01" in old["description"]
    assert DEPRECATED.link in old["description"]
    assert "deprecated" not in paths["/api/v1/new"]["get"]


@pytest.mark.parametrize(
    ("since", "sunset"),
    [
        (date(2026, 12, 1), date(2027, 5, 31)),
        (date(2026, 8, 31), date(2027, 2, 27)),
        (date(2027, 8, 31), date(2028, 2, 28)),
        (date(2026, 12, 1), date(2026, 1, 1)),
    ],
)
def test_less_than_six_months_are_refused(since: date, sunset: date):
    with pytest.raises(ValueError, match=f"deprecated on {since} must be available until"):
        deprecated(since, sunset, "https://example.com")


@pytest.mark.parametrize(
    ("since", "sunset"),
    [
        (date(2026, 8, 31), date(2027, 2, 28)),
        (date(2027, 8, 31), date(2028, 2, 29)),
        (date(2026, 6, 1), date(2026, 12, 1)),
    ],
)
def test_six_months_are_enough(since: date, sunset: date):
    assert deprecated(since, sunset, "https://example.com").sunset == sunset


@pytest.mark.parametrize(
    "link", ["", "/changes", "ftp://x", "https://", "https://x/>,<", "https://x/\r\nA: b", "https://é"]
)
def test_a_link_leads_somewhere(link: str):
    with pytest.raises(ValueError, match="is not an http or https URL"):
        deprecated(date(2026, 1, 1), date(2027, 1, 1), link)
