"""Requests generated from an API's own description: valid ones, and ones that are wrong in every way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.native.calling import Answer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
HUGE = "x" * 20_000
TYPES = (
    "application/json",
    "application/json; charset=utf-16",
    "application/vnd.api+json",
    "application/yaml",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-ndjson",
    "",
    "\x00/ü",
)
ODD_TEXTS = (
    "",
    " ",
    "null",
    "0",
    "-1",
    "1e309",
    "99999999999999999999",
    "true",
    "NaN",
    "\0",
    "\ud800",
    "é汉🤖",
    "../../etc/passwd",
    "' OR 1=1 --",
    "{{#start.query#}}",
    "%00",
    str(uuid.UUID(int=0)),
    HUGE,
)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_TEXTS,
    None,
    True,
    0,
    -1,
    2**63,
    10**40,
    1.5,
    float("nan"),
    [],
    {},
    [[]],
    {"": ""},
    [None] * 200,
    {"type": "image", "transfer_method": "local_file", "upload_file_id": "x"},
)


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the API describes it."""

    method: str
    path: str
    description: Mapping[str, Any]

    @property
    def parameters(self) -> Sequence[Mapping[str, Any]]:
        return self.description.get("parameters", ())

    @property
    def bodies(self) -> Sequence[tuple[str, Any]]:
        """(content type, example) of the bodies it takes."""
        content = self.description.get("requestBody", {}).get("content", {})
        return [
            (kind, example)
            for kind, media in content.items()
            for example in (
                [media["example"]]
                if "example" in media
                else [item["value"] for item in media.get("examples", {}).values()]
            )
        ]


def operations(description: Mapping[str, Any], prefix: str = "/") -> list[Operation]:
    """The operations of an OpenAPI description below a path."""
    return [
        Operation(method.upper(), path, body)
        for path, methods in description["paths"].items()
        if path.startswith(prefix)
        for method, body in methods.items()
    ]


@dataclass(frozen=True)
class FuzzRequest:
    """A request, and the operation that it was generated from."""

    operation: Operation
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    plain: bool  # its path leads to the operation, which must document every status except the general ones

    def __repr__(self) -> str:
        return f"{self.method} {self.target[:300]} {dict(self.headers)} {self.body[:300]!r}"


def requests_to(all_: Sequence[Operation], known: Mapping[str, Sequence[str]]) -> SearchStrategy[FuzzRequest]:
    """Requests to any of these operations. `known`: ids that there are, by the names of path parameters."""
    return st.sampled_from(all_).flatmap(lambda operation: _request_to(operation, known))


@st.composite
def _request_to(draw: DrawFn, operation: Operation, known: Mapping[str, Sequence[str]]) -> FuzzRequest:
    wild = draw(st.integers(0, 3)) == 0  # most requests are wrong in one way only, and get far

    def odd() -> bool:
        return draw(st.integers(0, 2 if wild else 9)) == 0

    method = draw(st.sampled_from(METHODS)) if odd() else operation.method
    path, plain = operation.path, method == operation.method
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    for parameter in operation.parameters:
        name = parameter["name"]
        match parameter["in"]:
            case "path":
                ids = known.get(name, ())
                value = draw(_text()) if odd() or not ids else draw(st.sampled_from(ids))
                path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass"))
                plain = plain and value != "" and "/" not in value
            case "query":
                pool = known.get(name, ())
                if parameter["required"] or draw(st.booleans()):
                    query.append((name, draw(_text() if odd() else _fitting(parameter["schema"], pool))))
                    if odd():
                        query.append((name, draw(_text())))
            case _:
                if draw(st.booleans()):
                    headers[name] = _header(draw(_text())) if odd() else draw(st.sampled_from(("1", "a-key", "b")))
    if odd():
        query.append((draw(_text()), draw(_text())))
    if odd():
        headers["Authorization"] = draw(st.sampled_from(("", "Bearer", "Basic eDp5", "Bearer app-nope", "\xff")))
    body = b""
    if operation.bodies:
        kind, example = draw(st.sampled_from(operation.bodies))
        headers["Content-Type"] = draw(st.sampled_from(TYPES)) if odd() else kind
        body = draw(_body(example, known, odd()))
    elif odd():
        headers["Content-Type"] = draw(st.sampled_from(TYPES))
        body = draw(st.binary(max_size=100))
    detail = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query)
    return FuzzRequest(operation, method, f"{path}?{detail}" if detail else path, headers, body, plain)


