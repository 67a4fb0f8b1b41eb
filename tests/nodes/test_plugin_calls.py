"""Nodes that plugins call back for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.errors import HeadraceError, NodeError
from headrace.nodes.plugin_calls import NodeCalls
from headrace.ports.services import ChatChunk, Limits, ToolCall, ToolContext
from headrace.values import Value
from tests.nodes.llm_world import Model, resources

MODEL = {"provider": "p", "name": "m", "mode": "chat", "completion_params": None}
CITY = {"name": "city", "type": "string", "description": "Where", "required": True, "options": []}
CLASSES = [{"id": "1", "name": "Weather"}, {"id": "2", "name": "Food"}]


@dataclass(frozen=True)
class Caller:
    context: ToolContext
    on_usage: Callable[[Mapping[str, Value]], None]


async def call(name: str, model: Model, /, **request: Value) -> tuple[Any, list[Any]]:
    """(the answer, the usages that are counted)."""
    usages: list[Any] = []
    answer: Any = getattr(NodeCalls(resources(model), Limits()), name)
    caller = Caller(ToolContext("run", "app", "ann", "key"), usages.append)
    (body,) = [body async for body in answer(None, request, caller)]
    return json.loads(json.dumps(body)), usages


async def test_a_parameter_extractor() -> None:
    tool_call = ToolCall("c", "extract_parameters", '{"city": "Rome"}')
    model = Model([ChatChunk(tool_calls=[tool_call])])
    body, usages = await call("extract", model, parameters=[CITY], model=MODEL, query="Weather in Rome?")
    assert (body["outputs"]["city"], body["outputs"]["__is_success"]) == ("Rome", 1)
    assert body["inputs"]["query"] == "Weather in Rome?"
    assert body["process_data"]["model_name"] == "m"
    assert [usage["total_tokens"] for usage in usages] == [8]
    assert model.requests[0].user == "ann"


async def test_a_question_classifier() -> None:
    model = Model([ChatChunk('{"category_id": "2"}')])
    body, usages = await call("classify", model, classes=CLASSES, model=MODEL, query="Pizza?", instruction="Think.")
    assert (body["outputs"]["class_id"], body["outputs"]["class_name"]) == ("2", "Food")
    assert len(usages) == 1


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"parameters": [CITY], "model": MODEL}, "query must be a text"),
        ({"parameters": [CITY], "model": MODEL, "query": ""}, "query must be a text"),
        ({"parameters": [{**CITY, "type": "song"}], "model": MODEL, "query": "q"}, "parameters.0.type"),
        ({"parameters": [CITY], "model": None, "query": "q"}, "model"),
        ({"parameters": {"a": 1}, "model": MODEL, "query": "q"}, "parameters"),
    ],
)
async def test_malformed_requests(request_: dict[str, Value], problem: str) -> None:
    with pytest.raises(HeadraceError, match=problem):
        await call("extract", Model(), **request_)


async def test_a_model_that_fails() -> None:
    with pytest.raises(NodeError, match="json block"):
        await call("classify", Model([ChatChunk("no idea")]), classes=CLASSES, model=MODEL, query="q")
