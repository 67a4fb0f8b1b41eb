"""The kernel as a transcript: events in, steps out."""

from __future__ import annotations

from dataclasses import replace

from headrace.kernel.events import (
    Event,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.kernel.plan import Start, Step, plan
from headrace.kernel.state import State

QUEUED = RunQueued("app", "version", "task", "user", {}, {})


class Play:
    """A run of a graph written as "a>b a>c b:yes>d"; `!` marks branching nodes, `?` fail-branch, `=` default-value."""

    def __init__(self, edges: str, responses: dict[str, list[tuple[str, str]]] | None = None) -> None:
        kinds = {"!": {"branching": True}, "?": {"strategy": "fail-branch"}, "=": {"strategy": "default-value"}}
        specs: dict[str, NodeSpec] = {}
        parsed: list[Edge] = []
        for edge in edges.split():
            source, target = edge.split(">")
            name, _, handle = source.partition(":")
            for written in (name, target):
                bare = written.rstrip("!?=")
                if bare not in specs or written != bare:
                    specs[bare] = NodeSpec(bare, "any", **kinds.get(written[-1], {}))
            parsed.append(Edge(name.rstrip("!?="), target.rstrip("!?="), handle or "source"))
        self.state = State(Graph(list(specs.values()), parsed, next(iter(specs)), responses))
        self.at = 0.0

    def hears(self, *events: Event) -> Play:
        for event in events:
            self.at += 1
            self.state.apply(Record("run", self.state.seq + 1, self.at, event))
        return self

    def begins(self) -> Play:
        return self.hears(QUEUED, RunStarted())

    def runs(self, *paths: str, handle: str = "source") -> Play:
        for path in paths:
            self.hears(NodeStarted(path), NodeSucceeded(path, {"from": path}, handle=handle))
        return self

    def fails(self, path: str, strategy: str | None = None) -> Play:
        handle = "fail-branch" if strategy == "fail-branch" else "source"
        return self.hears(
            NodeStarted(path), NodeFailed(path, "boom", "Boom", strategy=strategy, outputs={"e": 1}, handle=handle)
        )

    @property
    def plans(self) -> list[Step]:
        steps = plan(self.state)
        assert steps == plan(self.state), "asking twice gives the same answer"
        return steps


def starts(*paths: str) -> list[Step]:
    return [Start(path) for path in paths]


def test_a_run_begins_at_the_root_and_ends_when_nothing_is_left():
    play = Play("a>b")
    assert play.plans == []
    assert play.hears(QUEUED).plans == [RunStarted()]
    assert play.hears(RunStarted()).plans == starts("a")
    assert play.hears(NodeStarted("a")).plans == []
    assert play.hears(NodeSucceeded("a", {})).plans == starts("b")
    assert play.runs("b").plans == [RunEnded("succeeded", {}, None, 0, 2, 0)]
    assert play.hears(RunEnded("succeeded")).plans == []


def test_branches_run_together_and_a_join_waits_for_all():
    play = Play("a>b a>c b>d c>d").begins().runs("a")
    assert play.plans == starts("b", "c")
    assert play.runs("b").plans == starts("c")
    assert play.runs("c").plans == starts("d")


def test_a_choice_skips_what_it_did_not_take_and_a_join_needs_one_taken_edge():
    play = Play("a!:yes>b a:no>c c>d b>e d>e").begins().runs("a", handle="yes")
    assert play.plans == [NodeSkipped("c"), *starts("b")]
    assert play.hears(NodeSkipped("c")).plans == [NodeSkipped("d"), *starts("b")]
    assert play.hears(NodeSkipped("d")).runs("b").plans == starts("e")


def test_a_node_that_does_not_choose_leaves_by_every_edge():
    assert Play("a:any>b a:other>c").begins().runs("a").plans == starts("b", "c")


def test_a_failure_ends_the_run_once_what_runs_has_ended():
    play = Play("a>b a>c b>d c>d").begins().runs("a").hears(NodeStarted("b")).fails("c")
    assert play.plans == []
    play.hears(NodeSucceeded("b", {}))
    assert play.plans == [RunEnded("failed", {}, "boom", 0, 3, 1, node="c")]


def test_the_first_failure_is_the_one_told():
    play = Play("a>b a>c").begins().runs("a").hears(NodeStarted("b"), NodeStarted("c"))
    play.hears(NodeFailed("c", "first", "X"), NodeFailed("b", "second", "X"))
    assert play.plans == [RunEnded("failed", {}, "first", 0, 3, 2, node="c")]


def test_a_fail_branch_is_taken_on_failure_and_skipped_on_success():
    edges = "a?:source>ok a:fail-branch>bad"
    assert Play(edges).begins().fails("a", "fail-branch").plans == [NodeSkipped("ok"), *starts("bad")]
    assert Play(edges).begins().runs("a").plans == [NodeSkipped("bad"), *starts("ok")]


def test_the_editors_success_branch_handle_is_never_followed():
    # Dify 1.12, recorded: a success leaves by `source`
    play = Play("a?:success-branch>ok a:fail-branch>bad").begins().runs("a")
    assert play.plans == [NodeSkipped("ok"), NodeSkipped("bad")]


def test_a_default_value_goes_on_as_if_nothing_had_happened_but_the_run_is_partial():
    play = Play("a=>b", {"b": [("a", "e")]}).begins().fails("a", "default-value")
    assert play.state.variables["a"] == {"e": 1}
    assert play.plans == starts("b")
    assert play.runs("b").plans == [RunEnded("partial-succeeded", {"from": "b"}, None, 0, 2, 1)]


def test_retries_count_as_steps_and_as_exceptions():
    # Dify 1.12, recorded: two retries and a failure are 4 steps (with the start node) and 3 exceptions
    play = Play("a>b").begins().runs("a").hears(NodeStarted("b"))
    play.hears(
        NodeRetried("b", 1, "boom", "Boom"), NodeRetried("b", 2, "boom", "Boom"), NodeFailed("b", "boom", "Boom")
    )
    assert play.plans == [RunEnded("failed", {}, "boom", 0, 4, 3, node="b")]


def test_a_stop_comes_before_everything_else():
    play = Play("a>b").hears(QUEUED, StopRequested("me"))
    assert play.plans == [RunEnded("stopped", {}, "Stopped by user.", 0, 0, 0)]
    play = Play("a>b a>c").begins().runs("a").hears(NodeStarted("b"), StopRequested("me"))
    assert play.plans == [RunEnded("stopped", {}, "Stopped by user.", 0, 2, 0)]


def test_nothing_starts_while_a_run_is_paused():
    play = Play("a>b a>c").begins().runs("a").hears(NodeStarted("b"), RunPaused())
    assert play.plans == []
    assert play.hears(RunResumed()).plans == [Start("b", restarted=True), *starts("c")]


def test_a_run_taken_up_again_starts_its_started_nodes_again():
    play = Play("a>b a>c").begins().runs("a").hears(NodeStarted("b"), RunResumed(recovered=True))
    assert play.plans == [Start("b", restarted=True), *starts("c")]
    assert play.hears(NodeSucceeded("b", {})).plans == starts("c")


def test_a_failed_run_taken_up_again_still_lets_its_running_nodes_end():
    play = Play("a>b a>c").begins().runs("a").hears(NodeStarted("b")).fails("c").hears(RunResumed(recovered=True))
    assert play.plans == [Start("b", restarted=True)]
    assert play.hears(NodeSucceeded("b", {})).plans == [RunEnded("failed", {}, "boom", 0, 3, 1, node="c")]


def test_the_outputs_are_those_of_all_response_nodes_reached():
    play = Play("a>b a>c", {"b": [], "c": []}).begins().runs("a", "b", "c")
    assert play.state.outputs == {"from": "c"}


def test_tokens_and_costs_add_up_by_model():
    used = {"total_tokens": 7, "total_price": "0.5", "currency": "USD"}
    process = {"model_provider": "openai", "model_name": "gpt-5"}
    play = Play("a>b b>c").begins()
    play.hears(NodeStarted("a"), NodeSucceeded("a", {}, process=process, usage=used))
    play.hears(NodeStarted("b"), NodeSucceeded("b", {}, process=process, usage=used)).runs("c")
    (ended,) = play.plans
    assert isinstance(ended, RunEnded)
    assert (ended.tokens, ended.steps) == (14, 3)
    assert [(cost["provider"], cost["model"], cost["total_price"]) for cost in ended.costs] == [
        ("openai", "gpt-5", "1.0")
    ]


def test_of_several_starts_the_others_are_skipped_with_what_only_they_lead_to() -> None:
    play = Play("a>c b>c b>d d>e c>e")
    play.state = State(Graph(list(play.state.graph.nodes.values()), play.state.graph.edges, "a", starts=["a", "b"]))
    play.hears(replace(QUEUED, start="b"), RunStarted())
    assert play.plans == [NodeSkipped("a"), Start("b")]
    play.hears(NodeSkipped("a")).runs("b")
    assert play.plans == starts("c", "d")

    play.state = State(play.state.graph)
    play.hears(QUEUED, RunStarted())
    assert play.plans == [NodeSkipped("b"), Start("a")]
    play.hears(NodeSkipped("b")).runs("a")
    assert play.plans == [NodeSkipped("d"), Start("c")]
