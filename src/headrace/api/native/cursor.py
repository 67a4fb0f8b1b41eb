"""Pages of a list whose order is (time, id), newest first. A cursor is the position of a page's last entry, so that
entries that are added meanwhile neither shift the pages nor appear twice."""

from __future__ import annotations

import base64
import binascii
import math
from functools import partial
from uuid import UUID

from headrace.api.http.params import TEXT_SCHEMA, Query, integer
from headrace.errors import InvalidParam

bad_cursor = partial(InvalidParam, "cursor: Input should be the next_cursor of the page before")


def cursor_of(at: float, id_: str) -> str:
    return base64.urlsafe_b64encode(f"{at!r} {id_}".encode()).decode().rstrip("=")


def _position_of(cursor: str) -> tuple[float, str]:
    try:
        at, _, id_ = base64.b64decode(cursor + "=" * (-len(cursor) % 4), "-_", validate=True).decode().partition(" ")
        position = float(at), str(UUID(id_))
        if not math.isfinite(position[0]):
            raise ValueError(at)
    except (ValueError, binascii.Error):
        raise bad_cursor() from None
    return position


PAGE_LIMIT = integer("limit", "Items on a page", 20, 100)
CURSOR: Query[tuple[float, str] | None] = Query(
    "query",
    "cursor",
    "The `next_cursor` of the page before",
    TEXT_SCHEMA,
    default=None,
    parse=_position_of,
    error=bad_cursor(),
)
