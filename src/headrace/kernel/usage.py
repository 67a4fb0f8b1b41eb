"""What a node says it was paid, read so that no sum of it is more than a database and a client hold.

`usage` is as `resources.Usage.wire` has it; a node type of somebody else may put anything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from headrace.values import Value

_MOST = 2**53 - 1  # what every JSON parser reads exactly
_MOST_PRICE = Decimal(10) ** 12


def count_of(usage: Mapping[str, Value], name: str) -> int:
    """A count of tokens; 0 where it is not one."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, _MOST))


def price_of(usage: Mapping[str, Value]) -> Decimal:
    """The price in all; 0 where it is not a sum of money."""
    try:
        price = Decimal(str(usage.get("total_price") or 0))
    except (InvalidOperation, ValueError):
        return Decimal(0)
    return max(-_MOST_PRICE, min(price, _MOST_PRICE)) if price.is_finite() else Decimal(0)


def sum_of(tokens: int, more: int) -> int:
    """Two counts together."""
    return min(tokens + more, _MOST)
