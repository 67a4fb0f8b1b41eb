"""Runs one node by itself, as the engine would."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Config, Context, Node, Result
from headrace.ports.services import Limits, Resources
from headrace.values import Selector, Value
from tests.engine.worlds import NOTHING


async def run(
    kind: type[Node[Any]],
    config: Mapping[str, Value],
    scopes: Mapping[str, Mapping[str, Value]] | None = None,
    inputs: Mapping[str, Value] | None = None,
    resources: Resources = NOTHING,
    types: Mapping[Selector, str] | None = None,
) -> Result:
    """What a node of a type and config makes of what came before it."""
    ids = itertools.count(1)
    node: Node[Config] = kind(kind.Config.model_validate(config))
    context = Context(
        run="run",
        app="app",
        user="user",
        spec=NodeSpec("n", kind.type),
        variables=Variables(scopes or {}),
        inputs=inputs or {},
        resources=resources,
        limits=Limits(),
        emit=lambda name, text: None,
        key="run/n/0",
        new_id=lambda: f"id-{next(ids)}",
        types=types or {},
    )
    result = await node.run(context)
    assert isinstance(result, Result)
    return result
