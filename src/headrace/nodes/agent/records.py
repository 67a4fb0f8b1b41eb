"""What the steps of an agent return. These go to the journal, so they are plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired

from typing_extensions import TypedDict

from headrace.values import File, Value


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
    """What a tool answered. `text` is what the model gets; `input` the arguments, or their text if it is malformed."""

    id: str
    name: str
    input: Value
    text: str
    failed: bool
    files: Sequence[File]
    sources: Sequence[Mapping[str, Value]]  # passages of knowledge bases
    usage: Mapping[str, Value] | None


class Round(TypedDict):
    """One answer of the model, and the calls of tools that it led to. `said` is what the user gets of it."""

    text: str
    said: str
    calls: Sequence[Call]
    results: Sequence[CallResult]
    usage: Mapping[str, Value]
    final: bool
