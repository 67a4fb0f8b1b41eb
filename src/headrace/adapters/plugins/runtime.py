"""Everything that the installed plugins need, for the adapters that use them. Nothing is loaded or started before a
plugin is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.adapters.plugins.limits import PluginLimits

if TYPE_CHECKING:
    from headrace.adapters.plugins.backwards import Handler
    from headrace.adapters.plugins.credentials import CredentialStore
    from headrace.adapters.plugins.file_server import FileServer, StoredFiles
    from headrace.adapters.plugins.host import PluginHost
    from headrace.adapters.plugins.installed import InstalledPlugins


class Plugins:
    """The plugins in a folder, their credentials, and the host that runs them.

    `credentials_file` has named sets of credentials; HeadraceError if it is not valid. `data` has a folder for each
    plugin, with its home and what it stores. `handlers` answer what plugins call back for, by the type of call
    (`backwards`); those of storage and files are the host's own. `late_handlers` makes those that take long to import,
    once a plugin is called.
    """

    def __init__(
        self,
        folder: Path,
        credentials_file: Path | None,
        data: Path,
        files: StoredFiles,
        environ: Mapping[str, str],
        limits: PluginLimits,
    ) -> None:
        self.handlers: dict[str, Handler] = {}
        self.late_handlers: Callable[[], Mapping[str, Handler]] = dict
        self.stored_files = files
        self._folder = folder.absolute()  # a plugin runs in a folder of its own
        self._credentials_file = credentials_file
        self._data = data.absolute()
        self._environ = environ
        self._limits = limits
        if credentials_file is not None:
            _ = self.credentials  # a mistake in the file is to be known at the start

    @cached_property
    def installed(self) -> InstalledPlugins:
        from headrace.adapters.plugins.installed import InstalledPlugins

        return InstalledPlugins(self._folder)

    @cached_property
    def credentials(self) -> CredentialStore:
        from headrace.adapters.plugins.credentials import CredentialStore

        return CredentialStore(self._credentials_file, self._environ)

    @cached_property
    def host(self) -> PluginHost:
        from headrace.adapters.plugins.host import PluginHost
        from headrace.adapters.plugins.storage import PluginStorage

        self.handlers |= self.late_handlers()
        self.handlers.setdefault("storage", PluginStorage(self._data))
        self.handlers.setdefault("upload_file", self.files.upload)
        return PluginHost(self._data, self.handlers, self._environ, self._limits)

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
