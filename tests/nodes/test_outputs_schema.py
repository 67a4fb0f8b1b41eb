"""What node types say of their outputs is what they put out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.node import Config, Node, OutputType
from headrace.nodes import registry
from headrace.nodes.end import End
from headrace.nodes.if_else import IfElse
from headrace.nodes.list_operator import ListOperator
from headrace.nodes.variable_aggregator import VariableAggregator
from headrace.values import is_of_type
from tests.nodes.plain import run

SCOPES: Mapping[str, Mapping[str, Any]] = {"a": {"text": "hi", "list": ["x", "y"]}}


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (ListOperator, {"variable": ["a", "list"]}),
        (IfElse, {"cases": []}),
        (VariableAggregator, {"variables": [["a", "none"], ["a", "text"]]}),
        (End, {"outputs": [{"variable": "said", "value_selector": ["a", "text"], "value_type": "string"}]}),
        (registry(())["answer"], {"answer": "{{#a.text#}}"}),
        (registry(())["loop-end"], {}),
    ],
)
async def test_outputs_are_as_their_schema_says(cls: type[Node[Any]], config: Mapping[str, Any]):
    node: Node[Config] = cls(cls.Config.model_validate(config))
    schema = node.outputs_schema()
    assert schema is not None
    outputs = (await run(cls, config, SCOPES)).outputs
    assert outputs.keys() == schema.keys()
    for name, value in outputs.items():
        assert is_of_type(getattr(value, "value", value), schema[name].name)


def test_an_output_may_be_another_variables_value():
    config = VariableAggregator.Config.model_validate({"variables": [["a", "x"], ["b", "y"]]})
    node: Any = VariableAggregator(config)  # pyright: ignore[reportArgumentType]
    assert node.outputs_schema() == {"output": OutputType(sources=[("a", "x"), ("b", "y")])}


def test_every_own_type_knows_its_outputs():
    assert all(cls.outputs_schema is not Node.outputs_schema for cls in registry(()).values())
