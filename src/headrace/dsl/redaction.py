"""Workflow files with the values of secret environment variables masked, wherever they occur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import yaml

from headrace.dsl.check import mapping
from headrace.dsl.yaml_reader import read
from headrace.kernel.secrets import STARS, SecretMask
from headrace.values import Value

SECRET = "secret"  # an environment variable's `value_type`


def mask_of(*files: Mapping[str, Value]) -> SecretMask:
    """A mask for the secrets of all these files."""
    return SecretMask(str(entry["value"]) for file in files for entry in _secret_entries(file))


def hidden(value: Value) -> Value:
    """A secret variable's value, masked unless it is empty."""
    return value if value in (None, "") else STARS


def shown(content: str) -> tuple[str, bool]:
    """(a file's masked content, whether anything is masked). LoadError if it cannot be read.

    Content with secrets is serialized again, without its comments, because quotes and escapes can spell a secret in
    too many ways.
    """
    value = read(content, "content").value
    mask = mask_of(value)
    if not mask:
        return content, False
    for entry in _secret_entries(value):
        entry["value"] = STARS
    text: Any = yaml.dump(mask.value(value), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return text, True


def _secret_entries(file: Mapping[str, Value]) -> list[dict[str, Value]]:
    """The secret environment variables that have a value."""
    workflow = mapping(file.get("workflow")) or {}
    variables = workflow.get("environment_variables")
    entries = [mapping(item) or {} for item in cast("list[Value]", variables)] if isinstance(variables, list) else []
    return [entry for entry in entries if entry.get("value_type") == SECRET and entry.get("value") not in (None, "")]
