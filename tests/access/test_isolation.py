"""Another workspace's key sees nothing, on any endpoint: all that the API's own description tells of are tried, with
everything that a workspace has. A new endpoint is tried without being named here. (Those of knowledge bases, which need
keys of their own: test_knowledge_bases.)"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from starlette.routing import Mount, Route

from headrace.access.keys import Rights
from headrace.api.dify.knowledge_routes import OLD_SPELLINGS
from headrace.api.http.routing import api_routes
from headrace.api.openapi import document
from tests.access.owning import MARK, USER, Holder, Owner, Reply, key_of, owner, published
from tests.api.serving import Serving
from tests.native.fuzzing import Operation, operations

REFUSED = {400, 403, 404}
ALSO: Mapping[str, str | tuple[str, ...]] = {
    "keyword": MARK,
    "created_by_end_user_session_id": USER,
    "variable_name": "mood",
    "first_id": ("message_id",),
    "last_id": ("conversation_id", "variable_id"),
    "source": ("batch_id",),
    "parent": MARK,
    "version": ("version_id",),
    "compare": ("app_id",),
}
"""What parameters of queries can name besides ids that are called as in a path: a text, or which ids."""

HARMLESS = {
    "after",  # an item of the response that the path names
    "include",  # words of its own
    "cursor",  # a place in a list, which holds nothing but a time and an id to compare with
    "last_event_id",
    "created_after",
    "created_before",
    "from",
    "to",
    "created_at__after",
    "created_at__before",
    "created_by_account",  # nobody has one
    "timestamp",
    "nonce",
    "sign",
}
OPEN = {"signedFile", "signedToolFile", "healthz", "readyz", "getIndex"}  # without a key: files by a signature
_NAMES = re.compile(rf"{MARK}|[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")


@dataclass(frozen=True)
class Call:
    """One way to call an operation; `names`: whether its path names anything that somebody could own. `parameter`:
    the one of its query beside the usual ones."""

    operation: Operation
    path: str
    names: bool
    parameter: str | None
    body: Any
    kind: str | None

    async def by(self, holder: Holder, app: str | None = None) -> Reply:
        more: dict[str, Any] = {}
        if self.kind is not None:
            more["data"] = self.body if isinstance(self.body, str) else json.dumps(self.body)
            more["headers"] = {"Content-Type": self.kind}
        return await holder.call(self.operation.method, self.path, app, **more)

    @property
    def said(self) -> str:
        return f"{self.path} {self.body}"


def calls(operation: Operation, ids: Mapping[str, Sequence[str]]) -> Iterator[Call]:
    """An operation with each of the things that its path can name, each that its query can, and each of its bodies."""
    choices: list[Sequence[str]] = []
    owned = False
    fields = {parameter["name"]: parameter["schema"] for parameter in operation.parameters if parameter["in"] == "path"}
    for name in re.findall(r"{(\w+)}", operation.path):
        assert name in fields, f"{{{name}}} of {operation.path} is not described"
        assert name in ids or "enum" in fields[name], f"say in `owning` what {{{name}}} of {operation.path} can name"
        owned = owned or name in ids
        choices.append([f"{name}={value}" for value in ids.get(name) or fields[name]["enum"]])
    for chosen in product(*choices):
        path = operation.path
        for item in chosen:
            name, _, value = item.partition("=")
            path = path.replace(f"{{{name}}}", value)
        for request_body, query in _queries(operation, ids):
            for kind, body in operation.bodies[:1] or [(None, None)]:
                yield Call(operation, path + query, owned, request_body, _with_ids(body, ids), kind)


def _queries(operation: Operation, ids: Mapping[str, Sequence[str]]) -> Iterator[tuple[str | None, str]]:
    """The usual query, and one more with each other parameter that names something."""
    names = {parameter["name"]: parameter["schema"] for parameter in operation.parameters if parameter["in"] == "query"}
    known = {**ids, "user": [USER], "from": ids["version_id"], "to": ids["version_id"], "seconds": ["0"]}
    usual = {name: known[name][0] for name in names if name in known}
    yield None, f"?{urlencode(usual)}" if usual else ""
    for name, schema in names.items():
        if name in usual or name in HARMLESS or "enum" in schema or schema["type"] != "string":
            continue
        assert name in ALSO, f"say in ALSO what ?{name} of {operation.path} can name, or that it is HARMLESS"
        for value in {known[of][0] for of in ALSO[name]} if isinstance(ALSO[name], tuple) else {ALSO[name]}:
            yield name, f"?{urlencode({**usual, name: value})}"


def _with_ids(body: Any, ids: Mapping[str, Sequence[str]]) -> Any:
    """A body that names the owner's things where it names any."""
    known = {**ids, "upload_file_id": ids["file_id"], "user": [USER], "app": ids["app_id"], "apps": [ids["app_id"]]}
    if isinstance(body, Mapping):
        return {
            name: known[name][0] if name in known and isinstance(value, str | list) else _with_ids(value, ids)
            for name, value in body.items()
        }
    return body


