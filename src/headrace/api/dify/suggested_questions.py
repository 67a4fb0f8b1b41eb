"""Questions that the user may ask next, which a model writes from the end of the conversation."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import cast

from headrace.content import lenient_json
from headrace.errors import NodeError
from headrace.node import Flow
from headrace.ports.services import ChatRequest, Message, Models, Turn
from headrace.values import Value

logger = logging.getLogger(__name__)

_COUNT = 3
_LONGEST_MESSAGE = 4_000  # characters of a query, and of an answer, that the model sees
_LONGEST_ANSWER = 50_000  # characters, after which the model's answer is cut
_TASK = (
    f"Above is the end of a conversation. Write the {_COUNT} questions that the user is most likely to ask next. "
    "Each is short, is put as the user would put it, and is in the language of the conversation. "
    f'Answer with nothing but a JSON array of {_COUNT} strings: ["...", "...", "..."]'
)
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


async def suggested(models: Models, flow: Flow, turns: Sequence[Turn], user: str) -> list[str]:
    """The questions after these messages; [] where the app has no model, or its answer has none."""
    model = _model(flow)
    if model is None or not turns:
        return []
    conversation = [
        f"User: {turn.query[:_LONGEST_MESSAGE]}\nAssistant: {turn.answer[:_LONGEST_MESSAGE]}" for turn in turns
    ]
    request = ChatRequest(
        provider=str(model["provider"]),
        model=str(model["name"]),
        messages=[Message("user", "\n\n".join([*conversation, _TASK]))],
        user=user,
        mode=str(model.get("mode") or "chat"),
    )
    try:
        return await _questions(await _answer(models, request))
    except NodeError as error:
        logger.warning("%s: no questions could be suggested: %s", flow.name, error)
        return []


async def _answer(models: Models, request: ChatRequest) -> str:
    pieces: list[str] = []
    size = 0
    async with aclosing(models.chat(request)) as chunks:
        async for chunk in chunks:
            pieces.append(chunk.text)
            size += len(chunk.text)
            if size > _LONGEST_ANSWER:
                break
    return "".join(pieces)


async def _questions(answer: str) -> list[str]:
    text = _THOUGHT.sub("", answer)
    try:
        items: Value = await lenient_json.read(text[max(0, text.find("[")) : text.rfind("]") + 1])
    except ValueError:
        return []
    if not isinstance(items, list):
        return []
    questions = (" ".join(item.split()) for item in cast("list[Value]", items) if isinstance(item, str))
    return [question for question in questions if question][:_COUNT]


def _model(flow: Flow) -> Mapping[str, Value] | None:
    """The model that the feature names, else the app's first, of an llm node if there is one. (Dify calls the
    workspace's default model, which does not exist here.)"""
    feature = flow.features.get("suggested_questions_after_answer")
    model_fields = cast("dict[str, Value]", feature).get("model") if isinstance(feature, dict) else None
    nodes = sorted(flow.graph.all_nodes(), key=lambda node: not node.traits.generates)
    models: Iterable[Value] = [model_fields, *(node.config.get("model") for node in nodes)]
    for candidate in models:
        if isinstance(candidate, dict):
            model = cast("dict[str, Value]", candidate)
            if model.get("provider") and model.get("name"):
                return model
    return None
