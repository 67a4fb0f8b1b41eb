"""A run's records as the thoughts of an agent: a round of its model's answer and of the tools that were called.

A thought is shown when its round begins (empty), when the model has answered, and when the tools have; its id stays the
same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from uuid import UUID, uuid5

from headrace.api.dify.schemas.messages import AgentThought, ToolLabel
from headrace.api.http.responses import encode
from headrace.conversations.messages import AGENT
from headrace.kernel.events import Record, StepEnded, StepStarted
from headrace.kernel.steps import Steps, apply_step
from headrace.node import Flow
from headrace.nodes.agent.records import ModelAnswer, Round, call_input, round_of
from headrace.values import Value, to_json


class AgentThoughts:
    """Folds the records of an agent-chat app's run into `thoughts`. Runs of other apps have none, whatever steps their
    nodes have."""

    def __init__(self, flow: Flow) -> None:
        self._thinks = flow.mode == AGENT
        self._labels = _labels(flow) if self._thinks else {}
        self.thoughts: list[AgentThought] = []
        self._steps: Steps = {}  # of the current round

    def apply(self, record: Record) -> AgentThought | None:
        """The thought that a record changes, as it is now."""
        if not self._thinks:
            return None
        event = record.event
        if not isinstance(event, StepStarted | StepEnded):
            return None
        step = apply_step(self._steps, event.path, event, record.at)
        if step.parent_key is None:
            if not step.ended:
                self._steps = {step.name: step}
                self.thoughts.append(self._begun(record, step.key))
            elif (round_ := round_of(step))["calls"]:
                self._observed(round_)
            else:
                return None
        elif step.ended and step.name.endswith("/model"):
            self._answered(cast("ModelAnswer", step.result))
        else:
            return None
        return self.thoughts[-1]

    def _begun(self, record: Record, step: str) -> AgentThought:
        return {
            "id": str(uuid5(UUID(record.run), step)),
            "chain_id": None,
            "message_id": record.run,
            "position": len(self.thoughts) + 1,
            "thought": "",
            "observation": "",
            "tool": "",
            "tool_labels": {},
            "tool_input": "",
            "created_at": int(record.at),
            "files": [],
        }

    def _answered(self, answer: ModelAnswer) -> None:
        calls = answer["calls"]
        names = [call["name"] for call in calls]
        last = self.thoughts[-1]
        last["thought"] = answer["text"]
        last["tool"] = ";".join(names)
        last["tool_labels"] = {name: self._label(name) for name in names}
        last["tool_input"] = _by_name((call["name"], call_input(call)) for call in calls)

    def _observed(self, round_: Round) -> None:
        last = self.thoughts[-1]
        last["observation"] = _by_name((result["name"], result["text"]) for result in round_["results"])
        files = [file for result in round_["results"] for file in result["files"]]
        last["files"] = [file.related_id for file in files if file.related_id]

    def _label(self, name: str) -> ToolLabel:
        label = self._labels.get(name) or name
        return {"en_US": label, "zh_Hans": label}


def _labels(flow: Flow) -> dict[str, str]:
    """The labels of the agent's tools, by their names."""
    from headrace.nodes.agent.chat import AgentChatConfig

    configs = [node.config for node in flow.nodes.values() if isinstance(node.config, AgentChatConfig)]
    return {tool.tool_name: tool.tool_label for config in configs for tool in config.tools}


def _by_name(items: Iterable[tuple[str, Value]]) -> str:
    """A JSON object by tool name, as text. Another call of the same tool has a number behind its name."""
    thoughts_by_tool: dict[str, Value] = {}
    for name, value in items:
        number, unique = 2, name
        while unique in thoughts_by_tool:
            unique, number = f"{name} ({number})", number + 1
        thoughts_by_tool[unique] = to_json(value)
    return encode(thoughts_by_tool).decode() if thoughts_by_tool else ""
