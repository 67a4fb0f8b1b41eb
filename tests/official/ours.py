"""What Headrace says of its own API, and which operations of the official description it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.world import api_of, apps_of
from tests.official.described import ALL, Described

_STORE = memory_storage()
_API: Any = api_of(apps_of(_STORE), _STORE)
_DOCUMENT: Mapping[str, Any] = document(_API.routes)


def ours(operation: Described) -> Mapping[str, Any] | None:
    """Our own description of an operation; None where there is none here."""
    return _DOCUMENT["paths"].get(f"/v1{operation.path}", {}).get(operation.method.lower())


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema of ours, or the one that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return _DOCUMENT["components"]["schemas"][name] if name else schema


HERE = [each for each in ALL if ours(each) is not None]
