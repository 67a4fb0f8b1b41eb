"""A workflow's outputs and their types, from its end nodes and the nodes that produce the values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

from headrace.cli.generating.text import FieldSpec, name_of, union
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph, NodeId
from headrace.node import Flow, OutputType
from headrace.values import Selector, kind

FILE = "OutputFile"
_DEEPEST = 50  # levels of aggregators of aggregators
_OBJECT = "dict[str, Any]"
_NAMED: Mapping[str, str] = {
    "string": "str",
    "secret": "str",
    "number": "int | float",
    "integer": "int",
    "float": "int | float",
    "boolean": "bool",
    "bool": "bool",
    "object": _OBJECT,
    "file": FILE,
    "select": "str",
    "array": "list[Any]",
}
_SYSTEM: Mapping[str, str] = {
    "files": f"list[{FILE}]",
    **dict.fromkeys(("user_id", "app_id", "workflow_id", "workflow_run_id"), "str"),
    "timestamp": "int",
}


def type_named(name: str) -> str:
    """The Python type of Dify's string, number, array[object] ...; Any for other names."""
    if name.startswith("array[") and name.endswith("]"):
        return f"list[{_NAMED.get(name[6:-1], 'Any')}]"
    return _NAMED.get(name, "Any")


def output_fields(flow: Flow) -> list[FieldSpec]:
    """The outputs of all end nodes. One that may be missing or null in some run may be None."""
    typing = _Typing(flow)
    ends = [spec.id for spec in flow.graph.nodes.values() if spec.traits.response == "outputs"]
    types_by_name: defaultdict[str, list[str]] = defaultdict(list)
    for end in ends:
        for wire, output in (flow.nodes[end].outputs_schema() or {}).items():
            optional = [] if typing.is_certain(output, end) else ["None"]
            types_by_name[wire].append(union([typing.type_of(output), *optional]))
    names: list[str] = []
    fields: list[FieldSpec] = []
    for wire, types in types_by_name.items():
        name = name_of(wire, names)
        names.append(name)
        type_ = union([*types, *(["None"] if len(types) < len(ends) else [])])
        optional = type_ == "Any" or type_.endswith("None")
        fields.append(FieldSpec(name, wire, type_, default="None" if optional else None))
    return fields


class _Typing:
    """Infers the types of a workflow's variables."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._graph: Graph = flow.graph
        self._types: dict[Selector, str] = {}
        self._never_null: dict[Selector, bool] = {}
        self._schemas: dict[NodeId, Mapping[str, OutputType]] = {
            node: flow.nodes[node].outputs_schema() or {} for node in flow.graph.nodes
        }

    def type_of(self, output: OutputType, depth: int = 0) -> str:
        """The type of an output, when it has a value."""
        type_ = union(self._type(source, depth + 1) for source in output.sources)
        return type_named(output.name) if type_ in ("", "Any") else type_

    def _type(self, selector: Selector, depth: int) -> str:
        if selector not in self._types:
            self._types[selector] = "Any"  # if it depends on itself
            if len(selector) == 2 and depth < _DEEPEST:
                self._types[selector] = self._declared(*selector, depth=depth)
        return self._types[selector]

    def _declared(self, scope: str, name: str, *, depth: int) -> str:
        if scope == "sys":
            return _SYSTEM.get(name, "Any")
        if scope == "env":
            return type_named(kind(self._flow.environment.get(name)))
        output = self._schemas.get(scope, {}).get(name)
        return "Any" if output is None else self.type_of(output, depth)

    def is_certain(self, output: OutputType, reader: NodeId, depth: int = 0) -> bool:
        """Whether an output has a value other than null whenever the reader runs."""
        if output.nullable or not all(self._is_never_null(source, depth + 1) for source in output.sources):
            return False
        return not output.sources or self._exists(output.sources, reader)

    def _is_never_null(self, selector: Selector, depth: int) -> bool:
        """Whether a variable that exists is never null."""
        if selector not in self._never_null:
            self._never_null[selector] = False  # if it depends on itself
            if len(selector) == 2 and depth < _DEEPEST:
                scope, name = selector
                output = self._schemas.get(scope, {}).get(name)
                self._never_null[selector] = output is None or self.is_certain(output, scope, depth)
        return self._never_null[selector]

    def _exists(self, selectors: Iterable[Sequence[str]], reader: NodeId) -> bool:
        """Whether at least one of the variables exists whenever the reader runs: every path from the root to the reader
        leads through a node that outputs one, or that is always followed by such a node."""
        producers: set[NodeId] = set()
        for scope, name in (selector for selector in selectors if len(selector) == 2):
            if (scope == "sys" and name in _SYSTEM) or (scope == "env" and name in self._flow.environment):
                return True
            spec = self._graph.nodes.get(scope)
            if spec is not None and spec.strategy != FAIL_BRANCH:
                producers.add(scope)
        leading = self._leading_to(producers & self._reached([reader], self._before))
        return reader not in self._reached({self._graph.root} - leading, self._after, leading)

    def _leading_to(self, targets: AbstractSet[NodeId]) -> AbstractSet[NodeId]:
        """The nodes that are always followed by one of the targets, and the targets."""
        leading: set[NodeId] = set()
        for node in reversed(self._order):
            spec, edges = self._graph.nodes[node], self._graph.edges_from.get(node, ())
            if node in targets:
                leading.add(node)
            elif not (spec.branching or spec.strategy == FAIL_BRANCH):
                leading |= {node} if any(edge.target in leading for edge in edges) else set()
            else:
                own = self._flow.nodes[node].branches() if spec.branching else (SOURCE,)
                failing = (FAIL_BRANCH,) if spec.strategy == FAIL_BRANCH else ()
                handles = [] if own is None else [*own, *failing]
                leading_handles = {edge.handle for edge in edges if edge.target in leading}
                leading |= {node} if handles and leading_handles.issuperset(handles) else set()
        return leading

    @cached_property
    def _order(self) -> Sequence[NodeId]:
        """The nodes in topological order."""
        waiting = dict(self._graph.in_degree)
        order = [node for node in self._graph.nodes if not waiting.get(node)]
        for node in order:  # which grows
            for edge in self._graph.edges_from.get(node, ()):
                waiting[edge.target] -= 1
                if not waiting[edge.target]:
                    order.append(edge.target)
        return order

    @cached_property
    def _after(self) -> Mapping[NodeId, Sequence[NodeId]]:
        return {node: [edge.target for edge in edges] for node, edges in self._graph.edges_from.items()}

    @cached_property
    def _before(self) -> Mapping[NodeId, Sequence[NodeId]]:
        before: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
        for edge in self._graph.edges:
            before[edge.target].append(edge.source)
        return before

    def _reached(
        self,
        begin: Iterable[NodeId],
        steps: Mapping[NodeId, Sequence[NodeId]],
        without: AbstractSet[NodeId] = frozenset(),
    ) -> AbstractSet[NodeId]:
        reachable = set(begin)
        stack = [*reachable]
        while stack:
            for node in steps.get(stack.pop(), ()):
                if node not in reachable and node not in without:
                    reachable.add(node)
                    stack.append(node)
        return reachable
