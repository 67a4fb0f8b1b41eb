"""Makes facts.json from Dify's official OpenAPI description of its Service API.

    python tests/official/extract.py dify-service-openapi.json

What is kept: paths, parameters, the schemas of bodies and answers, the events of streams, and the codes of errors.
No sentence of the description is: it says by its own words what each is for. Schemas are JSON Schema 2020-12 (OpenAPI
3.0 writes `nullable`); they refer to each other as `#/schemas/NAME`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FACTS = Path(__file__).with_name("facts.json")
PREFIX = "#/components/schemas/"
PROSE = frozenset({"description", "summary", "title", "example", "examples", "nullable", "discriminator", "deprecated"})
# where a stream is described in sentences only: the schema that lists its events
STREAMS = {
    "POST /chat-messages": "ChunkChatEvent",
    "POST /completion-messages": "ChunkCompletionEvent",
    "POST /workflows/run": "ChunkWorkflowEvent",
    "POST /workflows/{workflow_id}/run": "ChunkWorkflowEvent",
    "GET /workflow/{workflow_run_id}/events": "ChunkWorkflowEvent",
}


def facts(described: Mapping[str, Any]) -> dict[str, Any]:
    """`operations` by "METHOD /path", and the `schemas` they refer to."""
    operations = {
        f"{method.upper()} {path}": _operation(f"{method.upper()} {path}", received, described)
        for path, methods in described["paths"].items()
        for method, received in methods.items()
    }
    components = {name: schema_of(schema) for name, schema in described["components"]["schemas"].items()}
    used: dict[str, Any] = {}
    wanted = list(_references(operations))
    while wanted:
        name = wanted.pop()
        if name not in used:
            used[name] = components[name]
            wanted += _references(components[name])
    return {"operations": operations, "schemas": dict(sorted(used.items()))}


def _operation(name: str, description: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {}
    if parameters := description.get("parameters"):
        operation["parameters"] = [
            {
                "name": parameter["name"],
                "in": parameter["in"],
                "required": parameter.get("required", False),
                "schema": schema_of(parameter["schema"]),
            }
            for parameter in parameters
        ]
    if body := description.get("requestBody"):
        operation["body"] = {
            "required": body.get("required", False),
            "content": {kind: schema_of(media["schema"]) for kind, media in body["content"].items()},
        }
    operation["answers"] = {
        status: _answer(name, int(status), answer, described) for status, answer in description["responses"].items()
    }
    return operation


def _answer(name: str, status: int, description: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    components = described["components"]
    if reference := description.get("$ref"):
        description = components["responses"][reference.rpartition("/")[2]]
    content = description.get("content", {})
    if status >= 400:
        examples = [example["value"] for media in content.values() for example in media.get("examples", {}).values()]
        return {"codes": sorted({example["code"] for example in examples if "code" in example})}
    answers: dict[str, Any] = {}
    for kind, media in content.items():
        if name in STREAMS and kind == "text/event-stream":
            listed = components["schemas"][STREAMS[name]]["discriminator"]["mapping"]
            answers[kind] = {"events": {event: {"$ref": _moved(at)} for event, at in sorted(listed.items())}}
        else:
            answers[kind] = schema_of(media["schema"])
    return answers


def schema_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without its sentences, in today's JSON Schema."""
    schema: dict[str, Any] = {}
    for key, value in description.items():
        match key, value:
            case "$ref", str():
                schema[key] = _moved(value)
            case "properties", _:
                schema[key] = {name: schema_of(item) for name, item in value.items()}
            case (("allOf" | "anyOf" | "oneOf"), _):
                schema[key] = [schema_of(item) for item in value]
            case (("items" | "additionalProperties" | "not"), dict()):
                schema[key] = schema_of(value)
            case _ if key not in PROSE and not key.startswith("x-"):
                schema[key] = value
            case _:
                pass
    if not description.get("nullable"):
        return schema
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    schema["type"] = [schema["type"], "null"]
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _moved(reference: str) -> str:
    return "#/schemas/" + reference.removeprefix(PREFIX)


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    names = [name for item in value.values() for name in _references(item)]
    reference = value.get("$ref")
    return [*names, reference.rpartition("/")[2]] if isinstance(reference, str) else names


def written(value: Mapping[str, Mapping[str, Any]]) -> str:
    """One operation or schema a line: small, and still to be compared line by line."""
    parts = []
    for part, entries in value.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(source: Path) -> None:
    FACTS.write_text(written(facts(json.loads(source.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
