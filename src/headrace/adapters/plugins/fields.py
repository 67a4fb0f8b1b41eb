"""Parts of a plugin's YAML files, whose authors take liberties: what is not of the expected type counts as absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast


def mapping_of(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def items_of(value: object) -> Sequence[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else ()


def text_of(value: object) -> str:
    """A text, or the English one of a text in several languages."""
    if isinstance(value, dict):
        languages = cast("dict[object, object]", value)
        return text_of(languages.get("en_US") or next((text for text in languages.values() if text), ""))
    return "" if value is None or isinstance(value, list) else str(value)
