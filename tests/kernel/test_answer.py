"""What a run says while it runs."""

from __future__ import annotations

import itertools

from headrace.kernel.answer import Answer
from headrace.kernel.events import (
    Delta,
    Event,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeSucceeded,
    Record,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.graph import Edge, Graph, NodeSpec


class Listener:
    def __init__(self, edges: str, responses: dict[str, list[object]]) -> None:
        parsed = [
            Edge(s.partition(":")[0], t, s.partition(":")[2] or "source")
            for s, t in (e.split(">") for e in edges.split())
        ]
        names = dict.fromkeys(itertools.chain.from_iterable((e.source, e.target) for e in parsed))
        nodes = [NodeSpec(n, "any", branching=n.startswith("if")) for n in names]
        graph = Graph(nodes, parsed, next(iter(names)), responses)  # pyright: ignore[reportArgumentType]
        self.answer = Answer(graph, {"env": {"E": "env"}})
        self.seq = 0
        self.hears(RunQueued("a", "v", "t", "u", {}, {"user_id": "me"}), RunStarted())

    def hears(self, *events: Event, live: bool = False) -> list[tuple[str, str]]:
        said: list[tuple[str, str]] = []
        for event in events:
            self.seq += not live
            record = Record("run", None if live else self.seq, 0.0, event)
            said += [(each.text, ".".join(each.selector)) for each in self.answer.apply(record)]
        return said


def test_outputs_are_told_in_the_order_in_which_the_end_lists_them():
    hear = Listener("s>a s>b a>e b>e", {"e": [("a", "t"), "\n", ("b", "t")]})
    assert hear.hears(NodeSucceeded("s", {})) == []
    assert hear.hears(NodeSucceeded("b", {"t": "B"})) == []
    assert hear.hears(NodeSucceeded("a", {"t": "A"})) == [("A", "a.t"), ("\n", "e.answer"), ("B", "b.t")]


def test_forms_of_values():
    hear = Listener(
        "s>e", {"e": [("s", "o"), "\n", ("s", "l"), "\n", ("s", "b"), "\n", ("s", "n"), "\n", ("env", "E")]}
    )
    told = hear.hears(NodeSucceeded("s", {"o": {"a": 1}, "l": ["x", {"y": None}], "b": True, "n": 2.0}))
    assert [text for text, _ in told] == [
        '{\n  "a": 1\n}',
        "\n",
        "- x\n- {'y': None}",
        "\n",
        "True",
        "\n",
        "2.0",
        "\n",
        "env",
    ]


def test_streamed_text_is_told_as_it_comes_and_not_again_when_it_is_journaled():
    hear = Listener("s>llm llm>e", {"e": [("llm", "text")]})
    hear.hears(NodeSucceeded("s", {}))
    assert hear.hears(Delta("llm", "text", 0, "Hel"), live=True) == [("Hel", "llm.text")]
    assert hear.hears(Delta("llm", "text", 3, "lo"), live=True) == [("lo", "llm.text")]
    assert hear.answer.unjournaled == {0: 5}
    assert hear.hears(Delta("llm", "text", 0, "Hello")) == []
    assert hear.answer.unjournaled == {}
    assert hear.hears(NodeSucceeded("llm", {"text": "Hello"})) == []


def test_a_lost_piece_is_made_up_for_by_the_journal():
    hear = Listener("s>llm llm>e", {"e": [("llm", "text")]})
    hear.hears(NodeSucceeded("s", {}))
    assert hear.hears(Delta("llm", "text", 3, "lo"), live=True) == []
    assert hear.hears(Delta("llm", "text", 0, "Hello")) == [("Hello", "llm.text")]


def test_a_second_attempt_begins_anew():
    hear = Listener("s>llm llm>e", {"e": [("llm", "text")]})
    hear.hears(NodeSucceeded("s", {}))
    hear.hears(Delta("llm", "text", 0, "Hel"), live=True)
    hear.hears(Delta("llm", "text", 0, "Hel"), NodeRetried("llm", 1, "cut", "X"))
    assert hear.hears(Delta("llm", "text", 0, "Hello"), live=True) == [("Hello", "llm.text")]


def test_after_a_crash_the_node_that_was_running_begins_anew():
    hear = Listener("s>llm llm>e", {"e": [("llm", "text")]})
    hear.hears(NodeSucceeded("s", {}), Delta("llm", "text", 0, "Hel"), RunResumed(recovered=True))
    assert hear.hears(Delta("llm", "text", 0, "Hi"), live=True) == [("Hi", "llm.text")]


def test_an_end_behind_a_choice_waits_until_it_is_chosen():
    hear = Listener("s>if if:yes>e1 if:no>e2", {"e1": [("s", "t")], "e2": ["no ", ("s", "t")]})
    assert hear.hears(NodeSucceeded("s", {"t": "T"})) == []
    assert hear.hears(NodeSucceeded("if", {}, handle="no")) == [("no ", "e2.answer"), ("T", "s.t")]


def test_a_value_of_a_skipped_node_is_passed_over():
    hear = Listener("s>if if:a>x if:b>y x>e y>e", {"e": [("x", "t"), "|", ("y", "t")]})
    assert hear.hears(NodeSucceeded("s", {}), NodeSucceeded("if", {}, handle="b")) == []
    assert hear.hears(NodeSkipped("x"), NodeSucceeded("y", {"t": "Y"})) == [("|", "e.answer"), ("Y", "y.t")]


def test_a_value_that_never_comes_does_not_silence_the_next_end():
    hear = Listener("s>e1 s>e2", {"e1": [("s", "nope"), "after"], "e2": [("s", "t")]})
    assert hear.hears(NodeSucceeded("s", {"t": "T"})) == []
    assert hear.hears(NodeSucceeded("e1", {})) == [("T", "s.t")]


def test_a_failure_with_a_strategy_is_told_from():
    hear = Listener("s>c c>e", {"e": [("c", "error_message")]})
    hear.hears(NodeSucceeded("s", {}))
    failed = NodeFailed("c", "boom", "X", outputs={"error_message": "boom"}, strategy="default-value")
    assert hear.hears(failed) == [("boom", "c.error_message")]
