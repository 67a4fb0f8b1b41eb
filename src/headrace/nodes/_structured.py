"""JSON objects out of what a model wrote: bare, fenced, or with words around them."""

from __future__ import annotations

from headrace.content import lenient_json
from headrace.errors import NodeError
from headrace.nodes._reasoning import without_thinking
from headrace.values import Value, nests_deeper

_SHOWN = 500
_DEEPEST = 100  # levels; what is nested deeper is no answer, and more than stores take


async def object_in(text: str) -> dict[str, Value]:
    """The first JSON object in a model's answer; of a list, its first object. NodeError with kind LLMNodeError where
    there is none, worded as Dify's."""
    clean = without_thinking(text) if "<" in text else text
    try:
        found = await lenient_json.object_in(clean)
    except ValueError:
        found = None
    if found is None or nests_deeper(found, _DEEPEST):
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        raise NodeError(f"Failed to parse structured output: {shown}", "LLMNodeError")
    return found
