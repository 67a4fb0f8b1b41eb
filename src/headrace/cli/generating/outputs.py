"""What a workflow puts out, and of what types: as its end nodes say, and the nodes that they take it from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import cast

from headrace.cli.generating.text import FieldSpec, name_of, union
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph, NodeSpec
from headrace.kernel.path import NodeId
from headrace.node import Flow
from headrace.nodes.code import CodeConfig
from headrace.nodes.end import EndConfig
from headrace.nodes.parameter_extractor import ParameterExtractorConfig
from headrace.nodes.start import StartConfig
from headrace.nodes.variable_aggregator import VariableAggregatorConfig
from headrace.values import Value, kind

FILE = "OutputFile"
_DEEPEST = 50  # aggregators that take from aggregators
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
_FORM: Mapping[str, str] = {
    "text-input": "str",
    "paragraph": "str",
    "select": "str",
    "number": "int | float",
    "checkbox": "bool",
    "json_object": _OBJECT,
    "file": FILE,
    "file-list": f"list[{FILE}]",
}
_KNOWN: Mapping[str, Mapping[str, str]] = {
    "llm": {"text": "str", "structured_output": _OBJECT, "usage": _OBJECT},
    "template-transform": {"output": "str"},
    "http-request": {"body": "str", "status_code": "int", "headers": _OBJECT, "files": f"list[{FILE}]"},
    "question-classifier": {"class_name": "str"},
    "knowledge-retrieval": {"result": f"list[{_OBJECT}]"},
    "iteration": {"output": "list[Any]"},
    "parameter-extractor": {"__is_success": "int"},
    "list-operator": {"result": "list[Any]"},
    "tool": {"text": "str", "json": "list[Any]", "files": f"list[{FILE}]"},
}
"""What nodes of each type always put out."""
_SYSTEM: Mapping[str, str] = {
    "files": f"list[{FILE}]",
    **dict.fromkeys(("user_id", "app_id", "workflow_id", "workflow_run_id"), "str"),
    "timestamp": "int",
}


def type_named(name: Value) -> str:
    """The Python type of what Dify calls string, number, array[object] ...; Any where it says nothing."""
    if not isinstance(name, str):
        return "Any"
    if name.startswith("array[") and name.endswith("]"):
        return f"list[{_NAMED.get(name[6:-1], 'Any')}]"
    return _NAMED.get(name, "Any")


def output_fields(flow: Flow) -> list[FieldSpec]:
    """The outputs of all end nodes together. One that some run may lack, or have no value for, may be None."""
    typing = _Typing(flow)
    configs = [(spec, flow.nodes[spec.id].config) for spec in flow.graph.nodes.values()]
    ends = [(spec, config) for spec, config in configs if isinstance(config, EndConfig)]
    found: dict[str, list[str]] = {}
    for spec, config in ends:
        written = _written(spec)
        for output in config.outputs:
            told = typing.of(output.value_selector)
            if told == "Any":
                told = type_named(written.get(output.variable))
            if not typing.certain(output.value_selector, spec.id):
                told = union([told, "None"])
            found.setdefault(output.variable, []).append(told)
    taken: list[str] = []
    fields: list[FieldSpec] = []
    for wire, types in found.items():
        name = name_of(wire, taken)
        taken.append(name)
        told = union([*types, *(["None"] if len(types) < len(ends) else [])])
        optional = told == "Any" or told.endswith("None")
        fields.append(FieldSpec(name, wire, told, default="None" if optional else None))
    return fields


def _written(end: NodeSpec) -> Mapping[str, Value]:
    """What the file says of the type of each output; old files say nothing."""
    listed = cast("list[Mapping[str, Value]]", end.config.get("outputs") or [])
    return {str(each.get("variable")): each.get("value_type") for each in listed}


class _Typing:
    """What is known of the values that end nodes take."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._graph: Graph = flow.graph
        self._types: dict[tuple[str, ...], str] = {}
        self._filled: dict[tuple[str, ...], bool] = {}

    def of(self, selector: Sequence[str], depth: int = 0) -> str:
        """The type of a variable, when it has a value."""
        key = tuple(selector)
        if key not in self._types:
            self._types[key] = "Any"  # for one that is taken from itself
            self._types[key] = self._of(*key, depth=depth) if len(key) == 2 and depth < _DEEPEST else "Any"
        return self._types[key]

    def _of(self, scope: str, name: str, *, depth: int) -> str:
        flow = self._flow
        if scope == "sys":
            return _SYSTEM.get(name, "Any")
        if scope == "env":
            return type_named(kind(flow.environment.get(name)))
        node, spec = flow.nodes.get(scope), self._graph.nodes.get(scope)
        if node is None or spec is None:
            return "Any"
        match node.config:
            case StartConfig(variables=variables):
                return next((_FORM.get(each.type, "Any") for each in variables if each.variable == name), "Any")
            case CodeConfig(outputs=outputs) if name in outputs:
                return type_named(outputs[name].type)
            case ParameterExtractorConfig(parameters=parameters) if any(each.name == name for each in parameters):
                return next(type_named(each.type) for each in parameters if each.name == name)
            case VariableAggregatorConfig() as config if name == "output" and _alone(config):
                return union(self.of(each, depth + 1) for each in config.variables) or "Any"
            case _:
                return _KNOWN.get(spec.type, {}).get(name, "Any")

    def certain(self, selector: Sequence[str], reader: NodeId, depth: int = 0) -> bool:
        """Whether a variable is there, and is not None, whenever the reader runs."""
        return self._filled_in(selector, depth) and self._there([selector], reader)

    def _filled_in(self, selector: Sequence[str], depth: int) -> bool:
        """Whether a variable that is there is never None."""
        key = tuple(selector)
        if key not in self._filled:
            self._filled[key] = False  # for one that is taken from itself
            self._filled[key] = len(key) == 2 and depth < _DEEPEST and self._never_none(*key, depth=depth)
        return self._filled[key]

    def _never_none(self, scope: str, name: str, *, depth: int) -> bool:
        node = self._flow.nodes.get(scope)
        match None if node is None else node.config:
            case StartConfig(variables=variables):
                return any(each.required for each in variables if each.variable == name)
            case VariableAggregatorConfig(variables=sources) as config if _alone(config):
                return all(self._filled_in(each, depth + 1) for each in sources) and self._there(sources, scope)
            case VariableAggregatorConfig():
                return False
            case _:
                return True

    def _there(self, selectors: Iterable[Sequence[str]], reader: NodeId) -> bool:
        """Whether one of the variables at least is there whenever the reader runs: every way from the graph's root to
        the reader leads through a node that puts one out, or that is always followed by such a node."""
        makers: set[NodeId] = set()
        for scope, name in (each for each in selectors if len(each) == 2):
            if (scope == "sys" and name in _SYSTEM) or (scope == "env" and name in self._flow.environment):
                return True
            spec = self._graph.nodes.get(scope)
            if spec is not None and spec.strategy != FAIL_BRANCH:
                makers.add(scope)
        leading = self._leading_to(makers & self._reached([reader], self._before))
        return reader not in self._reached({self._graph.root} - leading, self._after, leading)

    def _leading_to(self, makers: AbstractSet[NodeId]) -> AbstractSet[NodeId]:
        """The nodes whose run makes sure that one of the makers runs, too."""
        found: set[NodeId] = set()
        for node in reversed(self._order):
            spec, edges = self._graph.nodes[node], self._graph.out.get(node, ())
            if node in makers:
                found.add(node)
            elif not (spec.branching or spec.strategy == FAIL_BRANCH):
                found |= {node} if any(edge.target in found for edge in edges) else set()
            else:
                own = self._flow.nodes[node].handles() if spec.branching else (SOURCE,)
                failing = (FAIL_BRANCH,) if spec.strategy == FAIL_BRANCH else ()
                handles = [] if own is None else [*own, *failing]
                led = {edge.handle for edge in edges if edge.target in found}
                found |= {node} if handles and led.issuperset(handles) else set()
        return found

    @cached_property
    def _order(self) -> Sequence[NodeId]:
        """The nodes, each after those that lead to it."""
        waiting = dict(self._graph.arity)
        order = [node for node in self._graph.nodes if not waiting.get(node)]
        for node in order:  # grows meanwhile
            for edge in self._graph.out.get(node, ()):
                waiting[edge.target] -= 1
                if not waiting[edge.target]:
                    order.append(edge.target)
        return order

    @cached_property
    def _after(self) -> Mapping[NodeId, Sequence[NodeId]]:
        return {node: [edge.target for edge in edges] for node, edges in self._graph.out.items()}

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
        reached = set(begin)
        ways = [*reached]
        while ways:
            for node in steps.get(ways.pop(), ()):
                if node not in reached and node not in without:
                    reached.add(node)
                    ways.append(node)
        return reached


def _alone(config: VariableAggregatorConfig) -> bool:
    return config.advanced_settings is None or not config.advanced_settings.group_enabled
