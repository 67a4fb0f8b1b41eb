"""Answers that many endpoints give."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from headrace.api.http.json import encode
from headrace.values import Value

_JSON = "application/json"


def json_response(body: Mapping[str, Value], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An object, as JSON."""
    return Response(encode(body), status, headers, _JSON)


def done() -> Response:
    """It is done, and there is nothing to tell."""
    return Response(b'{"result": "success"}', media_type=_JSON)


def gone() -> Response:
    """What was to be removed is not there any more."""
    return Response(status_code=204)


told = json_response  # until no caller uses the old name
