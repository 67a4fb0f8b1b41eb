"""Prices of models: a small table of list prices, and the user's own.

Prices change; if they matter, set HEADRACE_PRICES to a file of your own (JSON or YAML):

    gpt-4o: {input: 2.5, output: 10}                         # by model, of any provider
    siliconflow/deepseek-ai/DeepSeek-V3: {input: 2, output: 8, currency: RMB}
    my-model: {input: 0.001, output: 0.002, per: 1000}       # per 1,000 tokens instead of per million

A model without a price costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from headrace.errors import LoadError, Problem
from headrace.frozen import frozen

_MILLION = 1_000_000
_FIELDS = frozenset({"input", "output", "currency", "per"})


@frozen
class Price:
    """Money per 1,000 tokens."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    currency: str = "USD"


# provider: (currency, {model: (input, output)}) per million tokens
_LIST: Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]] = {
    "openai": (
        "USD",
        {
            "gpt-5": ("1.25", "10"),
            "gpt-5-mini": ("0.25", "2"),
            "gpt-5-nano": ("0.05", "0.4"),
            "gpt-4.1": ("2", "8"),
            "gpt-4.1-mini": ("0.4", "1.6"),
            "gpt-4.1-nano": ("0.1", "0.4"),
            "gpt-4o": ("2.5", "10"),
            "gpt-4o-mini": ("0.15", "0.6"),
            "chatgpt-4o-latest": ("5", "15"),
            "gpt-4-turbo": ("10", "30"),
            "gpt-4": ("30", "60"),
            "gpt-3.5-turbo": ("0.5", "1.5"),
            "o1": ("15", "60"),
            "o3": ("2", "8"),
            "o3-mini": ("1.1", "4.4"),
            "o4-mini": ("1.1", "4.4"),
        },
    ),
    "anthropic": (
        "USD",
        {
            "claude-opus-4": ("15", "75"),
            "claude-opus-4-1": ("15", "75"),
            "claude-opus-4-5": ("5", "25"),
            "claude-opus-4-6": ("5", "25"),
            "claude-opus-4-7": ("5", "25"),
            "claude-opus-4-8": ("5", "25"),
            "claude-opus-5": ("5", "25"),
            "claude-fable-5": ("10", "50"),
            "claude-sonnet-4": ("3", "15"),
            "claude-sonnet-4-5": ("3", "15"),
            "claude-sonnet-4-6": ("3", "15"),
            "claude-sonnet-5": ("3", "15"),
            "claude-haiku-4-5": ("1", "5"),
            "claude-3-7-sonnet": ("3", "15"),
            "claude-3-5-sonnet": ("3", "15"),
            "claude-3-5-haiku": ("0.8", "4"),
            "claude-3-opus": ("15", "75"),
            "claude-3-sonnet": ("3", "15"),
            "claude-3-haiku": ("0.25", "1.25"),
        },
    ),
    "gemini": (
        "USD",
        {
            "gemini-3.1-pro": ("2", "12"),
            "gemini-3-pro": ("2", "12"),
            "gemini-3.7-flash": ("0.75", "3.75"),
            "gemini-3.6-flash": ("1.5", "7.5"),
            "gemini-3.5-flash": ("1.5", "9"),
            "gemini-3.5-flash-lite": ("0.3", "2.5"),
            "gemini-3.1-flash-lite": ("0.25", "1.5"),
            "gemini-3-flash": ("0.5", "3"),
            "gemini-2.5-pro": ("1.25", "10"),
            "gemini-2.5-flash": ("0.3", "2.5"),
            "gemini-2.5-flash-lite": ("0.1", "0.4"),
            "gemini-2.0-flash": ("0.1", "0.4"),
            "gemini-2.0-flash-lite": ("0.075", "0.3"),
        },
    ),
    "deepseek": ("USD", {"deepseek-chat": ("0.28", "0.42"), "deepseek-reasoner": ("0.28", "0.42")}),
    "tongyi": (
        "RMB",
        {
            "qwen3-max": ("6", "24"),
            "qwen-max": ("2.4", "9.6"),
            "qwen-plus": ("0.8", "2"),
            "qwen-turbo": ("0.3", "0.6"),
            "qwen-flash": ("0.15", "1.5"),
            "qwen-long": ("0.5", "2"),
            "qwen-vl-max": ("1.6", "4"),
            "qwen-vl-plus": ("0.8", "2"),
            "qwq-plus": ("1.6", "4"),
        },
    ),
    "moonshot": (
        "RMB",
        {
            "moonshot-v1-8k": ("2", "10"),
            "moonshot-v1-32k": ("5", "20"),
            "moonshot-v1-128k": ("10", "30"),
            "kimi-k2": ("4", "16"),
            "kimi-k2-turbo": ("8", "58"),
        },
    ),
    "zhipuai": (
        "RMB",
        {
            "glm-4-plus": ("5", "5"),
            "glm-4-air": ("0.5", "0.5"),
            "glm-4-airx": ("10", "10"),
            "glm-4-long": ("1", "1"),
            "glm-4-flash": ("0", "0"),
            "glm-4.5-flash": ("0", "0"),
        },
    ),
    "groq": (
        "USD",
        {
            "llama-3.3-70b-versatile": ("0.59", "0.79"),
            "llama-3.1-8b-instant": ("0.05", "0.08"),
            "meta-llama/llama-4-scout-17b-16e-instruct": ("0.11", "0.34"),
            "meta-llama/llama-4-maverick-17b-128e-instruct": ("0.2", "0.6"),
            "openai/gpt-oss-120b": ("0.15", "0.6"),
            "openai/gpt-oss-20b": ("0.075", "0.3"),
            "qwen/qwen3-32b": ("0.29", "0.59"),
        },
    ),
}
_SAME = {"azure_openai": "openai", "google": "gemini", "vertex_ai": "gemini"}
# the part of `gpt-4o-2024-08-06`, `gpt-4-0613`, `qwen-max-latest` that names a release, not another model
_RELEASE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{4}(-preview)?|\d{6}|\d{8}|latest|preview)$")

