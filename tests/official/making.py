"""Requests made from the official description: right ones at random, and each way of getting one wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.conformance.peers import PNG
from tests.official.described import Described, Schema, resolved
from tests.official.world import USER, App, multipart

NOBODY = "0b8f6c0e-7a5d-4b43-9d0e-2f5b7b2a9e11"
AUDIO = ("hi.wav", "audio/wav", b"RIFF")
PICTURE = ("x.png", "image/png", PNG)


@dataclass(frozen=True)
class Request:
    """What is sent. `path`: values of the path's parameters by name; `wrong`: what is wrong with it."""

    operation: Described
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    wrong: str = ""

    def at(self, ids: Mapping[str, str]) -> Request:
        """The same, of what there is by now; but what is wrong about its path stays."""
        known = {name: ids[name] for name in self.path if name in ids and not self.wrong.startswith(f"{name}:")}
        return replace(self, path={**self.path, **known})

    def wire(self) -> tuple[str, bytes, dict[str, str]]:
        """(target, body, headers)"""
        target = "/v1" + self.operation.path
        for name, value in self.path.items():
            target = target.replace(f"{{{name}}}", quote(value, safe=""))
        target += f"?{urlencode(self.query)}" if self.query else ""
        if self.operation.body is None:
            return target, b"", {}
        if self.operation.form:
            fields = {name: value for name, value in self.body.items() if name != "file"}
            return target, *multipart(fields, self.body.get("file"))
        return target, json.dumps(self.body).encode(), {"Content-Type": "application/json"}


def known(operation: Described, app: App, url: str) -> Mapping[str, list[Any]]:
    """Values that the description cannot tell, by the names of fields and parameters."""
    picture = {"type": "image", "transfer_method": "remote_url", "url": f"{url}/x.png"}
    uploaded = {"type": "image", "transfer_method": "local_file", "upload_file_id": app.ids["file_id"]}
    last = {
        "/conversations": "conversation_id",
        "/conversations/{conversation_id}/variables": "variable_id",
    }.get(operation.path, "")
    return {
        **{name: [value] for name, value in app.ids.items()},
        "inputs": [{}, {"query": "é"}],
        "user": [USER],
        "query": ["hello", "é汉🤖", "who?"],
        "files": [[], [picture], [picture, uploaded]],
        "value": [7, 2.5, 0],
        "file": [AUDIO if "audio" in operation.path else PICTURE],
        "first_id": [app.ids.get("message_id", "")],
        "last_id": [app.ids.get(last, "")],
        "variable_name": ["count", "nothing"],
        **({"action": ["approve"]} if operation.path.startswith("/form/") else {}),
    }


def right(operation: Described, app: App, url: str) -> SearchStrategy[Request]:
    """Requests as the description has them."""
    return _right(operation, known(operation, app, url))


@st.composite
def _right(draw: DrawFn, operation: Described, known: Mapping[str, list[Any]]) -> Request:
    path: dict[str, str] = {}
    query: dict[str, str] = {}
    for parameter in operation.parameters:
        name = parameter["name"]
        value = draw(_value(name, parameter["schema"], known))
        if parameter["in"] == "path":
            path[name] = str(value)
        elif parameter["required"] or draw(st.booleans()):
            query[name] = str(value).lower() if isinstance(value, bool) else str(value)
    fields, required = operation.fields()
    body = {
        name: draw(_value(name, schema, known))
        for name, schema in fields.items()
        if name in required or draw(st.booleans())
    }
    return Request(operation, path, query, body)


def _value(name: str, schema: Schema, known: Mapping[str, list[Any]]) -> SearchStrategy[Any]:
    if name in known:
        return st.sampled_from(known[name])
    schema = resolved(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum", 1), min(schema.get("maximum", 30), 30))
        case "number":
            return st.floats(0, 1)
        case _:
            date = schema.get("format") == "date-time"
            return st.sampled_from(("2026-11-21T02:05:14Z", "2026-11-21") if date else ("a", "hello", "é汉🤖"))


def wrong(operation: Described, base: Request) -> Iterator[Request]:
    """The request with one thing wrong in it, for each thing that can be."""
    for parameter in operation.parameters:
        name, schema = parameter["name"], resolved(parameter["schema"])
        if parameter["in"] == "query":
            if parameter["required"]:
                yield _with(base, f"{name}: missing", query=_without(base.query, name))
            for bad in _bad_texts(schema):
                yield _with(base, f"{name}: {bad}", query={**base.query, name: bad})
        elif schema.get("format") == "uuid" or name.endswith("_id"):
            yield _with(base, f"{name}: no uuid", path={**base.path, name: "nope"})
            yield _with(base, f"{name}: unknown", path={**base.path, name: NOBODY})
        else:
            yield _with(base, f"{name}: nope", path={**base.path, name: "nope"})
    fields, required = operation.fields()
    for name in required:
        yield _with(base, f"{name}: missing", body=_without(base.body, name))
    if operation.form:
        return
    for name, schema in fields.items():
        for bad in _bad_values(resolved(schema)):
            yield _with(base, f"{name}: {json.dumps(bad)}", body={**base.body, name: bad})
    for bad in ([], None, "text") if operation.body else ():
        yield _with(base, f"body: {json.dumps(bad)}", body=bad)


def _bad_texts(schema: Schema) -> tuple[str, ...]:
    match schema.get("type"), schema.get("format"):
        case "integer", _:
            limits = (str(schema["minimum"] - 1),) if "minimum" in schema else ()
            return ("nope", "1.5", *limits, *((str(schema["maximum"] + 1),) if "maximum" in schema else ()))
        case "boolean", _:
            return ("nope",)
        case _, "uuid" | "date-time":
            return ("nope",)
        case _:
            return ("nope",) if "enum" in schema else ()


def _bad_values(schema: Schema) -> tuple[Any, ...]:
    kinds = schema.get("type", ())
    match kinds[0] if isinstance(kinds, list) else kinds:
        case "string":
            return (["nope"], *(("nope",) if "enum" in schema or schema.get("format") == "uuid" else ()))
        case "object":
            return ("nope", ["nope"])
        case "array":
            return ("nope", {"nope": 1}, ["nope"])
        case "boolean" | "integer" | "number":
            return ("nope", ["nope"])
        case _:
            return ()


def _with(base: Request, wrong: str, **changed: Any) -> Request:
    return replace(base, **changed, wrong=wrong)


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
