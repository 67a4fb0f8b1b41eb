"""Workflow files as the commands look at them, without running them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace.cli.shared import log_to_stderr, settings_of
from headrace.errors import LoadError, Problem

if TYPE_CHECKING:
    from headrace.kernel.graph import NodeSpec
    from headrace.main import Service
    from headrace.node import Flow


@asynccontextmanager
async def inspecting() -> AsyncGenerator[Service]:
    """A service that runs nothing and leaves nothing behind, with the plugins that are installed here."""
    from headrace.main import service

    with tempfile.TemporaryDirectory(prefix="headrace-") as data:
        settings = settings_of()
        settings = settings.model_copy(update={"data": Path(data), "plugins": settings.plugin_folder})
        log_to_stderr("WARNING")
        async with service(settings, memory=True, work=False) as running:
            yield running


def inspected(running: Service, file: Path) -> tuple[Flow | None, Sequence[Problem]]:
    """A file's workflow, if it can be loaded, and the problems of the file."""
    from headrace.dsl.load import inspect
    from headrace.dsl.workflow_file import read_workflow

    try:
        return inspect(read_workflow(file), running.apps.registry, str(file))
    except LoadError as error:
        return None, error.problems


def models_of(spec: NodeSpec) -> list[tuple[str, str]]:
    """(provider, model) of the models that a node's data names."""
    return list(dict.fromkeys(_models(spec.config)))


def _models(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [model for item in cast("list[Any]", value) for model in _models(item)]
    if not isinstance(value, Mapping):
        return []
    config = cast("Mapping[str, Any]", value)
    provider, name = config.get("provider"), config.get("name") or config.get("model")
    if isinstance(provider, str) and provider and isinstance(name, str) and "completion_params" in config:
        return [(provider, name)]
    return [model for item in config.values() for model in _models(item)]
