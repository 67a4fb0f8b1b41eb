"""The choice of one knowledge base by a model: `retrieval_mode` single."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from headrace.node import Context
from headrace.nodes._model_call import ModelConfig, complete, request_of
from headrace.ports.services import FunctionTool, Message, Usage
from headrace.values import Value

_TASK = (
    "Call the function that searches where the answer to the user's question can be found. Call none if there is none."
)
_TEXT_TASK = (
    "Each of these searches a collection of documents:\n\n{bases}\n\nName the one that searches where the answer to "
    "this question can be found, and write nothing but its name. Write 'none' if none does.\n\n"
    "Question: {query}\nName: "
)
_PARAMETERS = {"temperature": 0.2, "top_p": 0.3, "max_tokens": 1500}
_NAME = re.compile(r"knowledge_base_(\d+)")


class BaseDescription(NamedTuple):
    """What a model knows of a knowledge base, besides its id."""

    dataset: str
    name: str
    description: str

    @property
    def text(self) -> str:
        text = self.description or f"useful for when you want to answer queries about the {self.name}"
        return text.replace("\n", "").replace("\r", "")


async def choose_base(
    ctx: Context, model: ModelConfig, bases: Sequence[BaseDescription], query: str, kind: str
) -> tuple[str | None, Usage]:
    """(the base to search, None if there is none; the model's usage). NodeError if the call of the model fails, or,
    with this kind, if the answer is longer than a text may be."""
    if len(bases) < 2:
        return (bases[0].dataset if bases else None), Usage()
    if model.is_completion:
        lines = "\n".join(f"knowledge_base_{number}: {base.text}" for number, base in enumerate(bases, 1))
        request = request_of(ctx, model, [Message("user", _TEXT_TASK.format(bases=lines, query=query))])
        answer = await complete(ctx, request, kind=kind)
        return _chosen(answer.text, bases), answer.usage
    schema: dict[str, Value] = {"type": "object", "properties": {}, "required": []}
    tools = [FunctionTool(f"knowledge_base_{number}", base.text, schema) for number, base in enumerate(bases, 1)]
    messages = [Message("system", _TASK), Message("user", query)]
    decisive = model.model_copy(update={"completion_params": {**model.completion_params, **_PARAMETERS}})
    answer = await complete(ctx, request_of(ctx, decisive, messages, tools=tools), kind=kind)
    return (_chosen(answer.tool_calls[0].name, bases) if answer.tool_calls else None), answer.usage


def _chosen(text: str, bases: Sequence[BaseDescription]) -> str | None:
    match = _NAME.search(text)
    number = int(match[1]) if match else 0
    return bases[number - 1].dataset if 1 <= number <= len(bases) else None
