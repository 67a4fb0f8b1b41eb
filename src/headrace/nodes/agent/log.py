"""The steps of an agent as people see them: the data and metadata of Dify's `agent_log`, whose shape is that of the
strategy's plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from headrace.kernel.steps import Step
from headrace.nodes.agent.records import CallResult, ModelAnswer, Round, call_input, is_call, round_of
from headrace.nodes.step_log import shortened
from headrace.values import Value

Data = dict[str, Value]


def log_data(step: Step, *, react: bool = False) -> tuple[Data, Data]:
    """(data, metadata) of a step that has ended."""
    if is_call(step):
        result = cast("CallResult", step.result)
        return (_react_call(result) if react else {"output": _response(result)}), _cost(result["usage"] or {})
    if step.parent_key is not None:
        answer = cast("ModelAnswer", step.result)
        return (_react_thought(answer) if react else _thought(answer)), _cost(answer["usage"])
    round_ = round_of(step)
    return (_react_round(round_) if react else _round(round_)), _cost(round_["usage"])


def _round(round_: Round) -> Data:
    responses = [_response(result) for result in round_["results"]]
    return {"output": {"llm_response": round_["text"], "tool_responses": shortened(responses)}}


def _thought(answer: ModelAnswer) -> Data:
    calls = answer["calls"]
    return {
        "output": answer["text"],
        "tool_name": ";".join(call["name"] for call in calls),
        "tool_input": [{"name": call["name"], "args": call_input(call)} for call in calls],
    }


def _response(result: CallResult) -> Data:
    return {
        "tool_call_id": result["id"],
        "tool_call_name": result["name"],
        "tool_call_input": result["input"],
        "tool_response": result["text"],
    }


def _react_round(round_: Round) -> Data:
    call = next(iter(round_["calls"]), None)
    return {
        "action_name": call["name"] if call else "",
        "action_input": call_input(call) if call else "",
        "thought": round_["text"],
        "observation": shortened(round_["results"][0]["text"]) if round_["results"] else "",
    }


def _react_thought(answer: ModelAnswer) -> Data:
    for call in answer["calls"]:
        return {"thought": answer["text"], "action": call["name"], "action_input": call_input(call)}
    return {"thought": answer["text"], "action": answer["said"]}


def _react_call(result: CallResult) -> Data:
    return {"tool_name": result["name"], "tool_call_args": result["input"], "output": result["text"]}


def _cost(usage: Mapping[str, Value]) -> Data:
    return {name: usage[name] for name in ("total_price", "currency", "total_tokens") if name in usage}
