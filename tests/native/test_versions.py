"""Versions of a workflow over the API: publish, list, look at, compare, pin, roll back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import pytest
import yaml

from headrace.apps.catalog import Release, digest
from headrace.kernel.secrets import STARS
from headrace.nodes.end import End, EndConfig
from headrace.ports import Storage
from headrace.stores.memory import memory_storage
from tests.dsl.test_package import package
from tests.native.calling import Answer, Caller
from tests.native.world import api_of, apps_of
from tests.runs.service import ECHO, REGISTRY

PARROT = ECHO.replace("name: echo", "name: parrot")
THIRD = ECHO.replace("name: echo", "name: third").replace("title: End", "title: The end")
BROKEN = ECHO.replace("value_selector: [s, q]", "value_selector: 3").replace("mode: workflow", "mode: mill")


class Picky(EndConfig):
    title: Literal["End"]


class PickyEnd(End):
    """Takes no end node of another title."""

    Config = Picky


@dataclass
class World:
    """One app, served from a file, and a caller with its key."""

    store: Storage
    release: Release
    call: Caller

    @property
    def base(self) -> str:
        return f"/api/v1/workflows/{self.release.app.id}"

    async def publish(self, content: str | bytes, query: str = "", **headers: str) -> Answer:
        body = content.encode() if isinstance(content, str) else content
        all_headers = {"content-type": "application/yaml"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        return await self.call("POST", f"{self.base}/versions{query}", body=body, headers=all_headers)

    async def listed(self) -> list[tuple[int, str, bool]]:
        answer = await self.call("GET", f"{self.base}/versions")
        assert answer.status == 200
        return [(item["number"], item["name"], item["current"]) for item in answer.json["data"]]

    async def runs_now(self) -> str:
        """The name of the version that the app's calls run."""
        return (await apps_of(self.store).current(self.release.app.id)).flow.name


@pytest.fixture
async def world() -> World:
    store = memory_storage()
    apps = apps_of(store)
    release = await apps.publish("flow.yml", ECHO)
    return World(store, release, Caller(api_of(apps, store), await apps.working_key(release.app)))


# --------------------------------------------------------------------------------------------------------- publish


async def test_a_published_content_is_a_version_and_the_current_one(world: World):
    answer = await world.publish(PARROT)
    assert answer.status == 201
    version = answer.json
    assert version.pop("created_at") > 0
    assert version.pop("created_at_ms") > 0
    assert version == {
        "id": version["id"],
        "number": 2,
        "digest": digest(PARROT),
        "current": True,
        "name": "parrot",
        "problems": [],
    }
    assert await world.listed() == [(2, "parrot", True), (1, "echo", False)]
    assert await world.runs_now() == "parrot"


async def test_a_content_may_come_as_json(world: World):
    answer = await world.call("POST", f"{world.base}/versions", json={"content": PARROT})
    assert (answer.status, answer.json["digest"]) == (201, digest(PARROT))
    assert (await world.publish(b"\xef\xbb\xbf" + PARROT.encode())).status == 200, "a byte order mark is no content"


async def test_the_same_content_is_the_same_version(world: World):
    first = (await world.publish(PARROT)).json
    again = await world.publish(PARROT)
    assert (again.status, again.json) == (200, first)
    back = await world.publish(ECHO)
    assert (back.status, back.json["number"], back.json["current"]) == (200, 1, True)
    assert await world.listed() == [(2, "parrot", False), (1, "echo", True)]


async def test_a_version_need_not_become_current(world: World):
    answer = await world.publish(PARROT, "?current=false")
    assert (answer.status, answer.json["current"]) == (201, False)
    assert await world.runs_now() == "echo"
    assert (await world.publish(PARROT, "?current=yes")).json["current"] is True
    assert (await world.publish(THIRD, "?current=maybe")).status == 400
    assert len(await world.listed()) == 2


async def test_twenty_at_once_publish_one_version(world: World):
    answers = await asyncio.gather(*(world.publish(PARROT) for _ in range(20)))
    assert sorted(item.status for item in answers) == [200] * 19 + [201]
    assert len(await world.listed()) == 2


async def test_two_processes_publish_one_version(world: World):
    elsewhere = Caller(api_of(apps_of(world.store), world.store), world.call.key)
    headers = {"content-type": "application/yaml"}
    answers = await asyncio.gather(
        world.publish(PARROT),
        elsewhere("POST", f"{world.base}/versions", body=PARROT.encode(), headers=headers),
    )
    assert len({item.json["id"] for item in answers}) == 1
    assert len(await world.listed()) == 2


async def test_all_that_is_wrong_is_told_and_nothing_changes(world: World):
    answer = await world.publish(BROKEN)
    body = answer.json
    assert (answer.status, body["code"], body["status"]) == (400, "invalid_workflow", 400)
    assert "and 1 more" in body["message"]
    assert [(detail["field"], detail["fatal"]) for detail in body["details"]] == [
        ("app.mode", True),
        ("outputs.0.value_selector", True),
    ]
    assert all(detail["line"] and detail["message"] for detail in body["details"])
    assert await world.listed() == [(1, "echo", True)]


