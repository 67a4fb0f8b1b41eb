"""Knowledge bases below `/api/v1`: for sessions of the console, and for the keys of a whole workspace."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headrace.access.console import ConsoleAccess
from headrace.access.keys import PERMISSIONS, Rights
from headrace.ports import App, Principal
from tests.api.knowledge import Bases, bases_in
from tests.native.calling import Answer, Caller

DIFY, NATIVE = "/api/v1/knowledge/v1", "/api/v1/knowledge/bases"


@pytest.fixture
async def bases(tmp_path: Path) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path) as running:
        yield running


async def caller(bases: Bases, rights: Rights) -> Caller:
    return Caller(bases.api, (await bases.running.apps.access.create(rights, "test"))[1])


def browser(bases: Bases, principal: Principal) -> Mapping[str, str]:
    """The headers of a browser that is signed in."""
    access = ConsoleAccess(bases.running.secret, "default")
    return {"cookie": f"{access.cookie_name}={access.cookie(access.session(principal))}", "x-headrace-console": "1"}


async def world(bases: Bases) -> tuple[str, str]:
    """(the id of a base, that of its document)"""
    document = await bases.indexed(await bases.create(), "The pump starts.")
    _, _, base, _, id_ = document.split("/")
    return base, id_


def reading(base: str, document: str) -> list[tuple[str, str, Any]]:
    return [
        ("GET", NATIVE, None),
        ("GET", f"{NATIVE}/{base}", None),
        ("GET", f"{NATIVE}/{base}/documents", None),
        ("GET", f"{NATIVE}/{base}/documents/{document}", None),
        ("GET", f"{DIFY}/datasets", None),
        ("GET", f"{DIFY}/datasets/{base}/documents/{document}/segments", None),
        ("POST", f"{DIFY}/datasets/{base}/documents/download-zip", {"document_ids": [document]}),
    ]


def searching(base: str) -> list[tuple[str, str, Any]]:
    return [("POST", f"{DIFY}/datasets/{base}/retrieve", {"query": "pump"})]


def changing(base: str, document: str) -> list[tuple[str, str, Any]]:
    of_document = f"{NATIVE}/{base}/documents/{document}"
    return [
        ("POST", f"{DIFY}/datasets", {"name": "Another", "indexing_technique": "economy"}),
        ("PATCH", f"{DIFY}/datasets/{base}", {"description": "of pumps"}),
        ("PATCH", of_document, {"name": "pump 2"}),
        ("POST", f"{DIFY}/datasets/{base}/document/create-by-text", {"name": "n", "text": "t"}),
        ("DELETE", f"{DIFY}/datasets/{base}/documents/{document}", None),
        ("DELETE", f"{DIFY}/datasets/{base}", None),
    ]


async def test_a_key_of_the_workspace_needs_one_permission_for_each_call(bases: Bases):
    base, document = await world(bases)
    calls = {"read": reading(base, document), "run": searching(base), "manage": changing(base, document)}
    for permission in PERMISSIONS:
        call = await caller(bases, Rights(permissions=frozenset({permission})))
        for needed, requests in calls.items():
            for method, path, body in requests:
                answer = await call(method, path, json=body)
                if needed == permission:
                    assert answer.status in (200, 204), (method, path, answer)
                else:
                    assert (answer.status, answer.json["code"]) == (403, "forbidden"), (method, path, answer)
                    assert f"'{needed}'" in answer.json["message"]


async def test_a_session_counts_below_api_v1_and_only_with_its_header(bases: Bases):
    base, document = await world(bases)
    headers = browser(bases, Principal("console", "default", frozenset(PERMISSIONS)))
    call = Caller(bases.api)
    for method, path, body in reading(base, document) + searching(base):
        assert (await call(method, path, json=body, headers=headers)).status == 200, path
        assert (await call(method, path, json=body, headers={"cookie": headers["cookie"]})).status == 401, path
        elsewhere = {**headers, "sec-fetch-site": "cross-site"}
        assert (await call(method, path, json=body, headers=elsewhere)).status == 401, path
    for path in ("/v1/datasets", f"/v1/datasets/{base}"):
        assert (await call("GET", path, headers=headers)).status == 401, path


async def test_who_may_call_some_apps_only_sees_no_knowledge_bases(bases: Bases):
    base, document = await world(bases)
    app = App("b2c69214-ecc5-4196-99c4-c8fdf975a694", "app", "workflow", "app.yml", "v1")
    await bases.running.storage.catalog.add_app(app)
    some = await caller(bases, Rights(apps=frozenset({app.id})))
    own = await caller(bases, Rights(app=app.id))
    member = browser(bases, Principal("ann", "default", frozenset({"read"}), frozenset({app.id})))
    for method, path, body in reading(base, document):
        for answer in (
            await some(method, path, json=body),
            await own(method, path, json=body),
            await Caller(bases.api)(method, path, json=body, headers=member),
        ):
            assert (answer.status, answer.json["message"]) == (
                403,
                "Knowledge bases need a key for all apps of their workspace.",
            )


async def test_another_workspace_sees_nothing(bases: Bases):
    base, document = await world(bases)
    evil, unknown = await caller(bases, Rights("evil")), str(uuid4())
    session = browser(bases, Principal("eve", "evil", frozenset(PERMISSIONS)))

    async def answers(base: str, document: str) -> list[Answer]:
        of_documents = f"{NATIVE}/{base}/documents/{document}"
        requests = [item for item in reading(base, document) if base in item[1]] + searching(base)
        requests += changing(base, document)[1:]
        requests += [("POST", f"{of_documents}/{action}", None) for action in ("pause", "resume")]
        bodies: list[Answer] = []
        for method, path, body in requests:
            bodies.append(await evil(method, path, json=body))
            bodies.append(await Caller(bases.api)(method, path, json=body, headers=session))
        return bodies

    theirs = await answers(base, document)
    assert {answer.status for answer in theirs} == {404}
    assert [answer.json for answer in theirs] == [answer.json for answer in await answers(unknown, unknown)]
    assert (await evil("GET", NATIVE)).json["data"] == []
    assert (await evil("GET", f"{DIFY}/datasets")).json["data"] == []
    assert (await bases.good("GET", f"/datasets/{base}/documents/{document}"))["name"] == "pump.md"


async def test_a_document_of_another_base_is_unknown(bases: Bases):
    _, document = await world(bases)
    other = (await bases.create("Other")).rpartition("/")[2]
    call = await caller(bases, Rights())
    for method, path, body in (("GET", "", None), ("PATCH", "", {"name": "x"}), ("POST", "/pause", None)):
        answer = await call(method, f"{NATIVE}/{other}/documents/{document}{path}", json=body)
        assert (answer.status, answer.json["message"]) == (404, "Document not found.")


async def test_a_knowledge_key_may_do_all_there_too(bases: Bases):
    base, document = await world(bases)
    for method, path, body in reading(base, document) + searching(base) + changing(base, document):
        answer = await bases.caller(method, path, json=body)
        assert answer.status in (200, 204), (method, path, answer)


async def test_without_a_key_nothing_is_there(bases: Bases):
    base, document = await world(bases)
    for key in (None, "ws-unknown", "dataset-unknown"):
        nobody = replace(bases.caller, key=key)
        for method, path, body in reading(base, document) + searching(base) + changing(base, document):
            assert (await nobody(method, path, json=body)).status == 401, path
