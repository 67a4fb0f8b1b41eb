"""Whole workflows: a start, a source of values, a few nodes of any type, and an end or an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from oracle import model_nodes, nodes, values
from oracle.case import Case
from oracle.nodes import Draw, NodeDraft, Scope, Variable

_FORM = (
    ("t", "paragraph", "string"),
    ("n", "number", "number"),
    ("b", "checkbox", "boolean"),
    ("o", "json_object", "object"),
)
MAKERS: dict[str, Callable[[Scope], NodeDraft]] = {
    "template-transform": nodes.template,
    "code": nodes.code,
    "if-else": nodes.if_else,
    "variable-aggregator": nodes.aggregator,
    "assigner": nodes.assigner,
    "assigner (version 1)": nodes.old_assigner,
    "list-operator": nodes.list_operator,
    "http-request": nodes.http_request,
    "llm": model_nodes.llm,
    "parameter-extractor": model_nodes.extractor,
    "question-classifier": model_nodes.classifier,
}
FALLIBLE = frozenset({"code", "http-request", "llm", "parameter-extractor"})
_CONTAINERS = ("iteration", "loop")
TYPES = (*MAKERS, *_CONTAINERS)


class Graph:
    """A workflow while it is made: nodes are hung one after the other below the last one."""

    def __init__(self, draw: Draw, chat: bool) -> None:
        self._draw, self.chat = draw, chat
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.variables: list[Variable] = []
        self.conversation: list[Variable] = []
        self._loose: list[tuple[str, str]] = []  # (node, handle): what the next node follows
        self._parents: list[tuple[str, str]] = []  # (container, its type) that nodes are put into

    def scope(self) -> Scope:
        return Scope(self._draw, self.variables, self.conversation)

    def add(self, draft: NodeDraft, name: str | None = None) -> str:
        """Hangs a node below the last one; the names of its outputs are known from then on."""
        node = name or f"n{len(self.nodes)}"
        item = {"id": node, "type": "custom", "data": {"title": node, **draft.data}, "position": {"x": 0, "y": 0}}
        if self._parents:
            container, kind = self._parents[-1]
            item["parentId"] = container
            item["data"] |= {f"{kind}_id": container, f"isIn{kind.title()}": True}
        self.nodes.append(item)
        for source, handle in self._loose:
            self._edge(source, handle, node)
        self._loose = [(node, "source")]
        self.variables += [Variable((node, output), kind) for output, kind in draft.outputs]
        return node

    def _edge(self, source: str, handle: str, target: str) -> None:
        types = {node["id"]: node["data"]["type"] for node in self.nodes}
        self.edges.append(
            {
                "id": f"{source}-{handle}-{target}",
                "source": source,
                "sourceHandle": handle,
                "target": target,
                "targetHandle": "target",
                "type": "custom",
                "data": {"sourceType": types[source], "targetType": types[target]},
            }
        )

    def step(self, kind: str) -> None:
        """A node of a type, with what belongs below it."""
        if kind in _CONTAINERS:
            self._container(kind)
            return
        draft = MAKERS[kind](self.scope())
        handles = draft.handles
        if kind in FALLIBLE and self._draw(st.integers(0, 3)) == 0:
            handles = self._handled(draft)
        node = self.add(draft)
        if handles:
            self._branches(node, handles)

    def _handled(self, draft: NodeDraft) -> Sequence[str]:
        """Gives a node a strategy for its failures; the handles that it then has."""
        if self._draw(st.booleans()):
            draft.data["error_strategy"] = "fail-branch"
            return ("source", "fail-branch")
        draft.data["error_strategy"] = "default-value"
        draft.data["default_value"] = [
            {"key": name, "type": kind, "value": self._default(kind)}
            for name, kind in draft.outputs
            if kind in values.BY_TYPE
        ]
        return ()

    def _default(self, kind: str) -> Any:
        value = self._draw(values.BY_TYPE[kind])
        return json.dumps(value, ensure_ascii=False) if kind == "object" or kind.startswith("array") else value

    def _branches(self, node: str, handles: Sequence[str]) -> None:
        """A template at every handle, and an aggregator over them."""
        variables, ends, outputs = list(self.variables), [], []
        for handle in handles:
            self._loose, self.variables = [(node, handle)], list(variables)
            branch = self.add(nodes.template(self.scope()))
            ends.append((branch, "source"))
            outputs.append([branch, "output"])
        self._loose, self.variables = ends, variables
        data = {"type": "variable-aggregator", "output_type": "string", "variables": outputs}
        self.add(NodeDraft(data, [("output", "string")]))

    def _container(self, kind: str) -> None:
        draw, scope = self._draw, self.scope()
        node = f"n{len(self.nodes)}"
        begin = f"{node}start"
        data: dict[str, Any] = {"type": kind, "start_node_id": begin}
        inside: list[Variable] = []
        conversation = list(self.conversation)
        if kind == "iteration":
            source_list = scope.one("array[string]", "array[number]", "array[object]", "array[boolean]")
            item = source_list.kind.removeprefix("array[").removesuffix("]")
            inside = [Variable((node, "item"), item), Variable((node, "index"), "number")]
            modes = ["terminated", "continue-on-error", "remove-abnormal-output"]
            data |= {
                "iterator_selector": scope.selector() if draw(st.integers(0, 19)) == 0 else list(source_list.selector),
                "error_handle_mode": draw(st.sampled_from(modes)),
                "is_parallel": draw(st.integers(0, 3)) == 0,
                "parallel_nums": 2,
                "flatten_output": draw(st.booleans()),
            }
            outputs = [("output", "array[string]")]
        else:
            loop_variables = [(f"l{number}", draw(st.sampled_from(list(values.BY_TYPE)))) for number in range(2)]
            inside = [Variable((node, name), item) for name, item in loop_variables]
            data |= {
                "loop_count": draw(st.integers(1, 3)),
                "logical_operator": draw(st.sampled_from(["and", "or"])),
                "error_handle_mode": "terminated",
                "loop_variables": [self._loop_variable(scope, name, item) for name, item in loop_variables],
            }
            self.conversation = inside
            outputs = [*loop_variables, ("loop_round", "number")]
        self.add(NodeDraft(data), node)
        variables, after = list(self.variables), self._loose
        self._parents.append((node, kind))
        self._loose, self.variables = [], [*variables, *inside]
        self.add(NodeDraft({"type": f"{kind}-start"}), begin)
        kinds = ["template-transform", "code", "if-else", "llm", "list-operator", "variable-aggregator"]
        if kind == "loop":
            kinds += ["assigner", "assigner"]
        for each in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2)):
            self.step(each)
        if kind == "iteration":
            data = self.nodes[[item["id"] for item in self.nodes].index(node)]["data"]
            mine = {item["id"] for item in self.nodes if item.get("parentId") == node}
            inner = [variable for variable in self.variables if variable.selector[0] in mine] or inside
            source = draw(st.sampled_from(inner))
            data |= {"output_selector": list(source.selector), "output_type": f"array[{source.kind}]"}
        else:
            data = self.nodes[[item["id"] for item in self.nodes].index(node)]["data"]
            breaks = nodes.condition(Scope(draw, inside, []), over=draw(st.sampled_from(inside)))
            data["break_conditions"] = [breaks] if draw(st.booleans()) else []
        self._parents.pop()
        self._loose, self.conversation = after, conversation
        self.variables = [*variables, *(Variable((node, name), item) for name, item in outputs)]

    def _loop_variable(self, scope: Scope, name: str, kind: str) -> dict[str, Any]:
        variable: dict[str, Any] = {"id": name, "label": name, "var_type": kind}
        if self._draw(st.booleans()):
            return {**variable, "value_type": "variable", "value": list(scope.one(kind).selector)}
        value = self._draw(values.BY_TYPE[kind])
        text = json.dumps(value, ensure_ascii=False) if kind == "object" or kind.startswith("array") else value
        return {**variable, "value_type": "constant", "value": text}


@st.composite
def cases(draw: st.DrawFn, kinds: Sequence[str] = TYPES) -> Case:
    """A case with one to three steps of the kinds given."""
    return build(draw, draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)))


def build(draw: Draw, kinds: Sequence[str]) -> Case:
    chat = any(kind.startswith("assigner") for kind in kinds) or draw(st.booleans())
    graph = Graph(draw, chat)
    form = [
        {"variable": name, "label": name, "type": field, "required": False, "max_length": None, "options": []}
        for name, field, _ in _FORM
    ]
    graph.add(NodeDraft({"type": "start", "variables": form}, [(name, kind) for name, _, kind in _FORM]), "start")
    inputs = {name: draw(values.BY_TYPE[kind]) if draw(st.integers(0, 9)) else None for name, _, kind in _FORM}
    start_variables: list[dict[str, Any]] = []
    if chat:
        for number, kind in enumerate(values.BY_TYPE):
            name = f"c{number}"
            start_variables.append(
                {"id": name, "name": name, "value_type": kind, "value": draw(values.BY_TYPE[kind]), "description": ""}
            )
            graph.conversation.append(Variable(("conversation", name), kind))
        graph.variables += [*graph.conversation, Variable(("sys", "query"), "string")]
    environment = [
        {
            "id": f"e{number}",
            "name": f"e{number}",
            "value_type": kind,
            "value": draw(values.BY_TYPE[kind]),
            "description": "",
        }
        for number, kind in enumerate(("string", "number"))
    ]
    graph.variables += [Variable(("env", item["name"]), item["value_type"]) for item in environment]
    graph.add(nodes.source(graph.scope()), "source")
    for kind in kinds:
        graph.step(kind)
    _finish(graph, draw)
    workflow = {
        "conversation_variables": start_variables,
        "environment_variables": environment,
        "features": {},
        "graph": {"nodes": graph.nodes, "edges": graph.edges},
    }
    app = {
        "name": "case",
        "mode": "advanced-chat" if chat else "workflow",
        "description": "",
        "icon": "",
        "icon_background": "",
    }
    package = {"type": "package", "value": {"plugin_unique_identifier": "langgenius/openai:1.0.0@0"}}
    document = {"app": app, "kind": "app", "version": "0.5.0", "dependencies": [package], "workflow": workflow}
    return Case(document, inputs)


def _finish(graph: Graph, draw: Draw) -> None:
    if graph.chat:
        some = draw(st.lists(st.sampled_from(graph.variables), min_size=1, max_size=6))
        graph.add(NodeDraft({"type": "answer", "answer": "\n".join(variable.text for variable in some)}), "answer")
        return
    outputs = [
        {"variable": f"o{number}", "value_selector": list(variable.selector), "value_type": variable.kind}
        for number, variable in enumerate(graph.variables)
    ]
    graph.add(NodeDraft({"type": "end", "outputs": outputs}), "end")
