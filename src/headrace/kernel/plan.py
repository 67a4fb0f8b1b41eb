"""What comes next in a run: a pure function of its graph and state.

Whoever drives a run asks again after every event; asking twice gives the same answer. `Start` is the one thing that
cannot be written down before it is done; all else that `plan` returns are events to append. Containers are among these:
they open, go round and end without anything being done outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from headrace.errors import NodeError
from headrace.kernel.containers import Body, Opened
from headrace.kernel.events import (
    NodeFailed,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RoundStarted,
    RunEnded,
    RunStarted,
)
from headrace.kernel.graph import DEFAULT_VALUE, FAIL_BRANCH, SOURCE, NodeSpec
from headrace.kernel.path import Path
from headrace.kernel.state import State
from headrace.kernel.status import FAILED, PARTIAL_SUCCEEDED, STOPPED, SUCCEEDED
from headrace.values import Value

MOST_ROUNDS = 100  # of one container that are planned together: what is asked for again and again stays short


@dataclass(frozen=True, slots=True)
class Start:
    """Run this node now. `again`: it had started before a crash, and its NodeStarted is written already."""

    path: Path
    again: bool = False


Step: TypeAlias = Start | NodeStarted | NodeSucceeded | NodeFailed | NodeSkipped | RoundStarted | RunStarted | RunEnded


def plan(state: State) -> list[Step]:
    """The steps that can be taken now; empty while the run waits for a node, for a person, or for nothing at all."""
    if state.ended or state.queued is None:
        return []
    if state.stop:
        return [ended(state, STOPPED, error=stopped_error(state))]
    if state.started_at is None:
        return [RunStarted()]
    if state.paused:
        return []
    if state.failure:
        # what runs already is let to its end, so that nobody wonders what became of it
        if state.running:
            return [Start(path, again=True) for path in state.interrupted]
        return [ended(state, FAILED, error=state.failure.error)]
    if state.skips or state.ready or state.interrupted or state.due:
        return [
            *(NodeSkipped(path) for path in state.skips),
            *(Start(path, again=True) for path in state.interrupted),
            *([_begun(state, path) for path in state.ready] if state.graph.bodies else map(Start, state.ready)),
            *(step for path in state.due for step in _rounds(state.opened[path])),
        ]
    if state.running:
        return []
    return [ended(state, PARTIAL_SUCCEEDED if state.exceptions else SUCCEEDED)]


def still_due(state: State, step: Step) -> bool:
    """Whether a step that was planned a moment ago is still to be taken: those taken before it may have ended its
    round, or the run."""
    if isinstance(step, Start):
        return step.path in state.interrupted if step.again else step.path in state.ready and not state.failure
    if state.failure:
        return isinstance(step, RunEnded)
    match step:
        case NodeStarted(path):
            return path in state.ready
        case NodeSkipped(path):
            return path in state.skips
        case RoundStarted(path) | NodeSucceeded(path) | NodeFailed(path):
            return path in state.due or path in state.ready
        case RunStarted() | RunEnded():
            return True


def _begun(state: State, path: Path) -> Step:
    level, node = state.locate(path)
    body = level.graph.bodies.get(node)
    if body is None:
        return Start(path)
    try:
        return NodeStarted(path, body.container.begin(node, level.variables))
    except NodeError as error:
        return failed(level.graph.nodes[node], path, error)


def _rounds(opened: Opened) -> list[Step]:
    """What is to be done about a container that is due."""
    container = opened.body.container
    if not opened.closing:
        last = min(opened.count, opened.rounds + min(container.at_once - len(opened.active), MOST_ROUNDS))
        rounds = range(opened.rounds, last)
        return [RoundStarted(opened.path, index, container.seen(opened.inputs, index)) for index in rounds]
    return [_closed(opened, opened.body)]


def _closed(opened: Opened, body: Body) -> Step:
    outputs, process = body.container.collect(opened)
    total = opened.usage
    usage: dict[str, Value] = {
        "total_tokens": total.tokens,
        "total_price": str(total.price) if total.price else "0.0",
        "currency": total.currency or "USD",
    }
    if opened.failure is None:
        return NodeSucceeded(opened.path, outputs, opened.inputs, process, SOURCE, usage)
    index, failure = opened.failure
    told = body.container.failure(index, failure.error)
    error = NodeError(told, failure.kind, inputs=opened.inputs, process={**process, **usage}, outputs=outputs)
    return failed(opened.level.graph.nodes[opened.node], opened.path, error)


def failed(spec: NodeSpec, path: Path, error: NodeError) -> NodeFailed:
    """A node's failure, and what its strategy makes of it."""
    message = str(error)
    outputs = dict(error.outputs)
    if spec.strategy is not None:
        outputs = dict(spec.defaults) if spec.strategy == DEFAULT_VALUE else {}
        outputs |= {"error_message": message, "error_type": error.kind}
    handle = FAIL_BRANCH if spec.strategy == FAIL_BRANCH else SOURCE
    return NodeFailed(path, message, error.kind, error.inputs, error.process, outputs, spec.strategy, handle)


def stopped_error(state: State) -> str:
    return "Stopped by user." if state.stop and state.stop.by else "Stopped."


def ended(state: State, status: str, error: str | None = None) -> RunEnded:
    """The run's last event, with what it put out until then and what it used."""
    failed = status == FAILED
    outputs, said = state.made.now(failed=failed), (state.made.said or None) if failed else None
    return RunEnded(status, outputs, error, state.tokens, state.steps, state.exceptions, said)
