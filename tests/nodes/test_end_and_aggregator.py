"""end, and variable-aggregator: values, and where they are from."""

from __future__ import annotations

from headrace import values
from headrace.nodes.end import End, EndConfig
from headrace.nodes.variable_aggregator import OldVariableAssigner, VariableAggregator
from headrace.values import Variable
from tests.nodes.plain import run


def outputs(**selectors: list[str]) -> dict[str, object]:
    return {"outputs": [{"variable": name, "value_selector": s, "value_type": "any"} for name, s in selectors.items()]}


async def test_an_end_puts_out_what_it_names_and_null_for_what_there_is_not():
    result = await run(
        End, outputs(a=["s", "x"], b=["s", "o", "k"], c=["no", "such"]), {"s": {"x": 1, "o": {"k": "v"}}}
    )
    assert result.outputs == {"a": 1, "b": "v", "c": None}
    assert result.inputs == result.outputs


async def test_an_end_without_outputs():
    assert (await run(End, {"outputs": None})).outputs == {}
    assert (await run(End, {"outputs": [{"variable": "x", "value_selector": None}]})).outputs == {"x": None}


def test_an_end_tells_its_outputs_with_a_line_between_two():
    end = End(EndConfig.model_validate(outputs(a=["s", "x"], b=["t", "y"], none=[])))
    assert end.response_template() == [("s", "x"), "\n", ("t", "y")]


async def test_the_first_variable_that_exists_is_picked():
    config = {"output_type": "any", "variables": [["skipped", "x"], ["b", "x"], ["c", "x"]]}
    for kind in (VariableAggregator, OldVariableAssigner):
        result = await run(kind, config, {"b": {"x": None}, "c": {"x": 1}})
        assert values.unwrap(dict(result.outputs)) == {"output": None}
        assert result.inputs == {"x": None}


async def test_nothing_is_picked_where_nothing_exists():
    result = await run(VariableAggregator, {"variables": [["skipped", "x"]]})
    assert (result.outputs, result.inputs) == ({}, {})


async def test_groups_are_picked_each_by_itself_and_remember_where_their_value_is_from():
    groups = [
        {"group_name": "G1", "output_type": "number", "variables": [["skipped", "output"], ["first", "output"]]},
        {"group_name": "G2", "output_type": "string", "variables": [["skipped", "x"]]},
    ]
    first = await run(VariableAggregator, {"variables": [["s", "n"]]}, {"s": {"n": 1}})
    scopes = {"first": first.outputs}
    second = await run(
        VariableAggregator, {"variables": [], "advanced_settings": {"group_enabled": True, "groups": groups}}, scopes
    )
    origin = Variable(1, ("s", "n"), "id-1")
    assert second.outputs == {"G1": {"output": origin}}
    assert second.inputs == {"output": 1}

    # Dify 1.12, recorded: the end's report of its inputs shows it, its outputs do not
    end = await run(End, outputs(o=["agg", "G1", "output"], g=["agg", "G1"]), {"agg": second.outputs})
    assert end.outputs == {"o": 1, "g": {"output": 1}}
    assert end.inputs == {"o": 1, "g": {"output": origin}}
    assert origin.to_json_with_origin() == {
        "value_type": "integer",
        "value": 1,
        "id": "id-1",
        "name": "n",
        "description": "",
        "selector": ["s", "n"],
    }
