"""What comes next in a run: a pure function of its graph and state.

The driver calls `plan` again after every event; calling it twice returns the same steps. `Start` is the only step with
an effect outside of the run; all others are events to append. Containers start, run their rounds and end by events
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.kernel.containers import ContainerBody, ContainerRun
from headrace.kernel.events import (
    FormExpired,
    NodeFailed,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunStarted,
)
from headrace.kernel.forms import EXPIRED
from headrace.kernel.graph import DEFAULT_VALUE, FAIL_BRANCH, SOURCE, NodeSpec, Path, node_of
from headrace.kernel.state import State
from headrace.kernel.summary import FAILED, PARTIAL_SUCCEEDED, STOPPED, SUCCEEDED, model_cost
from headrace.values import Value

MAX_PLANNED_ROUNDS = 100  # of one container, so that a plan stays short


@frozen
class Start:
    """Run this node now. `restarted`: it had started before a crash, and its NodeStarted is already in the journal."""

    path: Path
    restarted: bool = False


Step: TypeAlias = (
    Start
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeSkipped
    | RoundStarted
    | FormExpired
    | RunStarted
    | RunPaused
    | RunEnded
)


def plan(state: State) -> list[Step]:
    """The steps that can be taken now; empty while the run waits for a node or a person, and after its end."""
    if state.ended or state.queued is None:
        return []
    if state.stop:
        return [run_ended(state, STOPPED, error=stopped_error(state))]
    if state.started_at is None:
        return [RunStarted()]
    if state.expired is not None:
        error = f"Human input global timeout at node {node_of(state.expired.path)}"
        return [run_ended(state, STOPPED, error=error)]
    if state.paused:
        return []
    if state.failure:
        # running nodes continue to their end, so that their results are recorded
        if state.running:
            return [Start(path, restarted=True) for path in state.restarting]
        return [run_ended(state, FAILED, error=state.failure.error)]
    steps: list[Step] = [*map(NodeSkipped, state.to_skip)]
    if state.restarting:
        steps += [Start(path, restarted=True) for path in state.restarting]
    steps += [_start(state, path) for path in state.ready] if state.graph.bodies else map(Start, state.ready)
    for path in state.due_containers:
        steps += _container_steps(state.open_containers[path])
    steps += [FormExpired(path, state.forms[path].request.form, EXPIRED) for path in state.abandoned]
    if steps or state.running or state.due_containers:
        return steps
    if state.forms:
        return [run_paused(state, *(form.reason() for form in state.forms.values()))]
    return [run_ended(state, PARTIAL_SUCCEEDED if state.exceptions else SUCCEEDED)]


def run_paused(state: State, *reasons: Mapping[str, Value]) -> RunPaused:
    """A pause of the run, with its counts until then."""
    return RunPaused(reasons, state.tokens, state.steps, state.exceptions)


def is_current(state: State, step: Step) -> bool:
    """Whether a planned step is still valid: the steps before it may have ended its round, or the run."""
    if isinstance(step, Start):
        return step.path in state.restarting if step.restarted else step.path in state.ready and not state.failure
    if state.failure:
        return isinstance(step, RunEnded)
    match step:
        case NodeStarted(path):
            return path in state.ready
        case NodeSkipped(path):
            return path in state.to_skip
        case RoundStarted(path) | NodeSucceeded(path) | NodeFailed(path):
            return path in state.due_containers or path in state.ready
        case FormExpired(path):
            return path in state.abandoned
        case RunStarted() | RunPaused() | RunEnded():
            return True


def _start(state: State, path: Path) -> Step:
    """Starts a node. A container starts by an event alone."""
    instance, node = state.node_at(path)
    body = instance.graph.bodies.get(node)
    if body is None:
        return Start(path)
    try:
        return NodeStarted(path, body.container.prepare(node, instance.variables))
    except NodeError as error:
        return node_failed(instance.graph.nodes[node], path, error)


def _container_steps(run: ContainerRun) -> list[Step]:
    """The steps of a container that is due: to start rounds, or to end."""
    container = run.body.container
    if not run.is_closing:
        free = min(container.max_parallel - len(run.active_rounds), MAX_PLANNED_ROUNDS)
        rounds = range(run.rounds_started, min(run.max_rounds, run.rounds_started + free))
        return [RoundStarted(run.path, index, container.round_variables(run.inputs, index)) for index in rounds]
    return [_end_container(run, run.body)]


def _end_container(run: ContainerRun, body: ContainerBody) -> Step:
    outputs, process = body.container.result(run)
    total = run.usage
    usage: dict[str, Value] = {
        "total_tokens": total.tokens,
        "total_price": str(total.price) if total.price else "0.0",
        "currency": total.currency or "USD",
    }
    if run.failure is None:
        return NodeSucceeded(run.path, outputs, run.inputs, process, SOURCE, usage)
    index, failure = run.failure
    message = body.container.failure_message(index, failure.error)
    error = NodeError(message, failure.kind, inputs=run.inputs, process={**process, **usage}, outputs=outputs)
    return node_failed(run.parent.graph.nodes[run.node], run.path, error)


def node_failed(spec: NodeSpec, path: Path, error: NodeError) -> NodeFailed:
    """The failure of a node, as its error strategy handles it."""
    message = str(error)
    outputs = dict(error.outputs)
    if spec.strategy is not None:
        outputs = dict(spec.defaults) if spec.strategy == DEFAULT_VALUE else {}
        outputs |= {"error_message": message, "error_type": error.kind}
    handle = FAIL_BRANCH if spec.strategy == FAIL_BRANCH else SOURCE
    return NodeFailed(path, message, error.kind, error.inputs, error.process, outputs, spec.strategy, handle)


def stopped_error(state: State) -> str:
    return "Stopped by user." if state.stop and state.stop.by else "Stopped."


def run_ended(state: State, status: str, error: str | None = None) -> RunEnded:
    """The last event of the run, with its outputs and usage so far."""
    failed = status == FAILED
    outputs = state.run_outputs.current(failed=failed)
    response_text = (state.run_outputs.response_text or None) if failed else None
    node = state.failure.path if failed and state.failure else None
    costs = [cast("Mapping[str, Value]", model_cost(*key, total)) for key, total in state.costs.items()]
    return RunEnded(status, outputs, error, state.tokens, state.steps, state.exceptions, response_text, costs, node)
