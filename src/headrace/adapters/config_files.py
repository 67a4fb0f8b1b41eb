"""Files of YAML or JSON that the operator wrote, or that came with a plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any, cast

import yaml

from headrace.content.python_json import load_json
from headrace.errors import HeadraceError

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LARGEST = 20 * 1024 * 1024  # bytes of a file


def read_yaml(path: Path) -> dict[str, Any]:
    """The object in a YAML or JSON file. HeadraceError if it cannot be read, or is something else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise HeadraceError(f"{path} is larger than {_LARGEST} bytes")
        content = _parsed(path.read_bytes())
    except OSError as error:
        raise HeadraceError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise HeadraceError(f"{path} is not valid YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise HeadraceError(f"{path} does not contain an object")
    return {str(key): value for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _parsed(content: bytes) -> object:
    """JSON is tried first: YAML is slower, and does not take all of it, such as the escapes of an emoji."""
    try:
        return load_json(content)
    except JSONDecodeError:
        return yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def expand(value: Any, environ: Mapping[str, str], unset: list[str]) -> Any:
    """The value with `${NAME}` in its texts replaced by the environment variable of that name, and `${NAME:-text}` by
    the text where it is not set. Variables that are neither are added to `unset`."""

    def value_of(match: re.Match[str]) -> str:
        value: str | None = environ.get(match[1]) or match[2]
        if value is None:
            unset.append(match[1])
        return value or ""

    match value:
        case str():
            return _VARIABLE.sub(value_of, value)
        case dict():
            return {name: expand(item, environ, unset) for name, item in cast("dict[str, Any]", value).items()}
        case list():
            return [expand(item, environ, unset) for item in cast("list[Any]", value)]
        case _:
            return value
