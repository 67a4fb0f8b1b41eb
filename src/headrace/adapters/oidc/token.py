"""Parses a JSON Web Token in its compact form. Anything ambiguous is refused.

The signature is verified in `identity`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from headrace.errors import HeadraceError
from headrace.frozen import frozen

LARGEST = 8 * 1024  # characters of a token
_LONGEST_NUMBER = 20  # digits; enough for every time and count
_PART = re.compile(r"[A-Za-z0-9_-]+")
_TYPES = frozenset({"", "jwt", "at+jwt"})  # of bearer tokens; tokens of other types are for other purposes


class Refused(HeadraceError):
    """Why a token is refused, for the log only, not for the caller."""


@frozen
class Token:
    """`signature` is that of `signed`; `alg` and `kid` are from the header, `kid` is None if it has none."""

    alg: str
    kid: str | None
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def read(text: str) -> Token:
    """Parses a token. Refused if it is invalid or unsupported."""
    if len(text) > LARGEST:
        raise Refused(f"it is longer than {LARGEST} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise Refused(f"it has {len(parts)} parts instead of 3")
    head, body, signature = (_decoded(part) for part in parts)
    header = _object(head, "header")
    if "crit" in header:
        raise Refused("its header has extensions that must be understood (crit)")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise Refused(f"it is of another type: {brief(kind)}")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        raise Refused("its header has no algorithm")
    if kid is not None and not isinstance(kid, str):
        raise Refused("its key id is not a string")
    signed = text[: text.rindex(".")].encode("ascii")
    return Token(alg, kid, _object(body, "payload"), signed, signature)


def brief(value: object) -> str:
    """An untrusted value, on one line of a log."""
    printable = ascii(value)
    return printable if len(printable) <= 100 else f"{printable[:100]}..."


def _decoded(part: str) -> bytes:
    """Decodes a part, whose encoding must be canonical: no padding, no stray bits at the end."""
    if not _PART.fullmatch(part) or len(part) % 4 == 1:
        raise Refused("a part of it is not base64url")
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode("ascii"):
        raise Refused("a part of it is not canonical base64url")
    return raw


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        # given bytes, json would also accept UTF-16
        document: Any = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(f"its {what} is not valid JSON: {brief(str(error))}") from None
    if not isinstance(document, dict):
        raise Refused(f"its {what} is not an object")
    return cast("dict[str, Any]", document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    object_ = dict(pairs)
    if len(object_) != len(pairs):
        raise ValueError("a name occurs twice")
    return object_


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError("a number is too large")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
