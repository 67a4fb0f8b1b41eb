"""What a node says it was paid, read so that no sum of it is more than a database and a client hold.

`usage` is as `ports.services.Usage.wire` has it; a node type of somebody else may put anything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from typing_extensions import TypedDict

from headrace.values import Value

_MAX_COUNT = 2**53 - 1  # what every JSON parser reads exactly
_MAX_PRICE = Decimal(10) ** 12


def count_of(usage: Mapping[str, Value], name: str) -> int:
    """A count of tokens; 0 where it is not one."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, _MAX_COUNT))


def price_of(usage: Mapping[str, Value]) -> Decimal:
    """The price in all; 0 where it is not a sum of money."""
    try:
        price = Decimal(str(usage.get("total_price") or 0))
    except (InvalidOperation, ValueError):
        return Decimal(0)
    return max(-_MAX_PRICE, min(price, _MAX_PRICE)) if price.is_finite() else Decimal(0)


def add_counts(tokens: int, more: int) -> int:
    """Two counts together."""
    return min(tokens + more, _MAX_COUNT)


class RunUsage(TypedDict):
    """Tokens and money. There is no price where currencies are mixed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_price: str | None
    currency: str | None


class UsageTotal:
    """Tokens and money, summed."""

    __slots__ = ("completion_tokens", "currency", "mixed", "price", "prompt_tokens", "tokens")

    def __init__(self) -> None:
        self.tokens = self.prompt_tokens = self.completion_tokens = 0
        self.price = Decimal(0)
        self.currency: str | None = None  # the last one; None where nothing had a price
        self.mixed = False  # there was another currency before

    def add(self, usage: Mapping[str, Value]) -> None:
        """`usage` is as `Usage.wire` has it; what is missing counts as nothing."""
        self.tokens = add_counts(self.tokens, count_of(usage, "total_tokens"))
        self.prompt_tokens = add_counts(self.prompt_tokens, count_of(usage, "prompt_tokens"))
        self.completion_tokens = add_counts(self.completion_tokens, count_of(usage, "completion_tokens"))
        self.price += price_of(usage)
        if currency := usage.get("currency"):
            self.mixed = self.mixed or self.currency not in (None, str(currency))
            self.currency = str(currency)

    def body(self) -> RunUsage:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.tokens,
            "total_price": None if self.mixed else format(self.price, "f"),
            "currency": None if self.mixed else self.currency or "USD",
        }