# Claude costs the same on Bedrock and on Vertex AI:
# us.anthropic.claude-sonnet-4-20250514-v1:0, claude-3-5-sonnet-v2@20241022
_CLAUDE_ELSEWHERE = re.compile(r"(?:(?:[a-z]+\.)?anthropic\.)?(claude-.+?)(?:-v\d+(?::\d+)?)?(?:@\d+)?")


class Prices:
    """The list prices, overridden by the user's."""

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = own or {}

    def of(self, provider: str, model: str) -> Price:
        """The price of a provider's model; 0 if it is unknown."""
        names = [model] if (base := _RELEASE.sub("", model)) == model else [model, base]
        for name in names:
            if price := self._own.get(f"{provider}/{name}") or self._own.get(name):
                return price
        if (provider == "vertex_ai" or "anthropic." in model) and (match := _CLAUDE_ELSEWHERE.fullmatch(model)):
            provider, names = "anthropic", [match[1], _RELEASE.sub("", match[1])]
        currency, table = _LIST.get(_SAME.get(provider, provider), ("USD", {}))
        entry = next((table[name] for name in names if name in table), None)
        if entry is None:
            return _FREE
        return Price(Decimal(entry[0]) / 1000, Decimal(entry[1]) / 1000, currency)


_FREE = Price()


def load_prices(path: str) -> dict[str, Price]:
    """Prices from a JSON or YAML file. LoadError with all its problems."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            content: Any = yaml.safe_load(file)
    except OSError as error:
        raise LoadError(path, [Problem(f"cannot be read: {error.strerror}")]) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise LoadError(path, [Problem(f"cannot be read as a table of prices: {error}")]) from error
    return parse_prices(content, path)


def parse_prices(table: Any, source: str = "prices") -> dict[str, Price]:
    """Prices from `{model: {input, output, currency?, per?}}`. LoadError with all its problems."""
    if not isinstance(table, Mapping):
        raise LoadError(source, [Problem("a table of prices is an object: model -> {input, output}")])
    prices: dict[str, Price] = {}
    problems: list[Problem] = []
    for model, entry in cast("Mapping[object, object]", table).items():
        try:
            prices[str(model)] = entry if isinstance(entry, Price) else _price(entry)
        except ValueError as error:
            problems.append(Problem(str(error), field=str(model)))
    if problems:
        raise LoadError(source, problems)
    return prices


def _price(entry: object) -> Price:
    if not isinstance(entry, Mapping):
        raise ValueError("a price is an object with `input` and `output`")
    fields = cast("Mapping[str, object]", entry)
    if unknown := [str(name) for name in fields if name not in _FIELDS]:
        raise ValueError(f"unknown: {', '.join(unknown)}; a price has input, output, currency and per")
    per = _number(fields.get("per", _MILLION), "per")
    if per == 0:
        raise ValueError("`per` is the number of tokens that the price is for: above 0")
    return Price(
        _number(fields.get("input", 0), "input") * 1000 / per,
        _number(fields.get("output", 0), "output") * 1000 / per,
        str(fields.get("currency", "USD")),
    )


def _number(value: object, name: str) -> Decimal:
    try:
        number = Decimal("nan") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number < 0:
        raise ValueError(f"`{name}` is not a number of at least 0: {value!r}")
    return number