def telling(reply: Reply, said: str, acme: Owner) -> list[str]:
    """What an answer tells of the owner that had not been `said`."""
    text = reply.body.decode("utf-8", "replace")
    known = [MARK, *acme.apps, *(id_ for ids in acme.ids.values() for id_ in ids)]
    return [item for item in known if item in text and item not in said]


def plain(reply: Reply) -> tuple[int, str]:
    """An answer, whatever ids and times are in it."""
    return reply.status, re.sub(r"\d+(\.\d+)?", "N", _NAMES.sub("ID", reply.body.decode("utf-8", "replace")))


OF_WORKSPACE = {"/api/v1/meta", "/api/v1/apps", "/api/v1/apps/lint", "/api/v1/trigger-subscriptions"}
"""Paths of operations that are not for one app, whichever is named."""


def described(server: Serving, description: Mapping[str, Any]) -> list[Operation]:
    result = [operation for operation in operations(description) if not takes(operation, "KnowledgeKey")]
    assert len(result) > 50
    # what cannot be done twice comes last
    ends = ("/rotate", "/apps/{app_id}")
    return sorted(result, key=lambda item: (item.method == "DELETE", *(item.path.endswith(end) for end in ends)))


def takes(operation: Operation, scheme: str) -> bool:
    return any(scheme in item for item in operation.description.get("security", ()))


@pytest.fixture
async def acme(server: Serving) -> AsyncGenerator[Owner]:
    async with owner(server) as created:
        yield created


@pytest.fixture
async def api(server: Serving) -> list[Operation]:
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        return described(server, await answer.json())


@pytest.fixture(params=["another workspace's", "for other apps", "another app's own"])
async def other(request: pytest.FixtureRequest, server: Serving, acme: Owner) -> Holder:
    """Somebody who may do everything, elsewhere."""
    workspace = "acme" if request.param == "for other apps" else "evil"
    apps = [item.app.id for item in await published(server, workspace, "harmless")]
    if request.param == "another app's own":
        rights, apps = Rights(workspace, app=apps[0]), apps[:1]
    else:
        rights = Rights(workspace, apps=frozenset(apps) if request.param == "for other apps" else None)
    holder = Holder(server, await key_of(server, rights), apps)
    assert (await holder.call("GET", "/v1/info", apps[0])).status == 200  # that it is used is written down, too
    return holder


async def test_its_app_is_as_unknown_as_one_that_is_not_there(api: list[Operation], acme: Owner, other: Holder):
    for operation in api:
        for call in calls(operation, acme.ids):
            for app in acme.apps:
                reply = await call.by(other, app)
                assert telling(reply, call.said + app, acme) == [], call
                if takes(operation, "AppKey") and operation.path not in OF_WORKSPACE:
                    assert reply.status in REFUSED, (call, reply)
                    assert plain(reply) == plain(await call.by(other, str(uuid4()))), call


