"""The built-in node types, one file each. Others are installed as plugins (entry-point group `headrace.nodes`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from headrace.errors import HeadraceError
from headrace.node import Config, Node, Registry

GROUP = "headrace.nodes"

# where the class of each type is: only those that workflows use are imported
_BUILT_IN = {
    "start": "start:Start",
    "trigger-webhook": "trigger_webhook:TriggerWebhook",
    "trigger-schedule": "trigger_schedule:TriggerSchedule",
    "trigger-plugin": "trigger_plugin:TriggerPlugin",
    "end": "end:End",
    "answer": "answer:Answer",
    "assigner": "assigner:Assigner",
    "iteration": "iteration:Iteration",
    "iteration-start": "iteration:IterationStart",
    "loop": "loop:Loop",
    "loop-start": "loop:LoopStart",
    "loop-end": "loop:LoopEnd",
    "llm": "llm:LLM",
    "if-else": "if_else:IfElse",
    "code": "code:Code",
    "template-transform": "template_transform:TemplateTransform",
    "http-request": "http_request:HttpRequestNode",
    "variable-aggregator": "variable_aggregator:VariableAggregator",
    "variable-assigner": "variable_aggregator:OldVariableAssigner",
    "document-extractor": "document_extractor:DocumentExtractor",
    "knowledge-retrieval": "knowledge_retrieval:KnowledgeRetrieval",
    "list-operator": "list_operator:ListOperator",
    "question-classifier": "question_classifier:QuestionClassifier",
    "parameter-extractor": "parameter_extractor:ParameterExtractor",
    "tool": "tool:ToolNode",
    "agent": "agent.node:Agent",
    "agent-app": "agent.chat:AgentChat",
    "human-input": "human_input.node:HumanInput",
}


class _Registry(Mapping[str, type[Node[Config]]]):
    """The node types by name."""

    def __init__(self, plugins: Mapping[str, type[Node[Config]]]) -> None:
        self._plugins = plugins

    def __getitem__(self, name: str) -> type[Node[Config]]:
        if name in self._plugins:
            return self._plugins[name]
        module, _, node_type = _BUILT_IN[name].partition(":")
        return cast("type[Node[Config]]", getattr(import_module(f"{__name__}.{module}"), node_type))

    def __iter__(self) -> Iterator[str]:
        yield from _BUILT_IN
        yield from self._plugins

    def __len__(self) -> int:
        return len(_BUILT_IN) + len(self._plugins)


def registry(plugins: Iterable[EntryPoint] | None = None) -> Registry:
    """All node types by name: the built-in ones and those of plugins. Raises HeadraceError for a plugin
    that cannot be imported, is not a node type, or has the name of another type."""
    types: dict[str, type[Node[Config]]] = {}
    for plugin in plugins if plugins is not None else entry_points(group=GROUP):
        node_type = _load(plugin)
        if node_type.type in types or node_type.type in _BUILT_IN:
            raise HeadraceError(f"plugin {plugin.value}: the node type {node_type.type!r} already exists")
        types[node_type.type] = node_type
    return _Registry(types)


def _load(plugin: EntryPoint) -> type[Node[Config]]:
    try:
        node_type: object = plugin.load()
    except Exception as error:  # a plugin may raise anything
        raise HeadraceError(f"plugin {plugin.value} cannot be imported: {type(error).__name__}: {error}") from error
    if (
        isinstance(node_type, type)
        and issubclass(node_type, Node)
        and getattr(cast("type[object]", node_type), "type", "")
    ):
        return cast("type[Node[Config]]", node_type)
    raise HeadraceError(f"plugin {plugin.value} is not a node type (a subclass of headrace.node.Node with a `type`)")
