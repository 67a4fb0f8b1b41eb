"""What the steps of an agent return. These go to the journal, so they are plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict

from headrace.content.surrogates import mend
from headrace.kernel.steps import Step
from headrace.values import DEEPEST_OUTPUT, File, Value, nests_deeper


class Call(TypedDict):
    """A tool that the model wants called. `arguments` is JSON as the model wrote it, which may be malformed; for
    `extra_content` see `ToolCall`."""

    id: str
    name: str
    arguments: str
    extra_content: NotRequired[Mapping[str, Value]]


class ModelAnswer(TypedDict):
    """What a model answered. `said` is the part of its text for the user: all of it, or in ReAct the final answer."""

    text: str
    said: str
    calls: Sequence[Call]
    usage: Mapping[str, Value]


class CallResult(TypedDict):
    """What a tool answered. `text` is what the model gets; `input` the arguments with the values that were given by
    hand, or the text of the arguments if it is malformed."""

    id: str
    name: str
    input: Value
    text: str
    failed: bool
    files: Sequence[File]
    sources: Sequence[Mapping[str, Value]]  # passages of knowledge bases
    usage: Mapping[str, Value] | None


class RoundResult(TypedDict):
    """One answer of the model. `said` is what the user gets of the round, `final` whether it is the last one."""

    text: str
    said: str
    calls: Sequence[Call]
    usage: Mapping[str, Value]
    final: bool


class Round(RoundResult):
    """A round with the results of its calls."""

    results: Sequence[CallResult]


def is_call(step: Step) -> bool:
    """Whether a step is the call of a tool."""
    return "/call[" in step.name


def round_of(step: Step) -> Round:
    """The round that a step is. The results of its calls are those of the steps inside it."""
    results = [cast("CallResult", part.result) for part in step.parts if is_call(part)]
    return {**cast("RoundResult", step.result), "results": results}


def parsed(text: str) -> dict[str, Value]:
    """The arguments of a call. ValueError if they are not a JSON object."""
    if not text.strip():
        return {}
    try:
        value: Any = mend(json.loads(text, strict=False))
    except RecursionError:
        raise ValueError("the arguments are nested too deep") from None
    except ValueError as error:
        raise ValueError(f"the arguments are not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("the arguments are not a JSON object")
    if nests_deeper(cast("Value", value), DEEPEST_OUTPUT - 20):
        raise ValueError("the arguments are nested too deep")
    return cast("dict[str, Value]", value)


def call_input(call: Call) -> Value:
    """The arguments of a call; their text if it is malformed."""
    try:
        return parsed(call["arguments"])
    except ValueError:
        return call["arguments"]
