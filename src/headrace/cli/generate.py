"""`headrace generate`: a typed Python module for one workflow."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.shared import BadUsage


@click.command(short_help="Write a typed Python module that calls a workflow.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The module to write.  [default: stdout]")
@click.option("--async", "asynchronous", is_flag=True, help="Add twins of the functions for AsyncClient.")
def generate(file: Path, output: Path | None, asynchronous: bool) -> None:
    """Writes a Python module for the workflow in FILE, to be used with headrace-client.

    It has models of the inputs (from the start node's form) and the outputs (from the end nodes), and functions that
    call the workflow: `run` and `stream`; for chats `send` and `stream`; for completions `complete` and `stream`.

    The same file makes the same module. An OUTPUT that is there already is written over only if it was made this way.
    """
    from headrace.cli.generating import MARK, form_of, module
    from headrace.dsl.load import load
    from headrace.main import read_workflow
    from headrace.nodes import registry

    flow = load(read_workflow(file), registry(), str(file))
    form = form_of(flow)
    if form is None:
        begins = flow.graph.nodes[flow.graph.root].type
        raise BadUsage(f"{file}: it starts with a {begins}, not with a call, so it has no form")
    source = module(flow, form, file.name, asynchronous=asynchronous)
    if output is None:
        click.echo(source, nl=False)
        return
    if output.exists() and MARK not in output.read_text("utf-8", "replace"):
        raise BadUsage(f"{output} is there already, and was not made by `headrace generate`")
    output.write_text(source, "utf-8", newline="\n")
