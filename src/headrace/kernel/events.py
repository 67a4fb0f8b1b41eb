"""Everything that can happen to a run.

A run is its events: the run detail, the stream, the logs and the trace are views of them.
Durable events carry a sequence number, from 1, without gaps; together they are the journal.
`Delta` is sent twice: at once without a number (it may be lost), and soon after, in larger pieces, with one.

                 ┌─ RunPaused ─┐
    RunQueued → RunStarted → (nodes) → RunEnded          StopRequested may come at any time
                 └─ RunResumed ┘                         RunResumed also marks a recovery after a crash

    NodeStarted → NodeRetried* → NodeSucceeded | NodeFailed        NodeSkipped instead, if no edge leads here
                  (StepStarted → StepEnded)* in each attempt
                  FormRequested → FormSubmitted | FormExpired, and the attempt starts again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple, TypeAlias

from headrace.frozen import frozen, new_dict, new_list
from headrace.kernel.graph import NodeId, Path
from headrace.values import Value

RunId: TypeAlias = str


@frozen
class RunQueued:
    """A run was submitted. `inputs` are the validated values of the start node; `system` is the scope `sys`."""

    app: str
    version: str
    task: str
    user: str
    inputs: Mapping[str, Value]
    system: Mapping[str, Value]
    end_user: str | None = None
    source: str = "service-api"  # or batch:ID, trigger-webhook:NODE ...
    callback: str | None = None  # URL that is called when the run ends or pauses
    retry_of: str | None = None  # the run whose finished nodes were copied to this one
    conversation: str | None = None  # the run is one message of it
    trace: str | None = None  # the caller's W3C `traceparent`
    metadata: Mapping[str, Value] | None = None  # what the API that was called returns with the run
    key: str | None = None  # the id of the principal that submitted it
    replay_of: str | None = None  # the run whose inputs it has
    start: NodeId | None = None  # the trigger that began it; None: it begins at the graph's root


@frozen
class RunStarted:
    """A worker has started the run. `conversation`: the conversation's variables at that time."""

    conversation: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class RunPaused:
    """The run waits for a person; `reasons` describe for whom and for what (`kernel.forms.FormState.reason`). The
    counts are those until now."""

    reasons: tuple[Mapping[str, Value], ...] = ()
    tokens: int = 0
    steps: int = 0
    exceptions: int = 0


@frozen
class RunResumed:
    """The run continues: after a pause or, if `recovered`, after a crash of its worker."""

    recovered: bool = False


@frozen
class StopRequested:
    """A caller has asked to stop the run."""

    by: str = ""


@frozen
class RunEnded:
    """The run has ended. `status` is succeeded, partial-succeeded, failed or stopped. `response_text` is the whole
    response of a failed run; that of other runs is in `outputs`. `costs` are by model (`kernel.summary.model_cost`),
    `node` is the path of the node whose failure ended the run."""

    status: str
    outputs: Mapping[str, Value] = field(default_factory=new_dict)
    error: str | None = None
    tokens: int = 0
    steps: int = 0
    exceptions: int = 0
    response_text: str | None = None
    costs: Sequence[Mapping[str, Value]] = field(default_factory=new_list)
    node: Path | None = None


@frozen
class NodeStarted:
    """`inputs` are those of a container; other nodes record theirs at the end."""

    path: Path
    inputs: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class NodeRetried:
    """An attempt failed and another one follows; `attempt` is the number of failed ones."""

    path: Path
    attempt: int
    error: str
    kind: str
    inputs: Mapping[str, Value] = field(default_factory=new_dict)
    process: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class NodeSucceeded:
    """`handle` selects the edges that are taken; `usage` is that of a model (see `ports.services.Usage.wire`);
    `assigned` has values for other scopes (`conversation`, a loop's id): scope, name, value."""

    path: Path
    outputs: Mapping[str, Value]
    inputs: Mapping[str, Value] = field(default_factory=new_dict)
    process: Mapping[str, Value] = field(default_factory=new_dict)
    handle: str = "source"
    usage: Mapping[str, Value] | None = None
    assigned: Mapping[str, Mapping[str, Value]] = field(default_factory=new_dict)


