"""Workflow files as they may be shown: the values of secret environment variables are stars, wherever they stand."""

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
    """Hides the secrets of all these files."""
    return SecretMask(str(entry["value"]) for file in files for entry in _secret_entries(file))


def hidden(value: Value) -> Value:
    """A secret variable's value as it may be shown; an empty one is told as it is."""
    return value if value in (None, "") else STARS


def shown(content: str) -> tuple[str, bool]:
    """(a file's content as it may be shown, whether something is hidden in it). LoadError where it cannot be read.

    A content with secrets is written anew, without its comments: in a text as it was written, quotes and escapes can
    spell a secret in too many ways.
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
    listed = workflow.get("environment_variables")
    entries = [mapping(each) for each in cast("list[Value]", listed)] if isinstance(listed, list) else []
    return [
        each for each in entries if each and each.get("value_type") == SECRET and each.get("value") not in (None, "")
    ]
