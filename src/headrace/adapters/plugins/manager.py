"""What the commands do with plugins."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.adapters.plugins.credentials import CredentialStore, variable
from headrace.adapters.plugins.declarations import CredentialField, Declarations
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.install import PluginInstaller
from headrace.adapters.plugins.installed import InstalledPlugin, InstalledPlugins
from headrace.adapters.plugins.manifest import Manifest
from headrace.adapters.plugins.marketplace import Marketplace, download
from headrace.adapters.plugins.needs import needs
from headrace.adapters.plugins.package import unpack
from headrace.adapters.plugins.signature import verify
from headrace.errors import HeadraceError
from headrace.ports.plugins import CredentialVariable, PluginDescription, PluginNeed, PluginUse

_SCHEMES = ("http://", "https://")


class PluginManager:
    """Adds, removes and describes plugins. `own_tools` and `own_strategies` are providers that need no plugin;
    `credentials` has what is set of their credentials."""

    def __init__(
        self,
        plugins: InstalledPlugins,
        installer: PluginInstaller,
        marketplace: Marketplace,
        own_tools: Collection[str],
        own_strategies: Collection[str],
        credentials: CredentialStore,
    ) -> None:
        self.plugins = plugins
        self._installer = installer
        self._marketplace = marketplace
        self._own = own_tools, own_strategies
        self._credentials = credentials

    def add(self, source: str, *, unsigned: bool = False) -> PluginDescription:
        """Installs a plugin from a file, a folder, a URL, or the marketplace by `author/name[@version]`. HeadraceError
        if that fails."""
        return self._installed(self._added(source, unsigned))

    def _added(self, source: str, unsigned: bool) -> InstalledPlugin:
        if Path(source).exists():
            return self._installer.add(Path(source), unsigned=unsigned)
        with tempfile.TemporaryFile() as file:  # it has no name, so a killed process leaves nothing of it
            if source.startswith(_SCHEMES):
                download(source, file)
                return self._installer.add(file, name=source, unsigned=unsigned)
            plugin = _named(source)
            if not plugin.version:
                plugin = self._marketplace.latest(plugin)
            existing = self.plugins.find(plugin) if plugin.checksum else None
            if existing is not None and existing.python.exists():
                return existing
            url = self._marketplace.download(plugin, file)
            return self._installer.add(file, name=url, expected=plugin, unsigned=unsigned)

    def remove(self, plugin: str) -> str:
        """Removes the only installed plugin that fits, and returns its identifier. HeadraceError if there is none, or
        several."""
        plugin_id = PluginId.parse(plugin)
        fitting = [
            version
            for version in self.plugins.versions(plugin_id)
            if plugin_id.version in ("", version.id.version) and plugin_id.checksum in ("", version.id.checksum)
        ]
        if not fitting:
            raise HeadraceError(f"{plugin_id} is not installed")
        if len(fitting) > 1:
            raise HeadraceError(f"{plugin_id} is ambiguous: {', '.join(str(plugin.id) for plugin in fitting)}")
        self._installer.remove(fitting[0])
        return str(fitting[0].id)

    def describe(self, source: str) -> PluginDescription:
        """Describes a package, or an installed plugin by `author/name[:version]`. HeadraceError if it is neither."""
        if not Path(source).exists():
            existing = self.plugins.find(_named(source))
            if existing is None:
                raise HeadraceError(f"{source} is neither a package nor an installed plugin")
            return self._installed(existing)
        with tempfile.TemporaryDirectory(prefix="headrace-") as temporary:
            package = unpack(Path(source), Path(temporary))
            signature = verify(package, Path(temporary), self._installer.keys)
            declarations = Declarations(Path(temporary), package.manifest)
            try:
                return self._described(package.id, package.manifest, declarations, signature.signer)
            except HeadraceError as error:
                raise HeadraceError(f"{source}: {error}") from error

    def needs(self, uses: Iterable[PluginUse]) -> list[PluginNeed]:
        """What workflow files need, and what of it is installed."""
        return needs(uses, self.plugins, *self._own)

    def _installed(self, plugin: InstalledPlugin) -> PluginDescription:
        marker = plugin.marker
        description = self._described(plugin.id, plugin.manifest, plugin.declarations, marker.signature)
        return replace(description, python=marker.python, folder=str(plugin.path), note=marker.note)

    def _described(
        self, plugin: PluginId, manifest: Manifest, declarations: Declarations, signer: str
    ) -> PluginDescription:
        provides: list[tuple[str, str, list[str]]] = []
        credentials: list[CredentialVariable] = []
        for provider in declarations.providers:
            provides.append((provider.kind, provider.name, list(provider.tools)))
            credentials += self._variables(plugin, provider.name, provider.credentials)
            credentials += self._variables(plugin, provider.name, provider.oauth, oauth=True)
        for models in declarations.models.values():
            provides.append(("models", models.name, list(models.types)))
            credentials += self._variables(plugin, models.name, models.credentials or models.model_credentials)
        for endpoints in declarations.endpoints:
            paths = [f"{endpoint.method} {endpoint.path}" for endpoint in endpoints.endpoints]
            provides.append(("endpoints", plugin.name, paths))
        return PluginDescription(
            plugin=str(plugin),
            label=manifest.label,
            description=" ".join(manifest.description.split()),
            author=manifest.author,
            signer=signer,
            permissions=str(manifest.permissions),
            minimum_dify_version=manifest.minimum_dify_version,
            provides=provides,
            credentials=credentials,
        )

    def _variables(
        self, plugin: PluginId, provider: str, fields: Sequence[CredentialField], *, oauth: bool = False
    ) -> list[CredentialVariable]:
        return [
            CredentialVariable(
                name=variable(provider, field.name),
                required=field.required,
                is_set=self._credentials.is_set(plugin.plugin, provider, field.name),
                label=field.label,
                url=field.url,
                oauth=oauth,
            )
            for field in fields
        ]


def _named(source: str) -> PluginId:
    """The plugin that a source names which is not a file. HeadraceError if it names none."""
    plugin = PluginId.match(source)
    if plugin is None:
        expected = "AUTHOR/NAME[:VERSION[@CHECKSUM]]"
        raise HeadraceError(f"{source[:300]!r} is neither a file nor the name of a plugin ({expected})")
    return plugin
