"""How plugins are named: `langgenius/tavily:0.1.2@<checksum>`, and the shorter forms in workflow files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.errors import HeadraceError
from headrace.ports.services import ToolReference

_IDENTIFIER = re.compile(
    r"(?:(?P<author>[A-Za-z0-9_-]{1,64})/)?(?P<name>[A-Za-z0-9_-]{1,255})"
    r"(?:[:@](?P<version>\d{1,4}(?:\.\d{1,4}){1,3}(?:-\w{1,16})?))?(?:@(?P<checksum>[0-9a-fA-F]{32,64}))?",
    re.ASCII,  # or \d and \w would take digits and letters of every script
)
# Where the plugin of a tool that was once part of Dify is not named like its provider.
_MOVED = frozenset({"jina", "siliconflow", "stepfun", "gitee_ai"})


@dataclass(frozen=True, slots=True, order=True)
class PluginId:
    """A plugin: author and name, which no two plugins share, and its version and the checksum of its package, which
    are "" where any will do."""

    author: str
    name: str
    version: str = ""
    checksum: str = ""

    @classmethod
    def parse(cls, text: str) -> PluginId:
        """From `author/name:version@checksum`. Version and checksum may be absent, and `author/name@version` means the
        same as `author/name:version`; without an author it is a plugin of Dify's own. HeadraceError if it is
        malformed."""
        plugin = cls.match(text)
        if plugin is None:
            raise HeadraceError(f"{text[:300]!r} is not a valid plugin; expected AUTHOR/NAME[:VERSION[@CHECKSUM]]")
        return plugin

    @classmethod
    def match(cls, text: str) -> PluginId | None:
        """As `parse`; None if it is malformed."""
        match = _IDENTIFIER.fullmatch(text.strip())
        if match is None:
            return None
        author, name = (match["author"] or "langgenius").lower(), match["name"].lower()
        return cls(author, name, match["version"] or "", (match["checksum"] or "").lower())

    @property
    def plugin(self) -> str:
        """`author/name`, which is the same for all versions."""
        return f"{self.author}/{self.name}"

    @property
    def precedence(self) -> tuple[tuple[int, ...], bool, str]:
        """Orders versions by age: numbers first, and a pre-release (`1.0.0-beta`) before its release."""
        numbers, dash, label = self.version.partition("-")
        return tuple(int(number) for number in numbers.split(".") if number), not dash, label

    def __str__(self) -> str:
        version = f":{self.version}" if self.version else ""
        return f"{self.plugin}{version}{f'@{self.checksum}' if self.checksum else ''}"


def plugin_path(provider_id: str) -> tuple[str, str, str]:
    """(organization, plugin, provider) of a provider's id, which in old files is the provider's name alone."""
    organization, slash, rest = provider_id.strip().partition("/")
    if slash:
        plugin, _, provider = rest.partition("/")
        return organization, plugin, provider or plugin
    return "langgenius", f"{organization}_tool" if organization in _MOVED else organization, organization


def plugin_of(reference: ToolReference) -> PluginId:
    """The plugin that a reference names, with version and checksum if the file has them."""
    organization, plugin, _ = plugin_path(reference.provider_id)
    own = PluginId(organization.lower(), plugin.lower())
    match = PluginId.match(reference.plugin)
    return match if match is not None and match.plugin == own.plugin else own


def plugin_of_models(provider: str) -> PluginId:
    """The plugin of a provider of models: `langgenius/openai/openai`, or `openai` in old files."""
    organization, slash, rest = provider.strip().strip("/").partition("/")
    if not slash:
        organization, rest = "langgenius", "gemini" if organization == "google" else organization
    return PluginId(organization.lower(), rest.partition("/")[0].lower())
