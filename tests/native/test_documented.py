"""Every endpoint of the asynchronous API in `/docs`: what it does, an example of each answer, and how it can fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from openapi_spec_validator import validate

from headrace.stores.memory import memory_storage
from tests.native import conforming
from tests.native.calling import Caller
from tests.native.conforming import validator
from tests.native.described import APP, DESCRIPTION
from tests.native.fuzzing import Operation, operations
from tests.native.world import api_of, apps_of
from tests.runs.service import ECHO

ALL = operations(DESCRIPTION, "/api/")
each_operation = pytest.mark.parametrize("operation", ALL, ids=lambda value: f"{value.method} {value.path}")


def answers(operation: Operation) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """(status, content type, how it is described) of every answer with a body."""
    for status, body in operation.description["responses"].items():
        for kind, media in body.get("content", {}).items():
            yield int(status), kind, media


def test_there_is_something_to_hold():
    assert len(ALL) > 10
    assert all(item.path.startswith("/api/v1/") for item in ALL), "an alias is told of nowhere"
    ids = [body["operationId"] for methods in DESCRIPTION["paths"].values() for body in methods.values()]
    assert len(set(ids)) == len(ids)


@each_operation
def test_it_is_said_what_it_does(operation: Operation):
    assert operation.description["summary"]
    assert operation.description["description"]
    assert operation.description["tags"]
    assert operation.description["security"]
    for parameter in operation.parameters:
        assert parameter["description"], parameter["name"]
        assert parameter["schema"], parameter["name"]
    in_path = {parameter["name"] for parameter in operation.parameters if parameter["in"] == "path"}
    assert in_path == {part[1:-1] for part in operation.path.split("/") if part.startswith("{")}


@each_operation
def test_every_answer_has_an_example(operation: Operation):
    good = [(status, media) for status, _, media in answers(operation) if status < 300]
    assert good
    for status, media in good:
        assert media.get("example") or media.get("examples"), status
    assert all(status < 400 or 400 <= status < 600 for status, _, _ in answers(operation))


@each_operation
def test_its_errors_are_told(operation: Operation):
    failing = {status: media for status, kind, media in answers(operation) if status >= 400 and "json" in kind}
    assert 401 in failing
    if "{" in operation.path:
        assert 404 in failing
    if operation.bodies:
        assert {400, 413} <= failing.keys()
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.parameters):
        assert {400, 409} <= failing.keys()
    for status, media in failing.items():
        assert media["examples"]
        for code, example in media["examples"].items():
            assert example["value"]["code"] == code
            assert example["value"]["status"] == status
            assert example["value"]["message"]


@each_operation
def test_a_body_has_an_example(operation: Operation):
    content = operation.description.get("requestBody", {}).get("content", {})
    assert all("schema" in media for media in content.values())
    written = [kind for kind, media in content.items() if media["schema"].get("format") != "binary"]
    assert {kind for kind, _ in operation.bodies} == set(written)


def test_the_description_is_valid():
    validate(DESCRIPTION)
    assert DESCRIPTION["openapi"].startswith("3.1")
    names = DESCRIPTION["components"]["schemas"]
    assert not [name for name in names if "__" in name], "two shapes have the same name"


def contents(operation: Operation) -> Iterator[Mapping[str, Any]]:
    """How each kind of JSON is described that the operation takes or returns."""
    bodies = [operation.description.get("requestBody", {}), *operation.description["responses"].values()]
    for body in bodies:
        yield from (media for kind, media in body.get("content", {}).items() if kind == "application/json")


@each_operation
def test_all_json_has_a_schema_that_accepts_its_examples(operation: Operation):
    for media in contents(operation):
        assert media["schema"] != {"type": "object"}
        schema = validator(media["schema"])
        examples = [media["example"]] if "example" in media else [item["value"] for item in media["examples"].values()]
        assert examples
        for example in examples:
            schema.validate(example)


def test_a_response_of_another_shape_is_found():
    wrong = b'{"secret": 7}'
    with pytest.raises(AssertionError, match="7 is not of type 'string'"):
        conforming.check("GET", "/api/v1/callbacks/secret", 200, "application/json", wrong)


@each_operation
async def test_without_a_key_it_is_refused_as_told(operation: Operation):
    path = "/".join("x" if part.startswith("{") else part for part in operation.path.split("/"))
    answer = await Caller(APP)(operation.method, path)
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")


async def test_the_examples_of_versions_are_like_real_answers():
    store = memory_storage()
    apps = apps_of(store)
    release = await apps.publish("flow.yml", ECHO)
    call = Caller(api_of(apps, store), await apps.working_key(release.app))
    base, detail = f"/api/v1/workflows/{release.app.id}", "/api/v1/workflows/{app_id}"

    def example(method: str, path: str, status: int = 200) -> Any:
        detail = DESCRIPTION["paths"][path][method]["responses"][str(status)]
        return detail["content"]["application/json"]["example"]

    for kind, body in next(item for item in ALL if item.description["operationId"] == "publishWorkflowVersion").bodies:
        text = body if isinstance(body, str) else None
        answer = await call(
            "POST",
            f"{base}/versions",
            json=None if text else body,
            body=(text or "").encode(),
            headers={"Content-Type": kind},
        )
        assert answer.status in (200, 201), "what the example publishes can be published"
        assert answer.json.keys() == example("post", f"{detail}/versions", answer.status).keys()
        assert answer.json["name"] == example("post", f"{detail}/versions", answer.status)["name"]
    listed = (await call("GET", f"{base}/versions")).json
    assert listed.keys() == example("get", f"{detail}/versions").keys()
    assert listed["data"][0].keys() == example("get", f"{detail}/versions")["data"][0].keys()
    version = f"/versions/{release.version.id}"
    for method, path, like in (
        ("GET", version, "/versions/{version_id}"),
        ("GET", f"/diff?from={release.version.id}", "/diff"),
        ("POST", "/rollback", "/rollback"),
        ("POST", f"{version}/pin", "/versions/{version_id}/pin"),
    ):
        answer = await call(method, base + path)
        assert answer.status == 200
        assert answer.json.keys() == example(method.lower(), detail + like).keys(), like
