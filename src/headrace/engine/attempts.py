"""One attempt of a node: it always has an outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from headrace.engine.environment import EngineEnvironment
from headrace.errors import FileStorageError, NodeError
from headrace.kernel.containers import GraphInstance
from headrace.kernel.events import (
    FormRequested,
    NodeFailed,
    NodeRetried,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunResumed,
    RunStarted,
    StepEnded,
)
from headrace.kernel.forms import FormOutcome
from headrace.kernel.graph import NodeId, Path, attempt_key
from headrace.kernel.plan import node_failed, run_ended, run_paused
from headrace.kernel.state import State
from headrace.kernel.steps import RunStep
from headrace.node import Config, Context, Flow, Node, Pause, Result
from headrace.ports.services import Limits
from headrace.values import DEEPEST_OUTPUT, nests_deeper

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # for nodes to stop after cancellation
MAX_RECOVERIES = 5  # of a run in which no node ends, so that a model is not called again and again
TOO_MANY_RECOVERIES = f"The run was recovered {MAX_RECOVERIES} times and no node ended; it is not tried again."

Outcome = Result | Pause | FormRequested | NodeError


def context_of(
    state: State,
    path: Path,
    instance: GraphInstance,
    id_: NodeId,
    flow: Flow,
    environment: EngineEnvironment,
    emit: Callable[[str, str], None],
    step: RunStep,
) -> Context:
    """What the node `id_` of an instance, which `path` names, sees in its next attempt."""
    request, running = state.request, state.running[path]
    return Context(  # by position: sixteen names would cost more than all the rest
        state.run,
        request.app,
        request.user,
        instance.graph.nodes[id_],
        instance.variables,
        request.inputs,
        environment.resources,
        environment.limits,
        emit,
        attempt_key(state.run, path, running.failures),
        environment.new_id,
        flow.types,
        step,
        running.steps,
        path,
        state.forms.get(path),
    )


async def attempt(node: Node[Config], context: Context, path: Path) -> Outcome:
    """Runs a node once. Outputs that are nested too deeply for encoders are a failure."""
    try:
        outcome = await node.run(context)
    except Exception as error:
        return _failure_of(error, context, path)
    if isinstance(outcome, Result) and nests_deeper(outcome.outputs, DEEPEST_OUTPUT):
        return NodeError(f"The output is nested more than {DEEPEST_OUTPUT} levels deep.", "DepthLimitError")
    return outcome


def attempt_instant(node: Node[Config], context: Context, path: Path) -> Outcome:
    """Runs an instant node once, without a task: such a node never waits."""
    running = node.run(context)
    try:
        running.send(None)
    except StopIteration as done:
        return done.value
    except Exception as error:
        return _failure_of(error, context, path)
    running.close()
    return NodeError("Instant node types must not await; this is a bug in the node type.", "Defect")


def _failure_of(error: Exception, context: Context, path: Path) -> NodeError:
    if isinstance(error, NodeError):
        return error
    if isinstance(error, FileStorageError):
        return NodeError(str(error), "FileStorageError")
    # a bug in a node type must not stop the service; the run has the message, the log the traceback
    logger.error("run %s: node %s failed unexpectedly", context.run, path, exc_info=error)
    return NodeError(f"{type(error).__name__}: {error}", type(error).__name__)


async def cancel_nodes(run: RunId, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels the tasks of running nodes, and waits for them, but not for long."""
    for task in tasks:
        task.cancel()
    _, running = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    for task in running:
        message = "run %s: node did not stop within %g s after cancellation: %s"
        logger.error(message, run, GRACE_SECONDS, task.get_name())


def event_of(outcome: Outcome, path: Path, state: State) -> NodeSucceeded | NodeFailed | RunPaused | FormRequested:
    """The event of an outcome."""
    if isinstance(outcome, Result):
        return NodeSucceeded(
            path,
            outcome.outputs,
            outcome.inputs,
            outcome.process,
            outcome.handle,
            outcome.usage,
            outcome.assigned,
        )
    if isinstance(outcome, Pause):
        return run_paused(state, outcome.reason)
    if isinstance(outcome, FormRequested):
        return outcome
    return node_failed(state.spec(path), path, outcome)


def first_event(state: State, records: Sequence[Record]) -> RunResumed | RunEnded | None:
    """The event with which a run continues whose driver has died while nodes were running."""
    if not state.running or state.paused:
        return None
    last = next(record.event for record in reversed(records) if not isinstance(record.event, FormOutcome))
    if state.restarting and last == RunResumed():  # it is recorded already
        return None
    if _recoveries_without_progress(records) >= MAX_RECOVERIES:
        return run_ended(state, "failed", TOO_MANY_RECOVERIES)
    return RunResumed(recovered=True)


def remaining_seconds(records: Sequence[Record], limits: Limits, now: float) -> float:
    """How long a run may still take. The time that it waits for people does not count: only that since it started, or
    was last resumed after a pause."""
    resumption = RunResumed()
    begins = (
        record.at for record in reversed(records) if isinstance(record.event, RunStarted) or record.event == resumption
    )
    return max(0.0, limits.max_seconds - (now - next(begins, now)))


def _recoveries_without_progress(records: Sequence[Record]) -> int:
    """How often a run was recovered after a crash or an outage of the database since the last node or step ended."""
    count = 0
    for record in reversed(records):
        match record.event:
            case RunResumed(recovered=True):
                count += 1
            case NodeSucceeded() | NodeFailed() | NodeRetried() | StepEnded() | RunResumed():
                break
            case _:
                pass
    return count
