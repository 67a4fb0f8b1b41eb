"""The node types that Headrace brings; one file each. Others come through the entry-point group `headrace.nodes`.

Nothing is registered at import: whoever composes a Headrace asks for the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from headrace.errors import HeadraceError
from headrace.node import Config, Node, Registry

GROUP = "headrace.nodes"


def registry(plugins: Iterable[EntryPoint] | None = None) -> Registry:
    """All node types by name: those of this package and those of installed plugins. Raises HeadraceError for a plugin
    that cannot be imported, is not a node type, or has the name of another type."""
    from headrace.nodes.answer import Answer
    from headrace.nodes.assigner import Assigner
    from headrace.nodes.code import Code
    from headrace.nodes.document_extractor import DocumentExtractor
    from headrace.nodes.end import End
    from headrace.nodes.http_request import HttpRequestNode
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
    from headrace.nodes.variable_aggregator import OldVariableAssigner, VariableAggregator

    own = (
        Start,
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
    )
    known: dict[str, type[Node[Config]]] = {}
    for each in own:
        known[each.type] = each  # pyright: ignore[reportArgumentType]  # a type's config is its own affair
    for plugin in plugins if plugins is not None else entry_points(group=GROUP):
        made = _load(plugin)
        if made.type in known:
            raise HeadraceError(f"plugin {plugin.value}: the node type {made.type!r} already exists")
        known[made.type] = made
    return known


def _load(plugin: EntryPoint) -> type[Node[Config]]:
    try:
        made: object = plugin.load()
    except Exception as error:  # whatever a plugin does wrong, it is named
        raise HeadraceError(f"plugin {plugin.value} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(made, type) and issubclass(made, Node) and getattr(cast("type[object]", made), "type", ""):
        return cast("type[Node[Config]]", made)
    raise HeadraceError(f"plugin {plugin.value} is not a node type (a subclass of headrace.node.Node with a `type`)")