async def test_what_runs_all_the_same_is_told_of(world: World):
    answer = await world.publish(ECHO.replace("type: end", "type: robot-arm"))
    assert answer.status == 201
    (problem,) = answer.json["problems"]
    assert "robot-arm" in problem["message"]
    assert problem["fatal"] is False


async def test_an_app_package_is_published_as_what_it_holds(world: World):
    answer = await world.publish(package(PARROT.encode()), content_type="application/zip")
    assert answer.status == 201
    again = await world.publish(PARROT)
    assert (again.status, again.json["id"]) == (200, answer.json["id"])


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/yaml", 400, "invalid_workflow"),
        (b"PK\x03\x04", "application/zip", 400, "invalid_workflow"),
        (b"a: [", "text/yaml", 400, "invalid_workflow"),
        (b"\xff\xfe\x00", "application/x-yaml", 400, "invalid_workflow"),
        (b"{}", "application/json", 400, "invalid_param"),
        (b'{"content": 7}', "application/json", 400, "invalid_param"),
        (b"[]", "application/json", 400, "invalid_param"),
        (b"{", "application/json", 400, "bad_request"),
        (b'{"content": "\\ud800"}', "application/json", 400, "invalid_workflow"),
        (b"a: 1", "image/png", 415, "unsupported_media_type"),
        (b"a: 1", "", 415, "unsupported_media_type"),
        (b" " * (11 * 1024 * 1024), "application/yaml", 413, "request_entity_too_large"),
    ],
)
async def test_what_cannot_be_published(world: World, body: bytes, kind: str, status: int, code: str):
    answer = await world.publish(body, content_type=kind)
    assert (answer.status, answer.json["code"], answer.json["status"]) == (status, code, status)
    assert answer.headers["headrace-api-version"] == "1"
    assert await world.listed() == [(1, "echo", True)]


async def test_the_first_answer_is_given_again(world: World):
    first = await world.publish(PARROT, idempotency_key="a")
    await world.publish(THIRD)
    again = await world.publish(PARROT, idempotency_key="a")
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert await world.runs_now() == "third", "a repeated request changes nothing"
    other = await world.publish(THIRD, idempotency_key="a")
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_a_refused_content_uses_up_no_key(world: World):
    assert (await world.publish(BROKEN, idempotency_key="a")).status == 400
    assert (await world.publish(PARROT, idempotency_key="a")).status == 201


# --------------------------------------------------------------------------------------------------- list, look at


async def test_pages_of_versions(world: World):
    for number in range(2, 6):
        await world.publish(ECHO.replace("name: echo", f"name: v{number}"))
    first = (await world.call("GET", f"{world.base}/versions?limit=2")).json
    assert ([item["number"] for item in first["data"]], first["has_more"], first["limit"]) == ([5, 4], True, 2)
    second = (await world.call("GET", f"{world.base}/versions?limit=3&before=4")).json
    assert ([item["number"] for item in second["data"]], second["has_more"]) == ([3, 2, 1], False)
    for wrong in ("limit=0", "limit=101", "limit=x", "before=-1", "before=%E2%91%A0", f"before={'9' * 400}"):
        answer = await world.call("GET", f"{world.base}/versions?{wrong}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_param"), wrong


async def test_a_version_is_told_with_its_content_but_no_secret(world: World):
    plain = ECHO.replace("value_type: secret", "value_type: string") + "# a remark\n"
    published = (await world.publish(plain)).json
    body = (await world.call("GET", f"{world.base}/versions/{published['id']}")).json
    assert (body["content"], body["masked"], body["name"], body["current"]) == (plain, False, "echo", True)

    body = (await world.call("GET", f"{world.base}/versions/{world.release.version.id}")).json
    assert body["masked"] is True
    assert "hunter2" not in body["content"]
    expected = yaml.safe_load(ECHO)
    expected["workflow"]["environment_variables"][0]["value"] = STARS
    assert yaml.safe_load(body["content"]) == expected


async def test_two_versions_compared(world: World):
    third = (await world.publish(THIRD.replace("hunter2!", "hunter3!"))).json["id"]
    first = world.release.version.id
    body = (await world.call("GET", f"{world.base}/diff?from={first}&to={third}")).json
    assert (body["from"], body["to"], body["same"]) == (first, third, False)
    assert body["nodes"]["changed"] == [
        {
            "id": "e",
            "title": "The end",
            "type": "end",
            "fields": [{"field": "title", "change": "changed", "from": "End", "to": "The end"}],
        }
    ]
    assert [item["name"] for item in body["environment_variables"]["changed"]] == ["KEY"]
    assert "hunter" not in str(body)
    assert (await world.call("GET", f"{world.base}/diff?from={first}")).json == body, "with the current one"
    assert (await world.call("GET", f"{world.base}/diff?from={third}")).json["same"] is True
    assert (await world.call("GET", f"{world.base}/diff")).status == 400


