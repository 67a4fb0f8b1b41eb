"""Parameters of queries, checked: InvalidParam names the parameter and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from headrace.api.auth import as_uuid
from headrace.errors import InvalidParam
from headrace.values import Value

_Default = TypeVar("_Default", int, None)
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def number(query: Mapping[str, str], name: str, default: _Default, maximum: int) -> int | _Default:
    """A query parameter from 1 to `maximum`; `default` where it is not given."""
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:18]) <= maximum:
        raise InvalidParam(f"{name}: Input should be an integer from 1 to {maximum}, not {text[:50]!r}")
    return int(text)


def maybe_id(query: Mapping[str, str], name: str) -> str | None:
    """A query parameter that is an id; None where it is empty or not there."""
    text = query.get(name, "").strip()
    return as_uuid(text, InvalidParam(f"{name}: {text[:50]!r} is not a valid uuid")) if text else None


def text(fields: Mapping[str, Value], name: str) -> str:
    """A string that is to be there. It loses its NULs, which no database takes."""
    if name not in fields:
        raise InvalidParam(f"{name}: Field required")
    value = fields[name]
    if not isinstance(value, str):
        raise InvalidParam(f"{name}: Input should be a valid string")
    return value.replace("\0", "")


def maybe_text(fields: Mapping[str, Value], name: str) -> str | None:
    """As `text`; None where it is not there, or null."""
    return None if fields.get(name) is None else text(fields, name)


def truth(fields: Mapping[str, Value], name: str, default: bool) -> bool:
    """A boolean, or the words and numbers that stand for one; `default` where it is not there."""
    value = fields.get(name, default)
    word = value.strip().lower() if isinstance(value, str) else str(value).lower()
    if word not in _TRUTH or not isinstance(value, str | bool | int):
        raise InvalidParam(f"{name}: Input should be a valid boolean")
    return _TRUTH[word]
