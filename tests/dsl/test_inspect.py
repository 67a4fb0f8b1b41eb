"""Files good and bad: what loads, and what is said of what does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator

from headrace.dsl.load import inspect, load
from headrace.dsl.yaml_reader import read
from headrace.errors import LoadError
from headrace.kernel.graph import Edge, Retry, Traits
from headrace.node import Config, Context, Node, Result, SelectorField
from headrace.nodes.iteration import Iteration, IterationStart

APPS = sorted((Path(__file__).parent.parent / "data" / "apps").glob("*.yml"))


class Inner(Config):
    name: str


class Item(Config):
    value_selector: SelectorField


class PlainConfig(Config):
    text: str = ""
    list: Sequence[Item] = ()
    variable_selector: SelectorField = ()
    amount: int = 0
    inner: Inner | None = None

    @field_validator("amount")
    @classmethod
    def _small(cls, value: int) -> int:
        if value > 9:
            raise ValueError("is to be 9 at most")
        return value


class Plain(Node[PlainConfig]):
    type = "plain"

    async def run(self, ctx: Context) -> Result:
        return Result({})


class Start(Plain):
    type = "start"
    traits = Traits(starts_run=True)


class Trigger(Plain):
    type = "trigger"
    traits = Traits(starts_run=True, triggers_run=True)


class Choice(Plain):
    type = "choice"
    branching = True

    def branches(self) -> list[str]:
        return ["a", "false"]


class End(Plain):
    type = "end"
    traits = Traits(response="outputs")

    def response_template(self) -> list[str | tuple[str, ...]]:
        return ["said: ", ("start", "q")]


class Picky(Plain):
    type = "picky"

    def __init__(self, config: PlainConfig) -> None:
        raise ValueError("the parts do not fit together")


REGISTRY: Mapping[str, Any] = {
    cls.type: cls for cls in (Plain, Start, Trigger, Choice, End, Picky, Iteration, IterationStart)
}


def node(id: Any, type: str = "plain", **data: Any) -> dict[str, Any]:
    return {"id": id, "type": "custom", "data": {"type": type, "title": str(id).title(), **data}}


def inside(parent: str, id: str, type: str = "plain", **data: Any) -> dict[str, Any]:
    return {**node(id, type, **data), "parentId": parent}


def edge(source: Any, target: Any, handle: Any = "source") -> dict[str, Any]:
    return {"source": source, "target": target, "sourceHandle": handle}


def app(nodes: Any, edges: Any, more: Mapping[str, Any] | None = None, **top: Any) -> str:
    """`more` goes beside the graph, `top` beside the workflow or instead of it."""
    workflow = {"graph": {"nodes": nodes, "edges": edges}, **(more or {})}
    base = {"app": {"name": "n", "mode": "workflow"}, "kind": "app", "version": "0.5.0", "workflow": workflow}
    return yaml.safe_dump({**base, **top}, sort_keys=False)


def chain(*nodes: dict[str, Any], more: Mapping[str, Any] | None = None, **top: Any) -> str:
    """The nodes behind a start, one after the other."""
    return app([node("start", "start"), *nodes], row("start", *(item["id"] for item in nodes)), more, **top)


def row(*ids: str) -> list[dict[str, Any]]:
    return [edge(source, target) for source, target in pairwise(ids)]


def messages_of(content: str | bytes, *, fatal: bool | None = None) -> list[str]:
    """The problems without their lines."""
    problem_list = inspect(content, REGISTRY)[1]
    return [
        str(item).split(", ", 1)[-1] if item.line and item.node else str(item)
        for item in problem_list
        if fatal is None or item.fatal is fatal
    ]


# ------------------------------------------------------------------------------------------------ unreadable files

UNREADABLE = [
    ("", None, "the file is empty"),
    ("# nothing\n", None, "the file is empty"),
    ("- 1\n", None, "the file contains a list, not a mapping: is it an app exported by Dify?"),
    ("hello", None, "the file contains a single value, not a mapping: is it an app exported by Dify?"),
    ("a: 1\n---\nb: 2\n", 2, "the file has several documents ('---'), but only one is allowed"),
    ("a: &x\n  b: *x\n", 2, "the alias '*x' refers to itself"),
    ("a: &x [1]\n? [1, 2]\n: 3\n", 2, "a key must be text, not a mapping or list"),
    ("a: !!python/object:os.system x\n", 1,
     "the YAML tag 'tag:yaml.org,2002:python/object:os.system' is not allowed here"),
    ("a: !!set {x}\n", 1, "the YAML tag 'tag:yaml.org,2002:set' is not allowed here"),
    ("a: 1\nb: 2024-13-45\n", 2, "'2024-13-45' is not a valid timestamp"),
    ("a: 1\n<<: 2\n", 2, "'<<' takes a mapping or a list of mappings"),
    (b"a: 1\nb: \xff\n", 2, "the file is not UTF-8: byte 8 is 0xff"),
    ("a: 1".encode("utf-16"), None, "the file is in UTF-16: save it as UTF-8"),
    ("a: \ud800", 1, "the file has a lone surrogate (half a character)"),
    ("x" * (10 * 1024 * 1024 + 1), None, "the file is larger than 10 MB"),
    (b"x" * (40 * 1024 * 1024 + 1), None, "the file is larger than 10 MB"),
    ("a:\n  b: " + "[" * 100_000, 2, "the file is nested more than 200 levels deep"),
    ("x: 1\ny: 2\n", None, "the file has neither `app` nor `workflow`: is it an app exported by Dify?"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "line", "message"), UNREADABLE)
def test_a_file_that_cannot_be_read_is_reported_with_its_reason(
    content: str | bytes, line: int | None, message: str
) -> None:
    flow, problems = inspect(content, REGISTRY)
    assert flow is None
    assert [(problem.line, problem.message) for problem in problems] == [(line, message)]
    with pytest.raises(LoadError) as caught:
        load(content, REGISTRY, "my.yml")
    assert str(caught.value).startswith("my.yml: ")


def test_tabs_are_named() -> None:
    (problem,) = inspect("app:\n\tname: x\n", REGISTRY)[1]
    assert problem.line == 2
    assert problem.message.endswith("(YAML is indented by spaces, not tabs)")


def test_a_bomb_of_aliases_is_refused_and_harmless_ones_are_not() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (problem,) = inspect(f"app: {{}}\na0: &a0 lol\n{levels}", REGISTRY)[1]
    assert problem.message == "the file's aliases expand to too many values"
    text = f"app: {{}}\na: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 20)}]\n"
    assert inspect(text, REGISTRY)[1][0].message == "the file's aliases expand to too many values"
    flow = load(chain(node("end", "end", a=(shared := ["x"]), b=shared)), REGISTRY)
    assert flow.graph.nodes["end"].config["b"] == ["x"]


def test_merge_keys_and_yaml_1_1() -> None:
    start = (
        "{id: start, data: {<<: [*one, *two], title: own, on: yes, y: 017, 1: 2024-05-06, big: 99999999999999999999}}"
    )
    base = "base: [&one {type: start, title: first}, &two {type: end, extra: 1}]"
    info = "app: {name: 1.5, mode: workflow, description: 2024-01-02}"
    text = f"{info}\n{base}\nworkflow: {{graph: {{nodes: [{start}]}}}}"
    flow = load(text, REGISTRY)
    config = flow.graph.nodes["start"].config
    assert (flow.name, flow.description) == ("1.5", "2024-01-02")
    assert config == {
        "title": "own", "on": True, "y": 15, "1": "2024-05-06", "big": 1e20, "type": "start", "extra": 1,
    }  # fmt: skip


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 2**64, -(2**63) - 1])
def test_integers_stay_integers_as_far_as_json_is_written(number: int) -> None:
    value = read(f"number: {number}", "w").value["number"]
    fits = -(2**63) <= number < 2**64
    assert (type(value), value) == ((int, number) if fits else (float, float(number)))


def test_json_with_a_byte_order_mark_and_surrogate_pairs_loads() -> None:
    content = json.dumps(yaml.safe_load(chain(node("end", "end", desc="😀 \\ud83d"))), indent="\t")
    assert "\\ud83d\\ude00" in content
    for text in (content, "\ufeff" + content, ("\ufeff" + content).encode()):
        assert load(text, REGISTRY).graph.nodes["end"].config["desc"] == "😀 \\ud83d"


def test_a_key_that_stands_twice_is_noted() -> None:
    text = chain(node("end", "end")) + "version: '0.1.0'\n"
    (problem,) = inspect(text, REGISTRY)[1]
    assert (problem.field, problem.fatal, problem.line) == ("version", False, text.count("\n"))


# --------------------------------------------------------------------------------------------------- the app itself


@pytest.mark.parametrize("version", ["0.1.0", "0.1.5", "0.2.0", "0.3.1", "0.4.0", "0.5.0", "0.6.0", "0.7.0", None, 0.6])
def test_every_version_loads(version: Any) -> None:
    assert messages_of(chain(node("end", "end"), version=version)) == []


BAD_APPS = [
    ({"version": "0.8.0"}, "version 0.8.0 is newer than 0.7.0, the newest known here: parts may not run", False),
    ({"version": "next"}, "'next' is not a version of a workflow file", False),
    ({"kind": "rag_pipeline"}, "the file contains 'rag_pipeline', not an app", True),
    ({"app": {"name": "n"}}, "the app's mode is missing", True),
    ({"app": {"mode": "magic"}}, "'magic' is not a mode of an app", True),
    ({"app": {"mode": ["x"]}}, "['x'] is not a mode of an app", True),
    ({"app": {"mode": "channel"}}, "the app is of mode 'channel' (a channel), which Headrace does not run", True),
    ({"app": 3}, "there is no `app` section: is it an app exported by Dify?", True),
    ({"workflow": None}, "there is no `workflow` section", True),
    ({"workflow": {}}, "the workflow has no graph", True),
    ({"workflow": {"graph": {}}}, "`nodes` is missing", True),
    ({"workflow": {"graph": {"nodes": {}}}}, "`nodes` must be a list", True),
    ({"workflow": {"graph": {"nodes": [node("s", "start")], "edges": 1}}}, "`edges` must be a list", True),
]


@pytest.mark.parametrize(("top", "message", "fatal"), BAD_APPS)
def test_what_is_wrong_with_an_app(top: dict[str, Any], message: str, fatal: bool) -> None:
    flow, problems = inspect(chain(node("end", "end"), **top), REGISTRY)
    assert [(problem.message, problem.fatal) for problem in problems] == [(message, fatal)]
    assert (flow is None) is fatal


def test_environment_settings_and_features() -> None:
    entries = [
        ("a", "string", "x"),
        ("b", "number", "7"),
        ("c", "number", "7.5"),
        ("d", "secret", "s3"),
        ("e", "secret", ""),
    ]
    variables = [{"name": name, "value_type": kind, "value": value} for name, kind, value in entries]
    workflow = {"environment_variables": variables, "features": {"f": 1}}
    flow = load(chain(node("end", "end"), more=workflow, app={"name": "n", "mode": "workflow", "icon": "🤖"}), REGISTRY)
    assert flow.environment == {"a": "x", "b": 7, "c": 7.5, "d": "s3", "e": ""}
    assert (flow.secrets, flow.features, flow.settings) == ({"s3"}, {"f": 1}, {"icon": "🤖"})


def test_what_is_declared_can_be_read() -> None:
    reads = node("a", text="{{#env.key#}} {{#conversation.mood#}} {{#sys.query#}}")
    variables = {"environment_variables": [{"name": "key"}], "conversation_variables": [{"name": "mood"}]}
    assert messages_of(chain(reads, more=variables, app={"name": "n", "mode": "advanced-chat"})) == []


def test_bad_environment_variables() -> None:
    variables = [1, {"value": 1}, {"name": "n", "value_type": "number", "value": "x"}, {"name": "n"}]
    text = chain(node("end", "end"), more={"environment_variables": variables})
    assert [(item.field, item.message) for item in inspect(text, REGISTRY)[1]] == [
        ("environment_variables.0", "each environment variable must be a mapping with a name"),
        ("environment_variables.1", "each environment variable must be a mapping with a name"),
        ("environment_variables.2.value", "the environment variable 'n' must be a number, not 'x'"),
        ("environment_variables.3.name", "the environment variable 'n' is defined twice"),
    ]


# ---------------------------------------------------------------------------------------------------- nodes, edges

S = node("start", "start")
GRAPHS = [
    ([node("a")], [], True, "field 'workflow.graph.nodes': there is no start node"),
    ([S, node("s2", "start")], [], True, "node 'S2': there is more than one start node: the first is in line 9"),
    ([S, node("a"), node("a")], [edge("start", "a")], True,
     "node 'A', field 'id': the id 'a' is already used by the node in line 14"),
    ([S, {"data": {"type": "plain"}}], [], True, "line 14, field 'nodes.1.id': a node has no id"),
    ([S, {"id": "x", "data": 3}], [], True, "node 'x', field 'data': a node's data must be a mapping"),
    ([S, {"id": "x", "data": {}}], [], True, "node 'x', field 'type': the node has no type"),
    ([S, {"id": "x", "data": {"type": 3}}], [], True, "node 'x', field 'type': the node has a type that is not text"),
    ([S, 7], [], True, "line 14, field 'nodes.1': a node must be a mapping"),
    ([S], [7], True, "line 15, field 'edges.0': an edge must be a mapping"),
    ([S], [edge("start", "z")], True,
     "line 16, field 'edges.0.target': an edge leads to a node that does not exist: 'z'"),
    ([S], [edge("z", "start")], True,
     "line 15, field 'edges.0.source': an edge leads from a node that does not exist: 'z'"),
    ([S], [{"source": "start"}], True, "line 15, field 'edges.0.target': an edge has no target"),
    ([S, node("a"), node("b")], [edge("start", "a"), edge("a", "b"), edge("b", "a")], True,
     "node 'A': the edges form a cycle: 'A' -> 'B' -> 'A'"),
    ([S], [edge("start", "start")], True, "node 'Start': the edges form a cycle: 'Start' -> 'Start'"),
    ([S, node("a"), node("b")], [edge("start", "a"), edge("b", "a")], False,
     "node 'B': the node cannot be reached from the start: it is ignored"),
    ([S, node("a", "strange")], [edge("start", "a")], False,
     "node 'A', field 'type': nodes of type 'strange' are not run here"),
    ([S, node("a", "agent")], [edge("start", "a")], False,
     "node 'A', field 'type': nodes of type 'agent' are not run here"),
    ([S, node("a", "iteration", iterator_selector=["start", "q"])], [edge("start", "a")], True,
     "node 'A': this iteration has no start node inside"),
    ([S, node("a[0]/b")], [], True,
     "node 'A[0]/B', field 'id': the id 'a[0]/b' has a ']/' in it"),
    ([S, node("t", "trigger", amount=1), node("a")], [edge("start", "a"), edge("a", "t"), edge("t", "a")], False,
     "node 'A': an edge leads to the start 'T': it is ignored"),
    ([S, node("c", "choice"), node("a")], [edge("start", "c"), edge("c", "a", "a"), edge("c", "a", "zz")], False,
     "node 'C', field 'sourceHandle': an edge leaves by the branch 'zz', which the node does not have"),
    ([S, node("a", text="{{#start.q#}} {{#gone.q#}} {{#sys.q#}}")], [edge("start", "a")], False,
     "node 'A', field 'text': 'gone.q' is read, but there is no node 'gone'"),
    ([S, node("a", list=[{"value_selector": ["gone", "q"]}])], [edge("start", "a")], False,
     "node 'A', field 'list.0.value_selector': 'gone.q' is read, but there is no node 'gone'"),
    ([S, node("a", text="{{#sys.user_id#}} {{#sys.query#}}")], [edge("start", "a")], False,
     "node 'A', field 'text': 'sys.query' is read, but an app of mode 'workflow' has none"),
    ([S, node("a", text="{{#env.key#}}")], [edge("start", "a")], False,
     "node 'A', field 'text': 'env.key' is read, but no variable 'key' is declared"),
    ([S, node("a", variable_selector=["conversation", "mood"])], [edge("start", "a")], False,
     "node 'A', field 'variable_selector': 'conversation.mood' is read, but no variable 'mood' is declared"),
    ([S, inside("gone", "a")], [edge("start", "a")], False,
     "node 'A', field 'parentId': the node's parent 'gone' does not exist: it is treated as outside"),
    ([S, inside("a", "a")], [], False, "node 'A': the node cannot be reached from the start: it is ignored"),
    ([S, inside("a", "a")], [edge("start", "a")], False,
     "node 'A', field 'parentId': the node's parent is 'A', but edges lead to it outside: it runs there"),
    ([S, node("a", amount="x")], [edge("start", "a")], True,
     "node 'A', field 'amount': Input should be a valid integer, unable to parse string as an integer"),
    ([S, node("a", amount=10)], [edge("start", "a")], True, "node 'A', field 'amount': is to be 9 at most"),
    ([S, node("a", inner={})], [edge("start", "a")], True, "node 'A', field 'inner.name': is missing"),
    ([S, node("a", "picky")], [edge("start", "a")], True, "node 'A': the parts do not fit together"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "edges", "fatal", "message"), GRAPHS)
def test_what_is_wrong_with_a_graph(nodes: list[Any], edges: list[Any], fatal: bool, message: str) -> None:
    text = app(nodes, edges)
    flow, problems = inspect(text, REGISTRY)
    assert (messages_of(text), [problem.fatal for problem in problems]) == ([message], [fatal])
    assert (flow is None) is fatal


def test_the_line_of_a_field_is_the_field_s() -> None:
    text = chain(node("a", inner={"name": 3}), node("b", amount="x"))
    lines = text.splitlines()
    for problem, wanted in zip(inspect(text, REGISTRY)[1], ["name: 3", "amount: x"], strict=True):
        assert lines[(problem.line or 0) - 1].strip() == wanted


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = chain(node("a", amount="x"), node("b", inner={}), node("c", error_strategy="pray"), kind="tool", version="9")
    assert messages_of(text) == ["line 4, field 'kind': the file contains 'tool', not an app"]
    text = chain(node("a", amount="x"), node("b", inner={}), node("c", error_strategy="pray"), node("d", "odd"))
    assert [problem.node for problem in inspect(text, REGISTRY)[1]] == ["A", "B", "C", "D"]
    with pytest.raises(LoadError) as caught:
        load(text, REGISTRY)
    assert [problem.node for problem in caught.value.problems] == ["A", "B", "C"]


def test_notes_and_what_cannot_be_reached_leave_no_trace() -> None:
    nodes = [
        S,
        node("n", ""),
        {"id": "m", "type": "custom-note", "data": {}},
        node("end", "end"),
        node("x", amount="bad"),
    ]
    edges = [edge("start", "end"), edge("start", "end"), edge("n", "end"), edge("m", "x"), edge("x", "end")]
    flow = load(app(nodes, edges), REGISTRY)
    assert (list(flow.nodes), flow.graph.edges) == (["start", "end"], (Edge("start", "end"),))
    assert flow.graph.responses == {"end": ["said: ", ("start", "q")]}


def test_ids_and_handles_that_lost_their_quotes() -> None:
    nodes = [node(1, "start"), node(2, "choice"), node(3, "end")]
    flow = load(app(nodes, [edge(1, 2), edge(2, 3, False)]), REGISTRY)
    assert flow.graph.edges == (Edge("1", "2"), Edge("2", "3", "false"))
    assert flow.graph.nodes["2"].branching


@pytest.mark.parametrize("where", ["parentId", "data"])
def test_a_container_has_a_graph_of_its_own(where: str) -> None:
    mark = {"isInIteration": True, "iteration_id": "it"} if where == "data" else {}
    it = node("it", "iteration", start_node_id="is", iterator_selector=["start", "q"])
    nodes = [S, it, node("is", "iteration-start", **mark), node("in", **mark)]
    if where == "parentId":
        nodes[2:] = [{**item, "parentId": "it"} for item in nodes[2:]]
    nodes.append(node("end", "end"))
    flow = load(app(nodes, [edge("start", "it"), edge("is", "in"), edge("it", "end")]), REGISTRY)
    body = flow.graph.bodies["it"].graph
    assert (list(flow.graph.nodes), list(body.nodes), body.root) == (["start", "it", "end"], ["is", "in"], "is")
    assert body.nodes["in"].parent == "it"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("string", 5, "5"), ("string", True, "true"), ("string", {}, None), ("number", "5", 5), ("number", "0.5", 0.5),
     ("number", "", 0), ("number", "x", None), ("number", True, None), ("object", '{"a": 1}', {"a": 1}),
     ("object", [], None), ("boolean", "true", True), ("boolean", 1, None), ("array[number]", "[1, 2]", [1, 2]),
     ("array[string]", [1], None), ("array[string]", "", []), ("array[any]", [1, "a"], [1, "a"])],
)  # fmt: skip
def test_conversation_variables_begin_with_what_is_of_their_type(kind: str, value: Any, expected: Any) -> None:
    entry = {"name": "v", "value_type": kind, "value": value}
    flow, problems = inspect(chain(node("end", "end"), more={"conversation_variables": [entry]}), REGISTRY)
    assert flow is not None
    blank = {"string": "", "number": 0, "object": {}, "boolean": False}.get(kind, [])
    assert flow.conversation[0].value == (blank if expected is None else expected)
    wanted = [f"the conversation variable 'v' must be of type {kind}: it begins without a value"]
    assert [problem.message for problem in problems] == (wanted if expected is None else [])


def test_an_environment_variable_that_lost_its_quotes_is_text() -> None:
    entries = [{"name": "n", "value_type": "string", "value": 5}, {"name": "f", "value_type": "string", "value": "x"}]
    flow = load(chain(node("end", "end"), more={"environment_variables": entries}), REGISTRY)
    assert flow.environment == {"n": "5", "f": "x"}


# -------------------------------------------------------------------------------------------------------- failures


def defaults(kind: str, value: Any) -> str:
    entry = {"key": "k", "type": kind, "value": value}
    return chain(node("a", error_strategy="default-value", default_value=[entry]))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("string", "x", "x"), ("number", "7", 7), ("number", 7.5, 7.5), ("object", '{"a": [1]}', {"a": [1]}),
     ("array[number]", "[1]", [1]), ("array[string]", ["x"], ["x"]), ("array[object]", "[{}]", [{}])],
)  # fmt: skip
def test_default_values_have_their_type(kind: str, value: Any, expected: Any) -> None:
    spec = load(defaults(kind, value), REGISTRY).graph.nodes["a"]
    assert (spec.strategy, spec.defaults) == ("default-value", {"k": expected})


@pytest.mark.parametrize(
    ("kind", "value"),
    [("string", 1), ("number", "x"), ("number", "inf"), ("object", "[]"), ("object", "{"), ("object", "[" * 100_000),
     ("object", '{"a": ' * 300 + "1" + "}" * 300), ("array[string]", "[1]"), ("array[number]", '{"a": 1}')],
)  # fmt: skip
def test_a_default_value_of_another_type_is_fatal(kind: str, value: Any) -> None:
    assert messages_of(defaults(kind, value), fatal=True) == [
        f"node 'A', field 'default_value.0.value': the value of 'k' is not of type {kind}"
    ]


def test_an_unknown_type_of_a_default_value_is_fatal() -> None:
    assert messages_of(defaults("magic", 1)) == [
        "node 'A', field 'default_value.0.type': 'magic' is not a type of a default value"
    ]


@pytest.mark.parametrize("strategy", [None, "", "none"])
def test_no_strategy(strategy: Any) -> None:
    assert load(chain(node("a", error_strategy=strategy)), REGISTRY).graph.nodes["a"].strategy is None


@pytest.mark.parametrize(
    ("config", "retry"),
    [({"retry_enabled": True, "max_retries": 3, "retry_interval": 1500}, Retry(3, 1.5)),
     ({"retry_enabled": True, "max_retries": "2", "retry_interval": "0"}, Retry(2, 0)),
     ({"retry_enabled": False, "max_retries": "many"}, None), ({"retry_enabled": True}, None), (None, None)],
)  # fmt: skip
def test_retries_are_in_seconds(config: Any, retry: Retry | None) -> None:
    assert load(chain(node("a", retry_config=config)), REGISTRY).graph.nodes["a"].retry == retry


def test_bad_retries() -> None:
    config = {"retry_enabled": True, "max_retries": -1, "retry_interval": "soon"}
    assert messages_of(chain(node("a", retry_config=config))) == [
        "node 'A', field 'retry_config.max_retries': must be a number of at least 0",
        "node 'A', field 'retry_config.retry_interval': must be a number of at least 0",
    ]
    assert messages_of(chain(node("a", retry_config=3))) == ["node 'A', field 'retry_config': must be a mapping"]


# ------------------------------------------------------------------------------------------------------- whatever


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_recorded_apps_load(path: Path) -> None:
    flow = load(path.read_bytes(), REGISTRY)
    assert flow.graph.nodes[flow.graph.root].type == "start"


def test_thousands_of_nodes_in_a_row() -> None:
    nodes = [node(f"n{index}") for index in range(3000)]
    graph = {"nodes": [S, *nodes], "edges": row("start", *(item["id"] for item in nodes))}
    content = json.dumps({"app": {"name": "n", "mode": "workflow"}, "workflow": {"graph": graph}})
    assert len(load(content, REGISTRY).nodes) == 3001


@settings(max_examples=60)
@given(st.data())
def test_a_mangled_file_loads_or_is_a_load_error(data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(APPS)).read_text().splitlines(keepends=True)
    junk = st.sampled_from(
        ["- \n", "[", "{", ": ", "&a ", "*a", "null\n", "7\n", "\t", "'", "!x ", "<<: 3\n", "\0", "..."]
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "cut", "junk", "dedent"])):
            case "drop":
                lines[at] = ""
            case "double":
                lines[at] *= 2
            case "cut":
                lines[at] = lines[at].split(":")[0] + ": " + data.draw(junk)
            case "junk":
                lines[at] += data.draw(junk)
            case _:
                lines[at] = lines[at].removeprefix("  ")
    attempt("".join(lines))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["start", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "data", "type", "nodes", "edges", "source", "target", "parentId", "retry_config",
                         "default_value", "error_strategy", "value_selector", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(
    nodes=JSON,
    edges=JSON,
    data=JSON,
    top=st.dictionaries(st.sampled_from(["app", "kind", "version", "workflow"]), JSON),
)
def test_any_values_load_or_are_a_load_error(nodes: Any, edges: Any, data: Any, top: dict[str, Any]) -> None:
    extra = data if isinstance(data, dict) else {"error_strategy": "default-value", "default_value": data}
    attempt(app(nodes, edges, {"environment_variables": data}, **top))
    attempt(
        app(
            [S, {"id": "a", "data": {"type": "plain", **extra}}, nodes],
            [edge("start", "a"), edges],
            {"environment_variables": data},
        )
    )


@settings(max_examples=100)
@given(st.text() | st.binary())
def test_any_text_is_a_load_error(content: str | bytes) -> None:
    assert not attempt(content)


def attempt(content: str | bytes) -> bool:
    try:
        load(content, REGISTRY)
    except LoadError as error:
        return not error.problems  # one without a problem helps nobody
    return True
