"""The plugins that are installed here.

<folder>/<author>/<name>/<version>-<12 digits of the checksum>/
    installed.json   written last: without it, nothing here is used
    source/          the package as it is
    environment/     the virtual environment that runs it
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from headrace.adapters.plugins.declarations import Declarations, Provider
from headrace.adapters.plugins.identifiers import PluginId, plugin_of, plugin_path
from headrace.adapters.plugins.manifest import Manifest
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.ports.services import STRATEGY, ToolReference

MARKER, SOURCE, ENVIRONMENT = "installed.json", "source", "environment"


@frozen
class Marker:
    """What was noted when a plugin was installed. `signature` is the name of the key that signed the package, "" if it
    was not signed; `python` the version of its interpreter; `note` what this installation lacks."""

    plugin: str
    signature: str
    python: str
    note: str = ""

    @classmethod
    def read(cls, folder: Path) -> Marker:
        try:
            return cls(**json.loads((folder / MARKER).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise HeadraceError(f"{folder} is not the folder of an installed plugin: {error}") from error

    def write(self, folder: Path) -> None:
        (folder / MARKER).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


class InstalledPlugin:
    """A plugin that is installed: its source in `folder`, and `python`, the interpreter of its environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marker = Marker.read(path)
        self.id = PluginId.parse(self.marker.plugin)
        self.folder = path / SOURCE
        self.environment = path / ENVIRONMENT
        self.python = self.environment / "bin" / "python"

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    @cached_property
    def declarations(self) -> Declarations:
        return Declarations(self.folder, self.manifest)


@frozen
class ProviderPath:
    """A provider of tools within a plugin."""

    plugin: InstalledPlugin
    provider: Provider


class InstalledPlugins:
    """The plugins in a folder, which need not exist. What is installed later is found as well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plugins: dict[Path, InstalledPlugin] = {}

    def all(self) -> Sequence[InstalledPlugin]:
        """By author and name, the newest version first."""
        return self._under("*/*")

    def versions(self, plugin: PluginId) -> Sequence[InstalledPlugin]:
        """The installed versions of a plugin, whatever version it names, the newest first."""
        if PluginId.match(plugin.plugin) is None:  # from a file, it may be any text
            return ()
        return self._under(plugin.plugin)

    def find(self, plugin: PluginId) -> InstalledPlugin | None:
        """The plugin, by author and name, and by version and checksum if it has them."""
        for plugin_version in self.versions(plugin):
            same_version = not plugin.version or plugin.version == plugin_version.id.version
            if same_version and (not plugin.checksum or plugin.checksum == plugin_version.id.checksum):
                return plugin_version
        return None

    def provider_of(self, reference: ToolReference) -> ProviderPath | None:
        """The provider that a reference names; None if its plugin is not installed, or has no such provider."""
        plugin = self.nearest(plugin_of(reference))
        if plugin is None:
            return None
        declarations = plugin.declarations
        providers = declarations.agent_strategies if reference.provider_type == STRATEGY else declarations.tools
        provider = providers.get(plugin_path(reference.provider_id)[2])
        return provider and ProviderPath(plugin, provider)

    def nearest(self, plugin: PluginId) -> InstalledPlugin | None:
        """The plugin in the version that an identifier names; else the same version in another package, else the
        newest one."""
        same_version = PluginId(plugin.author, plugin.name, plugin.version)
        return self.find(plugin) or self.find(same_version) or next(iter(self.versions(plugin)), None)

    def _under(self, pattern: str) -> list[InstalledPlugin]:
        paths = {marker.parent for marker in self.folder.glob(f"{pattern}/*/{MARKER}")}
        plugins = [self._plugins.get(path) or self._plugins.setdefault(path, InstalledPlugin(path)) for path in paths]
        plugins.sort(key=lambda plugin: plugin.id.precedence, reverse=True)
        return sorted(plugins, key=lambda plugin: plugin.id.plugin)
