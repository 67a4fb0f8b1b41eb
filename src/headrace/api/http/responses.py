"""Responses of many endpoints."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from headrace.api.http.json import encode
from headrace.values import Value

_JSON = "application/json"


def json_response(body: Mapping[str, Value], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An object, as JSON."""
    return Response(encode(body), status, headers, _JSON)


def success() -> Response:
    """Success without a result, in Dify's form."""
    return Response(b'{"result": "success"}', media_type=_JSON)


def no_content() -> Response:
    """Success with an empty body."""
    return Response(status_code=204)
