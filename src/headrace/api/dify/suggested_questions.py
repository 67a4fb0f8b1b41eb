"""What the user may want to ask next: a model thinks it up from the last of the conversation."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import cast

from headrace.content import lenient_json
from headrace.errors import NodeError
from headrace.node import Flow
from headrace.ports.services import ChatRequest, Message, Models, Turn
from headrace.values import Value

logger = logging.getLogger(__name__)

_MOST = 3
_SHOWN = 4_000  # characters of a question, and of an answer, that the model is told
_LONGEST = 50_000  # characters of the model's answer: past that it has lost its way
_TASK = (
    f"Above is the end of a conversation. Write the {_MOST} questions that the user is most likely to ask next. "
    "Each is short, is put as the user would put it, and is in the language of the conversation. "
    f'Answer with nothing but a JSON array of {_MOST} strings: ["...", "...", "..."]'
)
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


async def suggested(models: Models, flow: Flow, turns: Sequence[Turn], user: str) -> list[str]:
    """The questions, after these exchanges; [] where the app has no model to ask, or it gives no such answer."""
    model = _model(flow)
    if model is None or not turns:
        return []
    told = [f"User: {turn.query[:_SHOWN]}\nAssistant: {turn.answer[:_SHOWN]}" for turn in turns]
    request = ChatRequest(
        provider=str(model["provider"]),
        model=str(model["name"]),
        messages=[Message("user", "\n\n".join([*told, _TASK]))],
        user=user,
        mode=str(model.get("mode") or "chat"),
    )
    try:
        return await _questions(await _heard(models, request))
    except NodeError as error:
        logger.warning("%s: no questions could be suggested: %s", flow.name, error)
        return []


async def _heard(models: Models, request: ChatRequest) -> str:
    pieces: list[str] = []
    size = 0
    chunks = models.chat(request)
    try:
        async for chunk in chunks:
            pieces.append(chunk.text)
            size += len(chunk.text)
            if size > _LONGEST:
                break
    finally:
        if isinstance(chunks, AsyncGenerator):  # closes the connection now, not when the garbage is collected
            await chunks.aclose()
    return "".join(pieces)


async def _questions(answer: str) -> list[str]:
    said = _THOUGHT.sub("", answer)
    try:
        items: Value = await lenient_json.read(said[max(0, said.find("[")) : said.rfind("]") + 1])
    except ValueError:
        return []
    if not isinstance(items, list):
        return []
    questions = (" ".join(each.split()) for each in cast("list[Value]", items) if isinstance(each, str))
    return [each for each in questions if each][:_MOST]


def _model(flow: Flow) -> Mapping[str, Value] | None:
    """Whom to ask: whom the feature names, else the app's first model, of an llm node where there is one. (Dify asks
    the workspace's default model; there is none here.)"""
    feature = flow.features.get("suggested_questions_after_answer")
    named = cast("dict[str, Value]", feature).get("model") if isinstance(feature, dict) else None
    nodes = sorted(flow.graph.all_nodes(), key=lambda node: not node.traits.generates)
    models: Iterable[Value] = [named, *(node.config.get("model") for node in nodes)]
    for each in models:
        if isinstance(each, dict):
            model = cast("dict[str, Value]", each)
            if model.get("provider") and model.get("name"):
                return model
    return None
