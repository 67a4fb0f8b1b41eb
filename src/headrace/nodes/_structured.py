"""JSON objects in a model's answer: bare, in a code block, or with words around them."""

from __future__ import annotations

from headrace.content import lenient_json
from headrace.errors import NodeError
from headrace.nodes._reasoning import without_reasoning
from headrace.values import Value, nests_deeper

_SHOWN = 500
_DEEPEST = 100  # levels; deeper nesting is not a sensible answer, and more than stores accept


async def object_in(text: str) -> dict[str, Value]:
    """The first JSON object in a model's answer; in a list, its first object. NodeError with kind LLMNodeError if there
    is none, worded as Dify's."""
    try:
        answer = await lenient_json.object_in(without_reasoning(text) if "<" in text else text)
    except ValueError:
        answer = None
    if answer is None or nests_deeper(answer, _DEEPEST):
        excerpt = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        raise NodeError(f"Failed to parse structured output: {excerpt}", "LLMNodeError")
    return answer
