"""Everything that the installed plugins need, for the adapters that use them. Nothing is loaded or started before a
plugin is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.adapters.plugins.credentials import CredentialStore
from headrace.adapters.plugins.installed import InstalledPlugins
from headrace.adapters.plugins.limits import PluginLimits

if TYPE_CHECKING:
    from headrace.adapters.plugins.backwards import Handler
    from headrace.adapters.plugins.file_server import FileServer, StoredFiles
    from headrace.adapters.plugins.host import PluginHost


@dataclass
class Plugins:
    """The installed plugins, their credentials, and the host that runs them.

    `data` has a folder for each plugin, with its home and what it stores. `handlers` answer what plugins call back for,
    by the type of call (`backwards`); those of storage and files are the host's own.
    """

    installed: InstalledPlugins
    credentials: CredentialStore
    data: Path
    stored_files: StoredFiles
    environ: Mapping[str, str]
    limits: PluginLimits = field(default_factory=PluginLimits)
    handlers: dict[str, Handler] = field(default_factory=dict[str, "Handler"])

    @cached_property
    def host(self) -> PluginHost:
        from headrace.adapters.plugins.host import PluginHost
        from headrace.adapters.plugins.storage import PluginStorage

        self.handlers.setdefault("storage", PluginStorage(self.data))
        self.handlers.setdefault("upload_file", self.files.upload)
        return PluginHost(self.data, self.handlers, self.environ, self.limits)

    @cached_property
    def files(self) -> FileServer:
        from headrace.adapters.plugins.file_server import FileServer

        return FileServer(self.stored_files)

    async def aclose(self) -> None:
        """Ends the plugins."""
        if "host" in self.__dict__:
            await self.host.aclose()
        if "files" in self.__dict__:
            await self.files.aclose()
