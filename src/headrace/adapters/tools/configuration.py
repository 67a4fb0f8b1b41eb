"""The file or folder that `HEADRACE_TOOLS` names: descriptions of APIs, their credentials, and apps that are tools.

In a folder each description is a file, named like the provider of its tools, and `tools.yaml` may add to them:

    apis:
      weather:                     # the provider, as a workflow file names it
        description: weather.json  # relative to this file
        server: https://weather.example.com
        auth: {type: header, name: X-Api-Key, variable: WEATHER_KEY}
    workflows:
      summarize: Summary           # a tool's name, and the name or id of the served app that it runs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.adapters.config_files import read_yaml
from headrace.errors import HeadraceError

OWN_NAME = "tools.yaml"
_DESCRIPTIONS = (".yaml", ".yml", ".json")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(_Model):
    """How an API is given its key, which is in the environment variable `variable`. `name` is the header's
    (Authorization if empty) or the query parameter's (`key`); `prefix` goes before the key in a header."""

    type: Literal["none", "header", "query"]
    name: str = ""
    prefix: Literal["basic", "bearer", "custom"] = "custom"
    variable: str = ""


class Api(_Model):
    """An API: its description, and what is to be used in place of what that says."""

    description: Path
    server: str = ""
    auth: Auth | None = None


class ToolsConfig(_Model):
    apis: Mapping[str, Api] = Field(default_factory=dict[str, Api])
    workflows: Mapping[str, str] = Field(default_factory=dict[str, str])


def read_config(path: Path | None) -> ToolsConfig:
    """What a file or folder configures; nothing if there is none. HeadraceError if it cannot be read."""
    if path is None:
        return ToolsConfig()
    if not path.is_dir():
        content = read_yaml(path)
        if content.keys() & {"openapi", "swagger", "api"}:
            return ToolsConfig(apis={path.stem: Api(description=path)})
        return _config(path, content)
    own = path / OWN_NAME
    config = _config(own, read_yaml(own)) if own.is_file() else ToolsConfig()
    description_files = {api.description.resolve() for api in config.apis.values()}
    files = [file for file in sorted(path.iterdir()) if file.suffix in _DESCRIPTIONS and file.name != OWN_NAME]
    apis = {file.stem: Api(description=file) for file in files if file.resolve() not in description_files}
    return ToolsConfig(apis={**apis, **config.apis}, workflows=config.workflows)


def _config(path: Path, content: Mapping[str, Any]) -> ToolsConfig:
    try:
        config = ToolsConfig.model_validate(content)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise HeadraceError(f"{path}: {'; '.join(problems)}") from None
    apis = {
        name: api.model_copy(update={"description": path.parent / api.description}) for name, api in config.apis.items()
    }
    return ToolsConfig(apis=apis, workflows=config.workflows)
