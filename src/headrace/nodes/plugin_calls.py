"""Nodes that plugins call back for: a parameter extractor and a question classifier without a workflow around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic import ValidationError

from headrace.errors import HeadraceError
from headrace.ids import new_id
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Config, Context, Node, Result
from headrace.nodes.parameter_extractor import ParameterExtractor
from headrace.nodes.question_classifier import QuestionClassifier
from headrace.ports.plugins import PluginCaller
from headrace.ports.services import Limits, Resources
from headrace.values import Value, to_json

_QUERY = ("caller", "query")


class NodeCalls:
    """Answers the types `node_parameter_extractor` and `node_question_classifier`."""

    def __init__(self, resources: Resources, limits: Limits) -> None:
        self._resources = resources
        self._limits = limits

    async def extract(
        self, plugin: object, request: Mapping[str, Value], caller: PluginCaller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """The outputs of a parameter extractor. HeadraceError if the request is malformed, or the model fails."""
        config = {name: request.get(name) for name in ("parameters", "model", "instruction")}
        yield await self._run(ParameterExtractor, {**config, "query": _QUERY}, request, caller)

    async def classify(
        self, plugin: object, request: Mapping[str, Value], caller: PluginCaller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """The outputs of a question classifier; see `extract`."""
        config = {name: request.get(name) for name in ("classes", "model", "instruction")}
        yield await self._run(QuestionClassifier, {**config, "query_variable_selector": _QUERY}, request, caller)

    async def _run(
        self, type_: type[Node[Any]], config: Mapping[str, Value], request: Mapping[str, Value], caller: PluginCaller
    ) -> Mapping[str, Value]:
        query = request.get("query")
        if not isinstance(query, str) or not query:
            raise HeadraceError("query must be a text that is not empty")
        try:
            node: Node[Config] = type_(type_.Config.model_validate(config))
        except ValidationError as error:
            first = error.errors()[0]
            raise HeadraceError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        context = caller.context
        ctx = Context(
            run=context.run,
            app=context.app,
            user=context.user,
            spec=NodeSpec(_QUERY[0], type_.type),
            variables=Variables({_QUERY[0]: {_QUERY[1]: query}}),
            inputs={},
            resources=self._resources,
            limits=self._limits,
            emit=lambda name, text: None,  # the plugin gets the outputs as a whole
            key=context.key,
            new_id=new_id,
        )
        result = await node.run(ctx)
        assert isinstance(result, Result)
        if result.usage is not None:
            caller.on_usage(result.usage)
        return {
            "inputs": to_json(dict(result.inputs)),
            "outputs": to_json(dict(result.outputs)),
            "process_data": to_json(dict(result.process)),
        }
