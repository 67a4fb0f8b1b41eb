"""What Headrace says of its own API, and which operations of the official description it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.native.described import DESCRIPTION
from tests.official.described import ALL, Described


def ours(operation: Described) -> Mapping[str, Any] | None:
    """Our own description of an operation; None where there is none here."""
    return DESCRIPTION["paths"].get(f"/v1{operation.path}", {}).get(operation.method.lower())


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema of ours, or the one that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return DESCRIPTION["components"]["schemas"][name] if name else schema


_OURS = [(item, described) for item in ALL if (described := ours(item)) is not None]
KNOWLEDGE = [item for item, described in _OURS if {"KnowledgeKey": []} in described["security"]]
"""Those of knowledge bases."""
HERE = [item for item, _ in _OURS if item not in KNOWLEDGE]
"""All others."""
