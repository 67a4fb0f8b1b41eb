"""`headrace plugins`: installs Dify's plugins, and says what workflows lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.shared import (
    FAILED,
    BadUsage,
    data_option,
    log_to_stderr,
    printable,
    say,
    settings_of,
    table,
    unique_paths,
)
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.factories import PluginManager
    from headrace.ports.plugins import PluginDescription, PluginNeed


@click.group()
def plugins() -> None:
    """Installs Dify's plugins, and says which ones workflows lack.

    They are in the folder `plugins` of the data folder, or in HEADRACE_PLUGINS.
    """


@plugins.command(short_help="Installs plugins from packages, folders or a marketplace.")
@click.argument("sources", nargs=-1, metavar="FILE|FOLDER|URL|AUTHOR/NAME[@VERSION]...")
@click.option(
    "--for",
    "flows",
    multiple=True,
    metavar="FLOW",
    type=click.Path(path_type=Path),
    help="Install what this workflow file lacks, by the exact identifiers in it. Repeatable.",
)
@click.option("--unsigned", is_flag=True, help="Accept a package that no known key has signed. For one package only.")
@data_option
def add(sources: tuple[str, ...], flows: tuple[Path, ...], unsigned: bool, data: Path | None) -> None:
    """Installs plugins from packages (.difypkg), folders, or the marketplace of HEADRACE_MARKETPLACE_URL.

    Each gets an environment of its own, with the packages that it locks. That takes uv, and Python 3.12 or 3.13.
    """
    manager = _manager(data)
    all_sources = [*sources]
    for flow in unique_paths(flows):
        all_sources += [need.plugin for need in _needs(manager, flow) if not need.replaced and not need.exact]
    if not all_sources and not flows:
        raise BadUsage("name a package, a plugin, or a workflow file with --for")
    if unsigned and len(all_sources) != 1:
        raise BadUsage("--unsigned is for one package at a time")
    failed = False
    for source in dict.fromkeys(all_sources):
        try:
            _show_added(manager.add(source, unsigned=unsigned))
        except HeadraceError as error:
            failed = True
            say(f"Error: {error}")
    if not all_sources:
        say("Nothing is missing.")
    if failed:
        click.get_current_context().exit(FAILED)


@plugins.command("list")
@data_option
def list_(data: Path | None) -> None:
    """Lists the installed plugins."""
    rows = [("PLUGIN", "VERSION", "SIGNED BY", "PYTHON", "CHECKSUM")]
    for plugin in _manager(data).plugins.all():
        marker = plugin.marker
        python = marker.python if plugin.python.exists() else f"{marker.python} (missing: add it again)"
        rows.append((plugin.id.plugin, plugin.id.version, marker.signature or "-", python, plugin.id.checksum[:12]))
    if len(rows) == 1:
        say("No plugins are installed.")
    else:
        click.echo(table(rows))


@plugins.command()
@click.argument("names", nargs=-1, required=True, metavar="AUTHOR/NAME[:VERSION]...")
@data_option
def remove(names: tuple[str, ...], data: Path | None) -> None:
    """Removes installed plugins. Servers that run one keep it until they are restarted."""
    manager = _manager(data)
    for name in names:
        click.echo(f"Removed {manager.remove(name)}.")


@plugins.command()
@click.argument("flows", nargs=-1, required=True, metavar="FLOW...", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Another version than the one that a file names counts as missing.")
@data_option
def check(flows: tuple[Path, ...], strict: bool, data: Path | None) -> None:
    """Says which plugins workflow files lack, by their exact identifiers.

    Exits with 1 if any are missing.
    """
    manager = _manager(data)
    complete = True
    for flow in unique_paths(flows):
        needs = _needs(manager, flow)
        for need in needs:
            click.echo(f"{flow}: {need.plugin} {_state(need, strict)}")
        if not needs:
            click.echo(f"{flow}: needs no plugins")
        complete = complete and all(_is_met(need, strict) for need in needs)
    if not complete:
        click.get_current_context().exit(FAILED)


@plugins.command()
@click.argument("name", metavar="FILE|FOLDER|AUTHOR/NAME[:VERSION]")
@data_option
def info(name: str, data: Path | None) -> None:
    """Describes an installed plugin, or a package before it is installed.

    The description has the author, the permissions, the signature, and the environment variables of its credentials.
    """
    plugin = _manager(data).describe(name)
    rows = [
        ("plugin", plugin.plugin),
        ("label", plugin.label),
        ("description", plugin.description),
        ("author", plugin.author),
        ("signed by", plugin.signer or "no known key"),
        ("permissions", plugin.permissions),
        *([("written for", f"Dify {plugin.minimum_dify_version}")] if plugin.minimum_dify_version else []),
        ("installed", f"{plugin.folder} (Python {plugin.python})" if plugin.folder else "no"),
        *([("note", plugin.note)] if plugin.note else []),
    ]
    rows += [(f"{kind}: {provider}", ", ".join(names)) for kind, provider, names in plugin.provides]
    click.echo(table(rows))
    if plugin.credentials:
        click.echo()
        click.echo(table([("VARIABLE", "", "WHAT IT IS", "WHERE TO GET IT"), *_credential_rows(plugin)]))


def _manager(data: Path | None) -> PluginManager:
    from headrace.factories import plugin_manager

    log_to_stderr("WARNING")
    return plugin_manager(settings_of(data=data), say)


def _needs(manager: PluginManager, flow: Path) -> Sequence[PluginNeed]:
    from headrace.dsl.plugin_uses import plugin_uses
    from headrace.dsl.workflow_file import read_workflow

    return manager.needs(plugin_uses(read_workflow(flow), str(flow)))


def _is_met(need: PluginNeed, strict: bool) -> bool:
    return bool(need.replaced) or (bool(need.installed) and not need.lacks and (need.exact or not strict))


def _state(need: PluginNeed, strict: bool) -> str:
    if need.replaced:
        return f"is not needed: {need.replaced}"
    if not need.installed:
        return "is missing"
    if need.lacks:
        return f"is missing: {need.installed} is installed, but lacks {', '.join(need.lacks)}"
    if need.exact:
        return "is installed"
    return f"is missing: {need.installed} is another version" if strict else f"is replaced by {need.installed}"


def _show_added(plugin: PluginDescription) -> None:
    signature = f"signed by {plugin.signer}" if plugin.signer else "not signed"
    click.echo(f"Installed {plugin.plugin}, by {plugin.author}, {signature}.")
    click.echo(printable(f"  It may use: {plugin.permissions}."))
    unset = [variable.name for variable in plugin.credentials if variable.required and not variable.is_set]
    if unset:
        click.echo(printable(f"  It needs credentials: {', '.join(dict.fromkeys(unset))}."))


def _credential_rows(plugin: PluginDescription) -> Iterable[tuple[str, str, str, str]]:
    for variable in plugin.credentials:
        state = "set" if variable.is_set else "required" if variable.required else ""
        label = f"{variable.label} (of an OAuth login)" if variable.oauth else variable.label
        yield variable.name, state, label, variable.url