async def test_its_things_are_as_unknown_as_ones_that_are_not_there(api: list[Operation], acme: Owner, other: Holder):
    nothing = {name: [str(uuid4())] for name in acme.ids}
    before = await seen(api, acme)
    for operation in api:
        unknown = {call.parameter: call for call in calls(operation, nothing)}
        for call in calls(operation, acme.ids):
            for app in other.apps:
                reply = await call.by(other, app)
                assert telling(reply, call.said, acme) == [], call
                if call.names:
                    assert plain(reply) == plain(await unknown[call.parameter].by(other, app)), call
                    # to stop a task that is not there is no error, in Dify's API
                    assert reply.status in REFUSED or operation.path.endswith("/stop"), (call, reply)
    assert await seen(api, acme) == before, "and all is as it was"


async def seen(api: list[Operation], acme: Owner) -> dict[str, list[Any]]:
    """All that the owner can look at."""
    result: dict[str, list[Any]] = {}
    for operation in api:
        news = operation.description["operationId"] == "followRuns"  # of what comes, not of what there is
        for call in ended(operation, acme) if operation.method == "GET" and not news else ():
            result[call.path] = [await call.by(acme, app) for app in acme.apps]
    return result


def ended(operation: Operation, acme: Owner) -> Iterator[Call]:
    """The calls that do not wait for the run that is under way."""
    return (call for call in calls(operation, acme.ids) if not any(item in call.path for item in acme.running))


async def test_the_owner_gets_all_of_it(api: list[Operation], acme: Owner):
    """Else the tests above would prove nothing."""
    looked = [reply for replies in (await seen(api, acme)).values() for reply in replies]
    assert sum(MARK in str(reply.body) for reply in looked) > 20
    for operation in api:
        if operation.description.get("security"):
            statuses = {(await call.by(acme, app)).status for call in ended(operation, acme) for app in acme.apps}
            assert statuses - {401, 403, 404}, (operation.method, operation.path, statuses)


@pytest.mark.parametrize("revoked", [False, True], ids=["no key", "a key of its own that was revoked"])
async def test_without_a_good_key_nothing_is_seen(server: Serving, api: list[Operation], acme: Owner, revoked: bool):
    nobody = Holder(server, "", [])
    if revoked:
        key, secret = await server.apps.access.create(Rights("acme"), "test")
        nobody = Holder(server, secret, acme.apps)
        assert (await nobody.call("GET", "/v1/info", acme.apps[0])).status == 200
        await server.apps.access.revoke(key, "test")
    for operation in api:
        for call in calls(operation, acme.ids):
            reply = await call.by(nobody, acme.apps[0] if revoked else None)
            assert telling(reply, call.said, acme) == [], call
            if operation.description["operationId"] not in OPEN:
                assert reply.status == 401, call


async def test_nothing_is_served_that_the_description_does_not_tell_of(server: Serving):
    """Else it would not be tried above. `/api/...` is another name of `/api/v1/...`, and `/v1/openai/v1/...` of
    `/v1/openai/...`; some paths of knowledge bases have older spellings."""
    fields = {operation.path for operation in operations(document(server.routes))}
    fields |= {"/openapi.json", "/docs", "/redoc", "/mcp"}
    fields |= {"/", "/console", "/form/{token}"}  # pages
    fields.add("/api/v1/apps/{app_id}/v1/{operation}")  # those of /v1, tried in test_apps
    fields.add("/api/v1/knowledge/v1/{operation}")  # tried in test_knowledge_access
    routes = [*api_routes(server.routes), *(route for route in server.routes if isinstance(route, Route))]
    served = {re.sub(r":\w+}", "}", route.path) for route in routes}
    aliases = {"/api/": "/api/v1/", "/v1/openai/v1/": "/v1/openai/"}
    names = {path: {path, *(path.replace(alias, name, 1) for alias, name in aliases.items())} for path in served}
    for end, old in OLD_SPELLINGS:
        names |= {path: {path.removesuffix(old) + end} for path in served if path.endswith(old)}
    assert {path for path, same in names.items() if not same & fields} == set()
    assert len(served) > 50
    assert not any(isinstance(route, Mount) for route in server.routes)
