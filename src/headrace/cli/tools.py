"""`headrace tools`: the tools that workflows can call here, and one of them called by hand."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from headrace.cli.inputs import named
from headrace.cli.shared import BadUsage, log_to_stderr, say, settings_of, table, wait_for
from headrace.content.filetypes import guess_type
from headrace.errors import NodeError

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.node import Config, Node
    from headrace.ports.services import ToolParameter, ToolReference, ToolSpec
    from headrace.values import Value


@click.group()
def tools() -> None:
    """Lists the tools that workflows can call here, and calls one.

    NAME is PROVIDER/TOOL, as in time/current_time.
    """


@tools.command("list", short_help="Lists the tools that are available here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the parameters of each tool.")
def list_(as_json: bool) -> None:
    """Lists the tools: those of Dify itself, of installed plugins, and of HEADRACE_TOOLS."""

    async def work(running: Service) -> None:
        tools = await _tools(running)
        if as_json:
            output = [
                {
                    "name": name,
                    "provider_type": reference.provider_type,
                    "description": spec.description,
                    "parameters": [_parameter_json(parameter) for parameter in spec.parameters],
                    "missing": running.resources.tools.missing(reference),
                }
                for name, (reference, spec) in tools.items()
            ]
            click.echo(json.dumps(output, ensure_ascii=False, indent=2))
            return
        rows = [("NAME", "TYPE", "PARAMETERS")]
        for name, (reference, spec) in tools.items():
            parameters = (f"{parameter.name}{'*' if parameter.required else ''}" for parameter in spec.parameters)
            rows.append((name, reference.provider_type, " ".join(parameters)))
        click.echo(table(rows))
        missing = (running.resources.tools.missing(reference) for reference, _ in tools.values())
        for message in dict.fromkeys(filter(None, missing)):
            say(message)

    _with_tools(work)


@tools.command()
@click.argument("name")
@click.option(
    "-p",
    "--parameter",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter or a setting. Objects and lists are given as JSON, files as @PATH.",
)
def call(name: str, pairs: tuple[str, ...]) -> None:
    """Calls the tool NAME, and prints what a tool node would put out, as JSON."""

    async def work(running: Service) -> None:
        reference, spec = await _tool(running, name)
        arguments = dict(named(pairs, "-p"))
        parameters_by_name = {parameter.name: parameter for parameter in spec.parameters}
        if not spec.open and (unknown := arguments.keys() - parameters_by_name.keys()):
            names = ", ".join(parameters_by_name) or "none"
            raise BadUsage(f"-p {', '.join(sorted(unknown))}: the parameters of '{name}' are: {names}")
        if absent := [
            parameter.name for parameter in spec.parameters if parameter.required and parameter.name not in arguments
        ]:
            raise BadUsage(f"'{name}' needs -p {'=... -p '.join(absent)}=...")
        files = {parameter.name for parameter in spec.parameters if parameter.type in ("file", "files", "system-files")}
        values = {key: await _file(running, value) if key in files else value for key, value in arguments.items()}
        click.echo(json.dumps(await _outputs(running, reference, values), ensure_ascii=False, indent=2))

    _with_tools(work)


async def _tools(running: Service) -> Mapping[str, tuple[ToolReference, ToolSpec]]:
    """The tools by PROVIDER/TOOL."""
    from headrace.ports.services import ToolReference

    return {
        f"{provider}/{spec.name}": (ToolReference(type_, provider, provider, spec.name), spec)
        for type_, providers in (await running.resources.tools.specs()).items()
        for provider, specs in providers.items()
        for spec in specs
    }


async def _tool(running: Service, name: str) -> tuple[ToolReference, ToolSpec]:
    """The tool of this name. If it is one of an MCP server, no other server is started or asked."""
    from headrace.ports.services import ToolReference

    provider, _, tool_name = name.partition("/")
    reference = ToolReference("mcp", provider, provider, tool_name)
    if running.resources.tools.missing(reference) is None:
        try:
            return reference, (await running.resources.tools.find(reference)).spec
        except NodeError as error:  # another provider may have the same name
            if error.kind != "ToolNotFoundError":
                raise
    tools = await _tools(running)
    if name not in tools:
        close = get_close_matches(name, tools)
        hint = f"did you mean {', '.join(close)}?" if close else "`headrace tools list` lists them"
        raise BadUsage(f"there is no tool '{name}'; {hint}")
    return tools[name]


async def _outputs(running: Service, reference: ToolReference, values: Mapping[str, Value]) -> Mapping[str, Value]:
    """The outputs of a tool node that calls a tool with these values."""
    from headrace.engine.attempts import attempt
    from headrace.ids import new_id
    from headrace.kernel.graph import NodeSpec
    from headrace.kernel.variables import Variables
    from headrace.node import Context, Result
    from headrace.nodes.tool import ToolConfig, ToolNode
    from headrace.values import to_json

    config = ToolConfig.model_validate(
        {
            "provider_type": reference.provider_type,
            "provider_id": reference.provider_id,
            "tool_name": reference.tool_name,
            "tool_parameters": {name: {"type": "variable", "value": ["given", name]} for name in values},
        }
    )
    run = new_id()
    context = Context(
        run=run,
        app="",
        user="cli",
        spec=NodeSpec("tool", ToolNode.type),
        variables=Variables({"given": values}),
        inputs={},
        resources=running.resources,
        limits=running.settings.limits,
        emit=lambda name, text: None,
        key=f"{run}/tool/0",
        new_id=new_id,
    )
    node = cast("Node[Config]", ToolNode(config))
    outcome = await attempt(node, context, "tool")
    if not isinstance(outcome, Result):
        raise outcome if isinstance(outcome, NodeError) else NodeError("A tool cannot pause.", "ToolInvokeError")
    return to_json(dict(outcome.outputs))


async def _file(running: Service, value: str) -> Value:
    if not value.startswith("@"):
        raise BadUsage(f"{value}: a file is given as @PATH")
    path = Path(value[1:])
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise BadUsage(f"{path} cannot be read: {error.strerror}") from error
    return await running.files.save(content, filename=path.name, mime_type=guess_type(path.name))


def _parameter_json(parameter: ToolParameter) -> dict[str, Any]:
    return {key: value for key, value in asdict(parameter).items() if value not in (None, "", ())}


def _with_tools(work: Callable[[Service], Awaitable[None]]) -> None:
    """Does some work with a Headrace that keeps nothing but files."""
    from headrace.main import service

    async def started() -> None:
        with tempfile.TemporaryDirectory(prefix="headrace-") as temporary:
            settings = settings_of()
            if "data" not in settings.model_fields_set:
                settings = settings.model_copy(update={"data": Path(temporary), "plugins": settings.plugin_folder})
            log_to_stderr("WARNING")
            async with service(settings, memory=True, work=False) as running:
                await work(running)

    wait_for(started())