# ------------------------------------------------------------------------------------------------- pin, roll back


async def test_a_pinned_version_is_what_calls_run(world: World):
    await world.publish(PARROT)
    first = world.release.version.id
    for _ in range(2):
        answer = await world.call("POST", f"{world.base}/versions/{first}/pin")
        assert (answer.status, answer.json["name"], answer.json["current"]) == (200, "echo", True)
    assert await world.listed() == [(2, "parrot", False), (1, "echo", True)]
    assert await world.runs_now() == "echo"
    info = await world.call("GET", "/v1/info")
    assert info.json["name"] == "echo", "also in what the app says of itself"


async def test_rolling_back_goes_one_back_each_time(world: World):
    await world.publish(PARROT)
    await world.publish(THIRD)
    for name in ("parrot", "echo"):
        answer = await world.call("POST", f"{world.base}/rollback")
        assert (answer.status, answer.json["name"]) == (200, name)
        assert await world.runs_now() == name
    answer = await world.call("POST", f"{world.base}/rollback")
    assert (answer.status, answer.json["code"]) == (409, "no_earlier_version")
    assert await world.runs_now() == "echo"


async def test_a_repeated_rollback_goes_back_once(world: World):
    await world.publish(PARROT)
    await world.publish(THIRD)
    answers = [
        await world.call("POST", f"{world.base}/rollback", headers={"Idempotency-Key": "back"}) for _ in range(3)
    ]
    assert {item.json["name"] for item in answers} == {"parrot"}
    assert await world.runs_now() == "parrot"


async def test_a_file_served_again_keeps_what_was_pinned_until_it_changes(world: World):
    await apps_of(world.store).publish("flow.yml", PARROT)
    await world.call("POST", f"{world.base}/rollback")
    release = await apps_of(world.store).publish("flow.yml", PARROT)  # the server was started again
    assert (release.version.number, release.flow.name) == (1, "echo")
    release = await apps_of(world.store).publish("flow.yml", THIRD)
    assert (release.version.number, release.app.version) == (3, release.version.id)
    assert await world.runs_now() == "third"


async def test_a_version_that_does_not_load_any_more_cannot_be_pinned(world: World):
    third = (await world.publish(THIRD)).json["id"]
    await world.call("POST", f"{world.base}/rollback")
    picky = apps_of(world.store, {**REGISTRY, "end": PickyEnd})
    call = Caller(api_of(picky, world.store), world.call.key)
    answer = await call("POST", f"{world.base}/versions/{third}/pin")
    assert (answer.status, answer.json["code"]) == (409, "version_not_loadable")
    assert [(detail["node"], detail["field"]) for detail in answer.json["details"]] == [("The end", "title")]
    assert (await call("GET", f"{world.base}/versions/{third}")).status == 200, "it can still be looked at"
    assert await world.runs_now() == "echo"


# ------------------------------------------------------------------------------------------------ not one's own


def paths(app: str, version: str) -> list[tuple[str, str]]:
    base = f"/api/v1/workflows/{app}"
    return [
        ("GET", f"{base}/versions"),
        ("POST", f"{base}/versions"),
        ("GET", f"{base}/versions/{version}"),
        ("POST", f"{base}/versions/{version}/pin"),
        ("GET", f"{base}/diff?from={version}"),
        ("POST", f"{base}/rollback"),
    ]


async def test_another_apps_versions_are_not_found(world: World):
    other = await apps_of(world.store).publish("other.yml", PARROT)
    own, theirs = world.release, other
    fields = [
        *paths(theirs.app.id, theirs.version.id),
        *[item for item in paths(own.app.id, theirs.version.id) if theirs.version.id in item[1]],
        *paths(str(uuid4()), own.version.id),
        *paths("none", own.version.id),
        *[item for item in paths(own.app.id, "none") if "none" in item[1]],
        ("GET", f"/api/v1/workflows/{own.app.id}/diff?from={own.version.id}&to={theirs.version.id}"),
    ]
    for method, path in fields:
        answer = await world.call(method, path, json={"content": THIRD} if method == "POST" else None)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
    assert await world.runs_now() == "echo"


async def test_without_a_key_nothing_is_told(world: World):
    for method, path in paths(world.release.app.id, world.release.version.id):
        for caller in (Caller(world.call.app), Caller(world.call.app, "app-wrong")):
            answer = await caller(method, path)
            assert (answer.status, answer.json["code"]) == (401, "unauthorized")
            assert answer.headers["headrace-api-version"] == "1"


async def test_ids_are_found_however_they_are_written(world: World):
    path = f"/api/v1/workflows/{world.release.app.id.upper()}/versions/{world.release.version.id.replace('-', '')}"
    body: Any = (await world.call("GET", path)).json
    assert body["id"] == world.release.version.id
    assert (await world.call("HEAD", path)).status == 200
