"""A knowledge key of another workspace sees nothing of this one's knowledge bases, on any endpoint that the description
has, and no other key sees anything at all."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headrace.access.keys import Rights
from headrace.api.openapi import document
from tests.api.knowledge import Bases, bases_in
from tests.native.calling import Answer
from tests.native.fuzzing import Operation, operations

MARK = "confidential-to-acme"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
IN_BODIES = {
    "document_id": "document_id",
    "document_ids": "document_id",
    "target_id": "dataset_id",
    "tag_id": "tag_id",
    "tag_ids": "tag_id",
    "reference": "file_id",
    "id": "metadata_id",
}
"""What fields of bodies name, by the names of parameters."""
IDS = ("dataset_id", "document_id", "segment_id", "child_chunk_id", "metadata_id", "batch", "tag_id", "file_id")


@pytest.fixture
async def bases(tmp_path: Path) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path) as running:
        yield running


async def owned(bases: Bases) -> dict[str, str]:
    """One of everything, marked; its ids by the names of parameters."""
    base = await bases.create(MARK, description=MARK)
    written = await bases.write(base, MARK, MARK)
    field = await bases.good("POST", f"{base}/metadata", json={"type": "string", "name": MARK})
    tag = await bases.good("POST", "/datasets/tags", json={"name": MARK})
    ids = {"dataset_id": base.rpartition("/")[2], "document_id": written["document"]["id"]}
    await bases.good("POST", "/datasets/tags/binding", json={"tag_ids": [tag["id"]], "target_id": ids["dataset_id"]})
    file = written["document"]["data_source_info"]["upload_file_id"]
    ids |= {"batch": written["batch"], "metadata_id": field["id"], "tag_id": tag["id"], "file_id": file}
    return {**{name: str(uuid4()) for name in IDS}, **ids}


def described(bases: Bases) -> list[Operation]:
    of_knowledge = [
        operation
        for operation in operations(document(bases.api.routes))
        if {"KnowledgeKey": []} in operation.description.get("security", ())
    ]
    assert len(of_knowledge) > 40
    return sorted(of_knowledge, key=lambda operation: (operation.method == "DELETE", -len(operation.path)))


def body_with(value: Any, ids: Mapping[str, str]) -> Any:
    """An example of a body, with these ids."""
    if isinstance(value, Mapping):
        return {name: _field(name, item, ids) for name, item in value.items()}
    return [body_with(item, ids) for item in value] if isinstance(value, list) else value


def _field(name: str, value: Any, ids: Mapping[str, str]) -> Any:
    if name in IN_BODIES:
        named = ids[IN_BODIES[name]]
        return [named] if isinstance(value, list) else named
    return body_with(value, ids)


async def call(caller: Bases, operation: Operation, ids: Mapping[str, str]) -> Answer:
    path, request = wire(operation, ids)
    return await caller.caller(operation.method, path, **request)


def names_something(operation: Operation, ids: Mapping[str, str]) -> bool:
    sent = str(wire(operation, ids))
    return any(id_ in sent for id_ in ids.values())


def wire(operation: Operation, ids: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """(path, the rest of a request) for an operation."""
    path = operation.path
    fields = {item["name"]: item["schema"] for item in operation.parameters if item["in"] == "path"}
    for name, schema in fields.items():
        path = path.replace(f"{{{name}}}", ids.get(name) or schema.get("enum", ["node"])[0])
    request: dict[str, Any] = {}
    if operation.bodies:
        kind, example = operation.bodies[0]
        request["headers"] = {"content-type": kind}
        request["body"] = example.encode() if isinstance(example, str) else json.dumps(body_with(example, ids)).encode()
    return path, request


def plain(answer: Answer) -> tuple[int, str]:
    return answer.status, _ID.sub("ID", answer.body.decode("utf-8", "replace"))


async def test_what_belongs_to_another_workspace_is_unknown(bases: Bases):
    ids = await owned(bases)
    elsewhere = await bases.of("evil")
    before = await everything(bases, ids)
    nothing = {name: str(uuid4()) for name in ids}
    for operation in described(bases):
        answer = await call(elsewhere, operation, ids)
        assert MARK not in answer.body.decode("utf-8", "replace"), operation
        if names_something(operation, ids):
            assert plain(answer) == plain(await call(elsewhere, operation, nothing)), operation
    assert await everything(bases, ids) == before


async def test_other_keys_open_nothing(bases: Bases):
    ids = await owned(bases)
    key = (await bases.running.apps.access.create(Rights("default"), "test"))[1]
    for other in (key, "dataset-unknown", None):
        caller = bases.calling(other)
        for operation in described(bases):
            assert (await call(caller, operation, ids)).status == 401, operation


async def test_its_owner_gets_all_of_it(bases: Bases):
    """Else the tests above would prove nothing."""
    ids = await owned(bases)
    seen = await everything(bases, ids)
    assert sum(MARK in body for body in seen.values()) > 5


async def everything(bases: Bases, ids: Mapping[str, str]) -> dict[str, str]:
    """All that can be read, without what changes by itself."""
    bodies: dict[str, str] = {}
    for operation in described(bases):
        if operation.method == "GET" and not operation.path.endswith("/download"):
            bodies[operation.path] = (await call(bases, operation, ids)).body.decode()
    return bodies
