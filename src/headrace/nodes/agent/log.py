"""The steps of an agent as people see them: the data and metadata of Dify's `agent_log`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from headrace.kernel.steps import Step
from headrace.nodes.agent.records import Call, CallResult, ModelAnswer, Round
from headrace.nodes.agent.toolbox import parsed
from headrace.values import Value


def log_data(step: Step) -> tuple[dict[str, Value], dict[str, Value]]:
    """(data, metadata) of a step that has ended."""
    if step.name.endswith("/model"):
        return _thought(cast("ModelAnswer", step.result))
    if "/" in step.name:
        return _call(cast("CallResult", step.result))
    return _round(cast("Round", step.result))


def _round(round_: Round) -> tuple[dict[str, Value], dict[str, Value]]:
    responses = [_response(result) for result in round_["results"]]
    return {"output": {"llm_response": round_["text"], "tool_responses": responses}}, _cost(round_["usage"])


def _thought(answer: ModelAnswer) -> tuple[dict[str, Value], dict[str, Value]]:
    calls = answer["calls"]
    data: dict[str, Value] = {
        "output": answer["text"],
        "tool_name": ";".join(call["name"] for call in calls),
        "tool_input": [{"name": call["name"], "args": call_input(call)} for call in calls],
    }
    return data, _cost(answer["usage"])


def _call(result: CallResult) -> tuple[dict[str, Value], dict[str, Value]]:
    return {"output": _response(result)}, _cost(result["usage"] or {})


def _response(result: CallResult) -> dict[str, Value]:
    return {
        "tool_call_id": result["id"],
        "tool_call_name": result["name"],
        "tool_call_input": result["input"],
        "tool_response": result["text"],
    }


def _cost(usage: Mapping[str, Value]) -> dict[str, Value]:
    return {name: usage[name] for name in ("total_price", "currency", "total_tokens") if name in usage}


def call_input(call: Call) -> Value:
    """The arguments of a call; their text if it is malformed."""
    try:
        return parsed(call["arguments"])
    except ValueError:
        return call["arguments"]
