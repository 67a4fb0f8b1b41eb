"""The choice of one knowledge base by a model: `retrieval_mode` single."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from headrace.node import Context
from headrace.nodes._model_call import ModelConfig, complete, request_of
from headrace.ports.services import DatasetDescription, FunctionTool, Message, Usage
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


async def choose_base(
    ctx: Context, model: ModelConfig, bases: Mapping[str, DatasetDescription], query: str, kind: str
) -> tuple[str | None, Usage]:
    """(which of the bases to search, None if there is none; the model's usage). NodeError if the call of the model
    fails, or, with this kind, if the answer is longer than a text may be."""
    datasets = list(bases)
    if len(datasets) < 2:
        return (datasets[0] if datasets else None), Usage()
    descriptions = {f"knowledge_base_{number}": _text(base) for number, base in enumerate(bases.values(), 1)}
    if model.is_completion:
        lines = "\n".join(f"{name}: {text}" for name, text in descriptions.items())
        request = request_of(ctx, model, [Message("user", _TEXT_TASK.format(bases=lines, query=query))])
        answer = await complete(ctx, request, kind=kind)
        return _chosen(answer.text, datasets), answer.usage
    schema: dict[str, Value] = {"type": "object", "properties": {}, "required": []}
    tools = [FunctionTool(name, text, schema) for name, text in descriptions.items()]
    messages = [Message("system", _TASK), Message("user", query)]
    decisive = model.model_copy(update={"completion_params": {**model.completion_params, **_PARAMETERS}})
    answer = await complete(ctx, request_of(ctx, decisive, messages, tools=tools), kind=kind)
    return (_chosen(answer.tool_calls[0].name, datasets) if answer.tool_calls else None), answer.usage


def _text(base: DatasetDescription) -> str:
    text = base.description or f"useful for when you want to answer queries about the {base.name}"
    return text.replace("\n", "").replace("\r", "")


def _chosen(text: str, datasets: Sequence[str]) -> str | None:
    match = _NAME.search(text)
    number = int(match[1]) if match else 0
    return datasets[number - 1] if 1 <= number <= len(datasets) else None
