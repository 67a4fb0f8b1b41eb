"""`headrace show`: what a workflow file has, and what it needs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.apps.requirements import missing_requirements, named_nodes
from headrace.cli.inputs import declared, describe, how_to_pass
from headrace.cli.inspection import inspected, inspecting, models_of
from headrace.cli.shared import printable, table, wait_for
from headrace.errors import LoadError, Problem

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.node import Flow


@click.command(short_help="Shows the inputs, nodes and models of a workflow file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Shows a workflow FILE: its inputs and how they are given, its nodes and models, and what it lacks here.

    Exits with 0, or with 2 if the file cannot be loaded.
    """

    async def work() -> dict[str, Any]:
        async with inspecting() as running:
            flow, problems = inspected(running, file)
            if flow is None:
                raise LoadError(str(file), problems)
            return _described(file, flow, problems, running)

    description = wait_for(work())
    click.echo(json.dumps(description, ensure_ascii=False, indent=2) if as_json else _text(description))


def _described(file: Path, flow: Flow, problems: Sequence[Problem], running: Service) -> dict[str, Any]:
    from headrace.conversations.messages import MESSAGES
    from headrace.nodes.start import Start

    quoted_path = shlex.quote(click.format_filename(file))
    has_form = isinstance(flow.nodes[flow.graph.root], Start)
    nodes, names = [*flow.graph.all_nodes()], named_nodes(flow)
    models: dict[tuple[str, str], list[str]] = {}
    for spec in nodes:
        for model in models_of(spec):
            models.setdefault(model, []).append(names[spec.id])
    return {
        "file": click.format_filename(file),
        "name": flow.name,
        "mode": flow.mode,
        "description": flow.description,
        "command": f"headrace {'chat' if flow.mode in MESSAGES else 'run'} {quoted_path}" if has_form else None,
        "inputs": [
            {
                "name": name,
                "type": field["type"],
                "required": bool(field.get("required")),
                "about": describe(field),
                "option": how_to_pass(field),
            }
            for name, field in (declared(flow) if has_form else {}).items()
        ],
        "nodes": [{"id": spec.id, "type": spec.type, "title": spec.title, "inside": spec.parent} for spec in nodes],
        "models": [{"provider": provider, "model": name, "nodes": at} for (provider, name), at in models.items()],
        "lacks": [str(problem) for problem in (*problems, *missing_requirements(flow, running.resources))],
    }


def _text(description: dict[str, Any]) -> str:
    lines = [printable(f"{description['name']} ({description['mode']})")]
    if description["description"]:
        lines += [printable(" ".join(description["description"].split()))]
    if description["command"]:
        lines += ["", description["command"]]
    inputs = [
        (f"  {field['option']}", "required" if field["required"] else "", field["about"])
        for field in description["inputs"]
    ]
    nodes = [(f"  {node['id']}", node["type"], node["title"]) for node in description["nodes"]]
    models = [(f"  {model['provider']}", model["model"], ", ".join(model["nodes"])) for model in description["models"]]
    lacks = [(f"  {problem}",) for problem in description["lacks"]]
    for title, rows in (("Inputs", inputs), ("Nodes", nodes), ("Models", models), ("Lacks", lacks)):
        if rows:
            lines += ["", f"{title}:", table(rows)]
    return "\n".join(lines)
