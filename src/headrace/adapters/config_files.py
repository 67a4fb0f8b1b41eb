"""Files of YAML or JSON that the operator wrote, or that came with a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from headrace.errors import HeadraceError

_LARGEST = 20 * 1024 * 1024  # bytes of a file


def read_yaml(path: Path) -> dict[str, Any]:
    """The object in a YAML or JSON file. HeadraceError if it cannot be read, or is something else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise HeadraceError(f"{path} is larger than {_LARGEST} bytes")
        content: object = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise HeadraceError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise HeadraceError(f"{path} is not valid YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise HeadraceError(f"{path} does not contain an object")
    return {str(key): value for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
