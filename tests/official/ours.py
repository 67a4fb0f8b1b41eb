"""What Headrace says of its own API, and which operations of the official description it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import document
from headrace.stores.memory import MemoryStore
from tests.native.world import api_of, apps_of
from tests.official.described import ALL, Described

_API: Any = api_of(apps_of(MemoryStore()))
_PATHS: Mapping[str, Any] = document(_API.routes)["paths"]


def ours(operation: Described) -> Mapping[str, Any] | None:
    """Our own description of an operation; None where there is none here."""
    return _PATHS.get(f"/v1{operation.path}", {}).get(operation.method.lower())


HERE = [each for each in ALL if ours(each) is not None]
