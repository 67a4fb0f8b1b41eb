"""Holds real responses against the API's own description of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.world import api_of, apps_of

JSON = "application/json"


@cache
def description() -> Mapping[str, Any]:
    store = memory_storage()
    return document(api_of(apps_of(store), store).routes)


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Of a schema that may refer to the components."""
    return Draft202012Validator({**schema, "components": description()["components"]})


@cache
def _operations() -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
    """The methods of each path, literal paths first."""
    paths: Mapping[str, Any] = description()["paths"]
    order = sorted(paths, key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), paths[path]) for path in order]


@cache
def _validator_of(method: str, path: str, status: int) -> Draft202012Validator | None:
    for pattern, methods in _operations():
        if pattern.fullmatch(path) and method.lower() in methods:
            response = methods[method.lower()]["responses"].get(str(status), {})
            content = response.get("content", {}).get(JSON)
            return validator(content["schema"]) if content else None
    return None


def check(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fails where JSON has another shape than its operation is described with. A response that is not described at all
    is left to others."""
    if content_type.partition(";")[0] == JSON:
        path = re.sub("^/api/(?!v1/)", "/api/v1/", path)
        result = _validator_of(method, path, status)
        if result is not None:
            errors = [f"{error.json_path}: {error.message}" for error in result.iter_errors(json.loads(body))]
            assert not errors, f"{method} {path} {status}: {errors}"