def _text() -> SearchStrategy[str]:
    return st.sampled_from(ODD_TEXTS) | st.text(max_size=20) | st.uuids().map(str)


def _header(text: str) -> str:
    """As a server would let it through."""
    return "".join(letter for letter in text if letter.isprintable() and ord(letter) < 256).strip()


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _fitting(schema: Mapping[str, Any], pool: Sequence[str]) -> SearchStrategy[str]:
    """Texts that a parameter's schema allows."""
    if pool:
        return st.sampled_from(pool)
    if "enum" in schema:
        return st.sampled_from([str(item) for item in schema["enum"]])
    match schema.get("type"), schema.get("format"):
        case "boolean", _:
            return st.sampled_from(("true", "false"))
        case (("integer" | "number"), _):
            return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 3), 3)).map(str)
        case _, "date-time":
            return st.sampled_from(("2026-11-21T02:05:14Z", "2026-11-21"))
        case _, "uuid":
            return st.uuids().map(str)
        case _:
            return st.sampled_from(("a", "hello", "é"))


def _body(example: Any, known: Mapping[str, Sequence[str]], odd: bool) -> SearchStrategy[bytes]:
    good = st.just(example if isinstance(example, str) else _dumped(example))
    if not odd:
        return (good if isinstance(example, str) else good | _mutated(example).map(_dumped)).map(_encoded)
    anything = st.recursive(
        st.sampled_from(ODD_VALUES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
    return (
        st.binary(max_size=200)
        | anything.map(_dumped).map(_encoded)
        | good.map(_encoded).map(lambda body: body[: len(body) // 2])
        | st.sampled_from((b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe{}", b"", b"null", b"1" * 5000, HUGE.encode()))
    )


@st.composite
def _mutated(draw: DrawFn, example: Any) -> Any:
    """The example with one thing in it replaced, added or left out."""
    value = json.loads(json.dumps(example))
    holder, key = value, None
    for _ in range(draw(st.integers(1, 3))):
        inner = value if key is None else holder[key]
        if not isinstance(inner, dict) or not inner:
            break
        holder, key = inner, draw(st.sampled_from(sorted(inner)))
    if key is None:
        return draw(st.sampled_from(ODD_VALUES))
    match draw(st.integers(0, 3)):
        case 0:
            del holder[key]
        case 1:
            holder[draw(st.text(max_size=10))] = draw(st.sampled_from(ODD_VALUES))
        case _:
            holder[key] = draw(st.sampled_from(ODD_VALUES))
    return value


def _dumped(value: Any) -> str:
    return json.dumps(value)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


GENERAL = frozenset({404, 405})  # where a path or method leads to no operation


def wrong(request: FuzzRequest, answer: Answer) -> str | None:
    """What is wrong with a response to any request; None if nothing is."""
    documented = {int(status) for status in request.operation.description["responses"]}
    if answer.status >= 500 and answer.status not in documented:
        return f"{answer.status}"
    if request.plain and answer.status not in documented:
        return f"{answer.status} is not documented"
    if not request.plain and answer.status >= 400 and answer.status not in GENERAL | documented | {400, 401, 413, 415}:
        return f"{answer.status} is strange"
    if answer.status >= 400 and request.method != "HEAD":
        try:
            body = answer.json
        except ValueError:
            return f"{answer.status} without an envelope: {answer.body[:200]!r}"
        if not isinstance(body, dict) or not {"code", "message", "status"} <= body.keys():
            return f"{answer.status} without an envelope: {answer.body[:200]!r}"
        if body["status"] != answer.status or not body["code"] or not body["message"]:
            return f"{answer.status} with an odd envelope: {answer.body[:200]!r}"
    ours = request.operation.path.startswith("/api/v1/") and request.plain
    if ours and answer.headers.get("headrace-api-version") != "1":
        return "the API's version is not named"
    return None
