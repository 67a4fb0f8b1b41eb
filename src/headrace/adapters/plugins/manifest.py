"""The manifest of a plugin, `manifest.yaml`: what it is, what it needs, and the files that declare what it provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from headrace.adapters.config_files import read_yaml
from headrace.adapters.plugins.fields import items_of, mapping_of, text_of
from headrace.adapters.plugins.identifiers import PluginId
from headrace.errors import HeadraceError
from headrace.frozen import frozen

FILE_NAME = "manifest.yaml"

Kind: TypeAlias = Literal["tools", "models", "agent_strategies", "datasources", "endpoints", "triggers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SMALLEST_STORAGE = 1024  # bytes


@frozen
class Permissions:
    """What a plugin may call back for. `models` are types as in `llm` or `text_embedding`; `storage` is in bytes."""

    tool: bool = False
    models: frozenset[str] = frozenset()
    node: bool = False
    endpoint: bool = False
    app: bool = False
    storage: int = 0

    def __str__(self) -> str:
        names = [name for name in ("tool", "node", "endpoint", "app") if getattr(self, name)]
        names += [f"model.{type_}" for type_ in sorted(self.models)]
        names += [f"storage ({self.storage} bytes)"] if self.storage else []
        return ", ".join(names) or "none"


@frozen
class Manifest:
    """What a plugin says of itself. `entrypoint` is the module that runs it; `files` are the files of its providers,
    relative to its folder."""

    author: str
    name: str
    version: str
    label: str
    description: str
    permissions: Permissions
    language: str
    entrypoint: str
    minimum_dify_version: str
    files: Mapping[Kind, Sequence[str]]

    def id(self, checksum: str = "") -> PluginId:
        return PluginId(self.author, self.name, self.version, checksum)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest in a plugin's folder. HeadraceError if it is missing or malformed."""
        return cls.of(read_yaml(folder / FILE_NAME))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Manifest:
        """HeadraceError if there is no valid name or version, or it is not the manifest of a plugin."""
        type_ = content.get("type", "plugin")
        if type_ != "plugin":
            raise HeadraceError(f"{FILE_NAME} describes a {str(type_)[:100]!r}, not a plugin")
        author, name, version = (text_of(content.get(key)) for key in ("author", "name", "version"))
        id_ = PluginId.match(f"{author}/{name}:{version}")
        if id_ is None or not id_.version:
            raise HeadraceError(f"{FILE_NAME}: author {author!r}, name {name!r} or version {version!r} is not valid")
        resource, meta = mapping_of(content.get("resource")), mapping_of(content.get("meta"))
        runner = mapping_of(meta.get("runner"))
        plugins = mapping_of(content.get("plugins"))
        return cls(
            author=id_.author,
            name=id_.name,
            version=id_.version,
            label=text_of(content.get("label")) or name,
            description=text_of(content.get("description")),
            permissions=_permissions(mapping_of(resource.get("permission"))),
            language=text_of(runner.get("language")) or "python",
            entrypoint=text_of(runner.get("entrypoint")) or "main",
            minimum_dify_version=text_of(meta.get("minimum_dify_version")),
            files={kind: [file for file in items_of(plugins.get(kind)) if isinstance(file, str)] for kind in KINDS},
        )


def _permissions(permission: Mapping[str, Any]) -> Permissions:
    def enabled(name: str) -> Mapping[str, Any]:
        requirement = mapping_of(permission.get(name))
        return requirement if requirement.get("enabled") else {}

    return Permissions(
        tool=bool(enabled("tool")),
        models=frozenset(type_ for type_, allowed in enabled("model").items() if type_ != "enabled" and allowed),
        node=bool(enabled("node")),
        endpoint=bool(enabled("endpoint")),
        app=bool(enabled("app")),
        storage=max(_number(enabled("storage").get("size")), _SMALLEST_STORAGE) if enabled("storage") else 0,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
