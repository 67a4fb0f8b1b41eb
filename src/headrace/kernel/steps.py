"""Named parts of a node's work, whose results are journaled, so that they are not repeated after a crash.

A name is unique within an attempt. It is a path: `round[2]/call[0]` is a part of `round[2]`. Steps whose own name
begins with a dot are journaled, but are not part of the logs that people see. These run beside the other work of the
node:

    log[0]            a log that a plugin sends while it works
    .back[llm-...]    a call that a plugin makes back
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headrace.kernel.events import StepEnded, StepStarted
from headrace.kernel.summary import duration
from headrace.values import Value

NO_METADATA: Mapping[str, Value] = {}
LOG, CALL_BACK = "log[", ".back["


@dataclass(slots=True)
class Step:
    """A part of an attempt of a node. `key` is unique among all steps of all runs. `ended_at` is None and there is no
    result until it has ended. `parts` are the steps inside it. `error` is that of the node, if its attempt failed
    before the step had ended."""

    key: str
    parent_key: str | None
    name: str
    label: str
    metadata: Mapping[str, Value]
    started_at: float
    ended_at: float | None = None
    result: Value = None
    error: str | None = None
    parts: list[Step] = field(default_factory=list["Step"])

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def times(self) -> dict[str, Value]:
        if self.ended_at is None:
            return {"started_at": self.started_at}
        elapsed = duration(self.started_at, self.ended_at)
        return {"started_at": self.started_at, "finished_at": self.ended_at, "elapsed_time": elapsed}


Steps = dict[str, Step]
"""The steps of an attempt by name, in the order of their start."""


def apply_step(steps: Steps, attempt: str, event: StepStarted | StepEnded, at: float) -> Step:
    """Adds an event of an attempt, whose key is given, to its steps; returns the step that it is about."""
    if isinstance(event, StepEnded):
        step = steps[event.name]
        step.ended_at, step.result = at, event.result
        return step
    parent = event.name.rpartition("/")[0]
    parent_key = f"{attempt}/{parent}" if parent else None
    step = Step(f"{attempt}/{event.name}", parent_key, event.name, event.label, event.metadata, at)
    steps[event.name] = step
    if parent in steps:
        steps[parent].parts.append(step)
    return step


def fail_steps(steps: Steps, error: str, at: float) -> list[Step]:
    """The attempt has failed: the steps that have not ended fail with it. Returns these, the innermost first."""
    open_steps = [step for step in reversed(steps.values()) if not step.ended]
    for step in open_steps:
        step.ended_at, step.error = at, error
    return open_steps


def is_hidden(name: str) -> bool:
    """Whether a step of this name is not part of the logs that people see."""
    return name.rpartition("/")[2].startswith(".")


def keeps_text(name: str) -> bool:
    """Whether the text that the node has streamed until a step of this name ends is not streamed again after a crash:
    it is where the node continues. It does not continue at steps that run beside its other work."""
    return not name.rpartition("/")[2].startswith((LOG, CALL_BACK))


class RunStep(Protocol):
    """The type of `Context.step`."""

    async def __call__(
        self,
        name: str,
        function: Callable[[], Awaitable[Value]],
        *,
        label: str = "",
        metadata: Mapping[str, Value] = NO_METADATA,
    ) -> Step:
        """Runs a part of the node's work, and journals what the function returns. When the node is run again after a
        crash, the part is not run again: the recorded step is returned. So a crash repeats one call at most.

        The name is unique within the node, and a path if the step is a part of another one: `page[2]/download`. `label`
        and `metadata` are shown to people. What the function raises is not recorded.

        What the function streams belongs to the step, and is not streamed again either: a node with steps streams
        inside of them only.
        """
        ...


async def run_no_step(name: str, function: Callable[[], Awaitable[Value]], **options: object) -> Step:
    """Stands for `Context.step` where there is no engine."""
    raise RuntimeError("Only a node that the engine runs has steps, because they are journaled.")
