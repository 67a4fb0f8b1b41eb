"""What a run says while it runs."""

from __future__ import annotations

import itertools

from headrace.kernel.events import (
    Delta,
    Event,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.kernel.response import ResponseStream


class Listener:
    def __init__(self, edges: str, responses: dict[str, list[object]], *, caught: bool = False) -> None:
        parsed = [
            Edge(s.partition(":")[0], t, s.partition(":")[2] or "source")
            for s, t in (e.split(">") for e in edges.split())
        ]
        names = dict.fromkeys(itertools.chain.from_iterable((e.source, e.target) for e in parsed))
        strategies = {n: "fail-branch" for n in names if caught and n.startswith("m")}
        nodes = [NodeSpec(n, "any", branching=n.startswith("if"), strategy=strategies.get(n)) for n in names]
        graph = Graph(nodes, parsed, next(iter(names)), responses)  # pyright: ignore[reportArgumentType]
        self.answer = ResponseStream(graph, {"env": {"E": "env"}})
        self.seq = 0
        self.hears(RunQueued("a", "v", "t", "u", {}, {"user_id": "me"}), RunStarted())

    def hears(self, *events: Event, live: bool = False) -> list[tuple[str, str]]:
        said: list[tuple[str, str]] = []
        for event in events:
            self.seq += not live
            record = Record("run", None if live else self.seq, 0.0, event)
            said += [(item.text, ".".join(item.selector)) for item in self.answer.apply(record)]
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
    pieces = hear.hears(NodeSucceeded("s", {"o": {"a": 1}, "l": ["x", {"y": None}], "b": True, "n": 2.0}))
    assert [text for text, _ in pieces] == [
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


def test_a_value_that_never_comes_silences_neither_the_rest_nor_the_next_end():
    hear = Listener("s>e1 s>e2", {"e1": [("s", "nope"), "after"], "e2": [("s", "t")]})
    assert hear.hears(NodeSucceeded("s", {"t": "T"})) == []
    assert hear.hears(NodeSucceeded("e1", {})) == [("after", "e1.answer"), ("T", "s.t")]


def test_a_failure_with_a_strategy_is_told_from():
    hear = Listener("s>c c>e", {"e": [("c", "error_message")]})
    hear.hears(NodeSucceeded("s", {}))
    failed = NodeFailed("c", "boom", "X", outputs={"error_message": "boom"}, strategy="default-value")
    assert hear.hears(failed) == [("boom", "c.error_message")]


# ----------------------------------------------------------------------------------------------------- fail branches


def caught(edges: str, responses: dict[str, list[object]]) -> Listener:
    """A graph in which nodes called `m...` have a fail branch."""
    hear = Listener(edges, responses, caught=True)
    hear.hears(NodeSucceeded("s", {"t": "T"}), NodeStarted("m"))
    return hear


CAUGHT = "s>m m>ok m:fail-branch>bad"


def failed(node: str) -> NodeFailed:
    return NodeFailed(node, "cut", "X", outputs={"error_message": "cut"}, strategy="fail-branch", handle="fail-branch")


def test_a_model_with_a_fail_branch_is_heard_as_it_speaks():
    hear = caught(CAUGHT, {"ok": ["so: ", ("m", "text"), "!"], "bad": ["sorry"]})
    assert hear.hears(Delta("m", "text", 0, "Hel"), live=True) == [("so: ", "ok.answer"), ("Hel", "m.text")]
    assert hear.answer.unjournaled == {0: 7}
    assert hear.hears(Delta("m", "text", 3, "lo"), live=True) == [("lo", "m.text")]
    assert hear.hears(Delta("m", "text", 0, "Hello")) == []
    assert hear.answer.unjournaled == {}
    assert hear.hears(NodeSucceeded("m", {"text": "Hello"}), NodeSkipped("bad")) == [("!", "ok.answer")]


def test_the_fail_branch_goes_on_where_a_model_was_cut_off():
    hear = caught(CAUGHT, {"ok": ["so: ", ("m", "text"), "!"], "bad": [" ... sorry: ", ("m", "error_message")]})
    hear.hears(Delta("m", "text", 0, "Hel"))
    said = hear.hears(failed("m"), NodeSkipped("ok"), NodeSucceeded("bad", {}))
    assert "".join(text for text, _ in said) == " ... sorry: cut"


def test_a_model_that_fails_before_its_first_text_has_said_nothing():
    hear = caught(CAUGHT, {"ok": ["so: ", ("m", "text")], "bad": ["sorry"]})
    assert hear.hears(failed("m"), NodeSkipped("ok")) == [("sorry", "bad.answer")]


def test_a_second_attempt_of_a_model_with_a_fail_branch_begins_anew():
    hear = caught(CAUGHT, {"ok": ["so: ", ("m", "text")], "bad": ["sorry"]})
    hear.hears(Delta("m", "text", 0, "Hel"), NodeRetried("m", 1, "cut", "X"))
    assert hear.hears(Delta("m", "text", 0, "Hello")) == [("Hello", "m.text")]
    assert hear.hears(NodeSucceeded("m", {"text": "Hello"})) == []


def test_what_does_not_tell_the_model_s_text_waits_for_its_end():
    hear = caught("s>m m>first first>ok m:fail-branch>bad", {"first": ["done. "], "ok": [("m", "text")], "bad": ["no"]})
    assert hear.hears(Delta("m", "text", 0, "Hello")) == []
    said = hear.hears(NodeSucceeded("m", {"text": "Hello"}))
    assert said == [("done. ", "first.answer"), ("Hello", "m.text")]


def test_who_speaks_behind_both_ways_begins_again_after_a_failure():
    hear = caught("s>m m>both m:fail-branch>c c>both", {"both": [("m", "text"), "|", ("c", "t")]})
    assert hear.hears(Delta("m", "text", 0, "Hel")) == [("Hel", "m.text")]
    said = hear.hears(failed("m"), NodeSucceeded("c", {"t": "C"}), NodeSucceeded("both", {}))
    assert "".join(text for text, _ in said) == "|C"


def test_two_models_speak_one_after_the_other_in_the_order_of_their_first_text():
    edges = "s>m s>m2 m>a m:fail-branch>x m2>b m2:fail-branch>x"
    hear = caught(edges, {"a": [("m", "text")], "b": [("m2", "text")], "x": ["no"]})
    hear.hears(NodeStarted("m2"))
    assert hear.hears(Delta("m2", "text", 0, "two"), live=True) == [("two", "m2.text")]
    assert hear.hears(Delta("m", "text", 0, "one"), live=True) == []
    assert hear.hears(Delta("m2", "text", 0, "two"), Delta("m", "text", 0, "one")) == []
    assert hear.hears(NodeSucceeded("m2", {"text": "two"})) == [("one", "m.text")]


def test_a_default_value_is_told_after_the_text_that_was_cut_off():
    hear = Listener("s>m m>e", {"e": [("m", "text"), "!"]})
    hear.hears(NodeSucceeded("s", {}), Delta("m", "text", 0, "Hel"))
    default = NodeFailed("m", "cut", "X", outputs={"text": " (cut off)"}, strategy="default-value")
    assert "".join(text for text, _ in hear.hears(default)) == " (cut off)!"


# ------------------------------------------------------------------------------------------------------- twice told


def test_a_streamed_text_is_told_as_often_as_it_is_asked_for():
    hear = Listener("s>m m>e e>f", {"e": ["one: ", ("m", "text"), ", two: ", ("m", "text")], "f": [("m", "text")]})
    hear.hears(NodeSucceeded("s", {}), Delta("m", "text", 0, "Fi"))
    assert "".join(text for text, _ in hear.hears(Delta("m", "text", 2, "ne"))) == "ne"
    said = hear.hears(NodeSucceeded("m", {"text": "Fine"}), NodeSucceeded("e", {}))
    assert "".join(text for text, _ in said) == ", two: FineFine"
