"""What workflow files need of plugins, and what of that is installed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from headrace.adapters.models.providers import FOREIGN, last_part
from headrace.adapters.plugins.identifiers import PluginId, plugin_of_models, plugin_path
from headrace.adapters.plugins.installed import InstalledPlugin, InstalledPlugins
from headrace.ports.plugins import PluginNeed, PluginUse


def needs(
    uses: Iterable[PluginUse],
    plugins: InstalledPlugins,
    own_tools: Collection[str],
    own_strategies: Collection[str],
) -> list[PluginNeed]:
    """Each plugin once, in the order of the file. `own_tools` are providers of Dify's tools that need no plugin,
    `own_strategies` the ids of such providers of agent strategies."""
    uses_by_plugin: dict[str, tuple[PluginId, list[PluginUse]]] = {}
    for use in uses:
        plugin = _plugin(use)
        if plugin is None or (use.kind == "tool" and _is_own_tool(use, own_tools)):
            continue
        first, places = uses_by_plugin.get(plugin.plugin, (plugin, []))
        uses_by_plugin[plugin.plugin] = (first if first.checksum else plugin, [*places, use])
    return [_need(plugin, places, plugins, own_strategies) for plugin, places in uses_by_plugin.values()]


def _plugin(use: PluginUse) -> PluginId | None:
    if use.identifier and (plugin := PluginId.match(use.identifier)) is not None:
        return plugin
    if use.kind == "model":
        return PluginId.match(plugin_of_models(use.provider).plugin)
    if use.provider == "builtin":  # in some generated files; Dify has no such provider
        return None
    author, name, _ = plugin_path(use.provider)
    return PluginId.match(f"{author}/{name}")


def _is_own_tool(use: PluginUse, own_tools: Collection[str]) -> bool:
    author, _, provider = plugin_path(use.provider)
    return author == "langgenius" and provider in own_tools


def _need(
    plugin: PluginId, places: list[PluginUse], plugins: InstalledPlugins, own_strategies: Collection[str]
) -> PluginNeed:
    kinds = {use.kind for use in places} - {"dependency"}
    if kinds == {"model"} and not any(last_part(use.provider) in FOREIGN for use in places if use.kind == "model"):
        return PluginNeed(str(plugin), "Headrace calls its models itself")
    if kinds == {"strategy"} and all(use.provider in own_strategies for use in places if use.kind == "strategy"):
        return PluginNeed(str(plugin), "Headrace has its strategies itself")
    existing = plugins.nearest(plugin)
    if existing is None or not existing.python.exists():
        return PluginNeed(str(plugin))
    tools = [use for use in places if use.kind == "tool"]
    exact = plugins.find(plugin) is not None
    return PluginNeed(str(plugin), installed=str(existing.id), exact=exact, lacks=_lacking(tools, existing))


def _lacking(tools: list[PluginUse], plugin: InstalledPlugin) -> list[str]:
    providers = plugin.declarations.tools
    lacking: list[str] = []
    for use in tools:
        provider = providers.get(plugin_path(use.provider)[2])
        if provider is None or use.tool not in provider.tools:
            lacking.append(use.tool)
    return lacking
