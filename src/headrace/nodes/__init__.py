"""The built-in node types, one file each. Others are installed as plugins (entry-point group `headrace.nodes`)."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from headrace.errors import HeadraceError
from headrace.node import Config, Node, Registry

GROUP = "headrace.nodes"


def registry(plugins: Iterable[EntryPoint] | None = None) -> Registry:
    """All node types by name: the built-in ones and those of plugins. Raises HeadraceError for a plugin
    that cannot be imported, is not a node type, or has the name of another type."""
    from headrace.nodes.agent.chat import AgentChat
    from headrace.nodes.agent.node import Agent
    from headrace.nodes.answer import Answer
    from headrace.nodes.assigner import Assigner
    from headrace.nodes.code import Code
    from headrace.nodes.document_extractor import DocumentExtractor
    from headrace.nodes.end import End
    from headrace.nodes.http_request import HttpRequestNode
    from headrace.nodes.human_input.node import HumanInput
    from headrace.nodes.if_else import IfElse
    from headrace.nodes.iteration import Iteration, IterationStart
    from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval
    from headrace.nodes.list_operator import ListOperator
    from headrace.nodes.llm import LLM
    from headrace.nodes.loop import Loop, LoopEnd, LoopStart
    from headrace.nodes.parameter_extractor import ParameterExtractor
    from headrace.nodes.question_classifier import QuestionClassifier
    from headrace.nodes.start import Start
    from headrace.nodes.template_transform import TemplateTransform
    from headrace.nodes.tool import ToolNode
    from headrace.nodes.trigger_plugin import TriggerPlugin
    from headrace.nodes.trigger_schedule import TriggerSchedule
    from headrace.nodes.trigger_webhook import TriggerWebhook
    from headrace.nodes.variable_aggregator import OldVariableAssigner, VariableAggregator

    built_in = (
        Start,
        TriggerWebhook,
        TriggerSchedule,
        TriggerPlugin,
        End,
        Answer,
        Assigner,
        Iteration,
        IterationStart,
        Loop,
        LoopStart,
        LoopEnd,
        LLM,
        IfElse,
        Code,
        TemplateTransform,
        HttpRequestNode,
        VariableAggregator,
        OldVariableAssigner,
        DocumentExtractor,
        KnowledgeRetrieval,
        ListOperator,
        QuestionClassifier,
        ParameterExtractor,
        ToolNode,
        Agent,
        AgentChat,
        HumanInput,
    )
    types: dict[str, type[Node[Config]]] = {}
    for node_type in built_in:
        types[node_type.type] = node_type  # pyright: ignore[reportArgumentType]  # Node is invariant in its config
    for plugin in plugins if plugins is not None else entry_points(group=GROUP):
        node_type = _load(plugin)
        if node_type.type in types:
            raise HeadraceError(f"plugin {plugin.value}: the node type {node_type.type!r} already exists")
        types[node_type.type] = node_type
    return types


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