@frozen
class NodeFailed:
    """`strategy` decides what follows: None ends the run; fail-branch and default-value handle the failure, with
    `outputs` for later nodes and the edges of `handle` taken."""

    path: Path
    error: str
    kind: str
    inputs: Mapping[str, Value] = field(default_factory=new_dict)
    process: Mapping[str, Value] = field(default_factory=new_dict)
    outputs: Mapping[str, Value] = field(default_factory=new_dict)
    strategy: str | None = None
    handle: str = "source"


@frozen
class NodeSkipped:
    """No taken edge leads to this node."""

    path: Path


@frozen
class RoundStarted:
    """A container (iteration, loop) has started a round, from 0; `inputs` are its variables under the container's
    id."""

    path: Path
    round: int
    inputs: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class StepStarted:
    """A step of a node has started (see `kernel.steps`). `label` and `metadata` are for people."""

    path: Path
    name: str
    label: str
    metadata: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class StepEnded:
    """The step has ended with a result, and is not run again after a crash."""

    path: Path
    name: str
    result: Value


@frozen
class FormRequested:
    """The node waits until a person has filled in a form, for so many `seconds`.

    `form` is its id; `content` is rendered except for the values of its inputs. `inputs`, `actions` and `defaults` are
    as Dify's API shows them. Each of the `deliveries` has a `type` (webapp or email) and the tokens by which its
    recipients open the form."""

    path: Path
    form: str
    title: str
    content: str
    inputs: Sequence[Mapping[str, Value]]
    actions: Sequence[Mapping[str, Value]]
    defaults: Mapping[str, Value]
    seconds: int
    deliveries: Sequence[Mapping[str, Value]] = field(default_factory=new_list)


@frozen
class FormSubmitted:
    """The first answer to the form, which is the only one: the chosen `action` and the `data` of the inputs. `user` is
    who sent it, `recipient` who was given the token that was used."""

    path: Path
    form: str
    action: str
    data: Mapping[str, Value]
    user: str = ""
    recipient: str = ""


@frozen
class FormExpired:
    """Nobody has answered the form. `status`: `timeout` where its time is over, and the node continues; `expired` where
    nothing continues from it, since the global limit is reached or its round was cancelled."""

    path: Path
    form: str
    status: str


FormEvent: TypeAlias = FormRequested | FormSubmitted | FormExpired

REASONING = "#reasoning"
"""The `name` of a Delta with the reasoning of a model, which is kept apart from its text. Unlike the output
`reasoning_content` it is raw. No output has this name."""


@frozen
class Delta:
    """Text to append to a node's output `name`. `at`: the length of the output before it, in this attempt."""

    path: Path
    name: str
    at: int
    text: str


@frozen
class NodeLogged:
    """A log line of a running node; never journaled."""

    path: Path
    message: str


Event: TypeAlias = (
    RunQueued
    | RunStarted
    | RunPaused
    | RunResumed
    | StopRequested
    | RunEnded
    | NodeStarted
    | NodeRetried
    | NodeSucceeded
    | NodeFailed
    | NodeSkipped
    | RoundStarted
    | StepStarted
    | StepEnded
    | FormRequested
    | FormSubmitted
    | FormExpired
    | Delta
    | NodeLogged
)

EVENTS: Mapping[str, type[Event]] = {
    event.__name__: event
    for event in (
        RunQueued,
        RunStarted,
        RunPaused,
        RunResumed,
        StopRequested,
        RunEnded,
        NodeStarted,
        NodeRetried,
        NodeSucceeded,
        NodeFailed,
        NodeSkipped,
        RoundStarted,
        StepStarted,
        StepEnded,
        FormRequested,
        FormSubmitted,
        FormExpired,
        Delta,
        NodeLogged,
    )
}


class Record(NamedTuple):
    """An event of a run with its number and time.

    `seq` is None for an event that is not journaled; `at` is in seconds since the epoch.
    """

    run: RunId
    seq: int | None
    at: float
    event: Event
