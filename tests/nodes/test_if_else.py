"""if-else."""

from __future__ import annotations

import pytest

from headrace.errors import NodeError
from headrace.nodes.if_else import IfElse, IfElseConfig
from headrace.values import Value
from tests.nodes.plain import run


def condition(operator: str, value: Value, name: str = "n") -> dict[str, Value]:
    return {
        "variable_selector": ["s", name],
        "comparison_operator": operator,
        "value": value,
        "id": "x",
        "varType": "?",
    }


def case(name: str, *conditions: dict[str, Value], junction: str = "and") -> dict[str, Value]:
    return {"case_id": name, "logical_operator": junction, "conditions": list(conditions)}


CASES = {
    "cases": [case("true", condition(">", "10")), case("two", condition("=", "5"), condition("=", "6"), junction="or")]
}


@pytest.mark.parametrize(("n", "taken"), [(11, "true"), (5, "two"), (6, "two"), (7, "false")])
async def test_the_first_case_that_holds_is_taken_else_false(n: int, taken: str):
    result = await run(IfElse, CASES, {"s": {"n": n}})
    assert result.handle == taken
    assert result.outputs == {"result": taken != "false", "selected_case_id": taken}


@pytest.mark.parametrize(("name", "handle"), [("false", "false"), ("", "false"), ("other", "other")])
async def test_the_result_is_whether_a_case_held_whatever_it_is_called(name: str, handle: str):
    result = await run(IfElse, {"cases": [case("true", condition(">", "10")), case(name)]}, {"s": {"n": 5}})
    assert (result.outputs, result.handle) == ({"result": True, "selected_case_id": name}, handle)


async def test_what_was_decided_is_reported_as_dify_does():
    result = await run(IfElse, CASES, {"s": {"n": 5}})
    assert result.inputs == {
        "conditions": [{"actual_value": 5, "expected_value": "5", "comparison_operator": "="}],
    }
    [first, second] = result.process["condition_results"]
    assert first["group"] == {
        "case_id": "true",
        "logical_operator": "and",
        "conditions": [
            {
                "variable_selector": ["s", "n"],
                "comparison_operator": ">",
                "value": "10",
                "sub_variable_condition": None,
            }
        ],
    }
    assert (first["results"], first["final_result"]) == ([False], False)
    assert (second["results"], second["final_result"]) == ([True], True)


async def test_the_old_form_has_one_case():
    old = {"logical_operator": "or", "conditions": [condition("=", "1"), condition("=", "2")]}
    assert (await run(IfElse, old, {"s": {"n": 2}})).handle == "true"
    result = await run(IfElse, old, {"s": {"n": 3}})
    assert result.handle == "false"
    assert result.process["condition_results"][0]["group"] == "default"


async def test_what_cannot_be_decided_fails_with_what_was_decided_before():
    cases = {"cases": [case("a", condition("=", "1")), case("b", condition(">", "1", "text"))]}
    with pytest.raises(NodeError, match="Invalid actual value type: number") as failed:
        await run(IfElse, cases, {"s": {"n": 2, "text": "x"}})
    assert failed.value.kind == "ValueError"
    assert len(failed.value.process["condition_results"]) == 1


def test_its_handles_are_its_cases():
    assert list(IfElse(IfElseConfig.model_validate(CASES)).branches()) == ["true", "two", "false"]
