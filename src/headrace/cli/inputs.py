"""A workflow's inputs on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace.cli.shared import BadUsage, printable
from headrace.content.python_json import load_json
from headrace.content.surrogates import mend_text
from headrace.values import DEEPEST_INPUT, nests_deeper

if TYPE_CHECKING:
    from headrace.node import Flow
    from headrace.nodes.start import Start
    from headrace.values import Value

_AS_JSON = {"json_object", "checkbox", "file", "file-list"}  # and array[...]: types that are written as JSON
_EXAMPLES: Mapping[str, Any] = {"number": 1, "checkbox": True, "json_object": {}, "file-list": []}
FILES = ("file", "file-list")


def how_to_pass(field: Mapping[str, Any]) -> str:
    """The option with which an input is given."""
    name, kind = field["variable"], field["type"]
    if kind in FILES:
        return f"--file {name}=PATH"
    value = {"number": "1", "checkbox": "true", "json_object": "'{...}'"}.get(kind, "...")
    return f"-i {name}={value}"


def describe(field: Mapping[str, Any]) -> str:
    """The type and limits of an input."""
    about = [str(field["type"])]
    if options := field.get("options"):
        about.append(f"one of {', '.join(map(str, options))}")
    if length := field.get("max_length"):
        about.append(f"at most {length} {'files' if field['type'] in FILES else 'characters'}")
    if field.get("default") not in (None, ""):
        about.append(f"default {field['default']!r}")
    label = str(field.get("label") or "")
    return printable(f"{label}: {', '.join(about)}" if label not in ("", field["variable"]) else ", ".join(about))


def start_of(flow: Flow) -> Start:
    """The start node. BadUsage if the workflow starts with a node of another type."""
    from headrace.nodes.start import Start

    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        kind = flow.graph.nodes[flow.graph.root].type
        if flow.triggers:
            raise BadUsage(f"the workflow starts with a {kind}: serve it, and see `headrace triggers`")
        raise BadUsage(f"the workflow starts with a node of type '{kind}', which is not run here")
    return start


def declared(flow: Flow) -> dict[str, Mapping[str, Any]]:
    """The fields of the start node's form by name, as in the file."""
    return {
        field["variable"]: {**field, "type": kind} for entry in start_of(flow).form() for kind, field in entry.items()
    }


def example(flow: Flow) -> dict[str, Value]:
    """Example inputs: a valid value for every required one. {} for a workflow that starts with a trigger."""
    from headrace.nodes.start import Start

    if not isinstance(flow.nodes[flow.graph.root], Start):
        return {}
    return {name: _example(variable) for name, variable in declared(flow).items() if variable.get("required")}


def _example(variable: Mapping[str, Any]) -> Value:
    default = variable.get("default")
    if default not in (None, ""):
        return default
    if options := variable.get("options"):
        return options[0]
    kind = str(variable.get("type") or "")
    if kind == "file":
        return {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/picture.png"}
    return _EXAMPLES.get(kind, variable.get("label") or variable["variable"])


def whole(text: str) -> dict[str, Value]:
    """The object of `--inputs`: JSON, @FILE with JSON, or @- for stdin. BadUsage if it is not a JSON object."""
    source = "--inputs"
    if text.startswith("@"):
        source = f"--inputs {text}"
        try:
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8-sig")
        except OSError as error:
            raise BadUsage(f"{source}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise BadUsage(f"{source}: is not UTF-8 text (byte {error.start})") from error
    try:
        value = load_json(text)
    except JSONDecodeError as error:
        raise BadUsage(f"{source}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadUsage(f'{source}: must be a JSON object, like {{"name": "value"}}')
    _check_depth(value, source)
    return cast("dict[str, Value]", value)


def _check_depth(value: Value, source: str) -> None:
    if nests_deeper([value], DEEPEST_INPUT + 1):
        raise BadUsage(f"{source}: is nested more than {DEEPEST_INPUT} levels deep")


def named(pairs: Sequence[str], option: str) -> list[tuple[str, str]]:
    """(name, value) of each NAME=VALUE. BadUsage if one has another form."""
    split = [pair.partition("=") for pair in pairs]
    for (name, equals, _), pair in zip(split, pairs, strict=True):
        if not equals or not name:
            raise BadUsage(f"{option} {pair}: must be NAME=VALUE")
    return [(name, value) for name, _, value in split]


def typed(flow: Flow, pairs: Sequence[tuple[str, str]]) -> dict[str, Value]:
    """Inputs of `-i`, as text. Objects, lists, checkboxes and files are parsed as JSON; the start node validates the
    others. BadUsage if one is given twice or is not valid JSON."""
    variables = declared(flow)
    inputs: dict[str, Value] = {}
    for name, text in pairs:
        if name in inputs:
            raise BadUsage(f"-i {name}: is given more than once")
        kind = str(variables.get(name, {}).get("type") or "")
        if kind in _AS_JSON or kind.startswith("array"):
            try:
                inputs[name] = load_json(text)
            except JSONDecodeError as error:
                raise BadUsage(f"-i {name}: is of type {kind}, so its value must be JSON: {error}") from error
            _check_depth(inputs[name], f"-i {name}")
        else:
            inputs[name] = mend_text(text)
    return inputs


def check_names(flow: Flow, names: Sequence[str]) -> None:
    """Raises BadUsage for an input that the workflow does not have, because it is probably mistyped."""
    variables = declared(flow)
    for name in names:
        if name not in variables:
            expectation = f"it has {', '.join(variables)}" if variables else "it has none"
            raise BadUsage(f"the workflow has no input '{name}': {expectation}")


def json_object(option: str, file: Path | None) -> dict[str, Value]:
    """The JSON object in the file that an option names; an empty one without a file."""
    if file is None:
        return {}
    try:
        fields: object = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadUsage(f"{option}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadUsage(f"{option}: must be a JSON object")
    if nests_deeper(fields, DEEPEST_INPUT):
        raise BadUsage(f"{option}: must be at most {DEEPEST_INPUT} levels deep")
    return cast("dict[str, Value]", fields)
