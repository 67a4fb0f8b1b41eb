"""A workflow's inputs, as somebody types them at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace.cli.shared import BadUsage
from headrace.content.python_json import load_json
from headrace.content.surrogates import mend_text
from headrace.values import DEEPEST_INPUT, nests_deeper

if TYPE_CHECKING:
    from headrace.node import Flow
    from headrace.nodes.start import Start
    from headrace.values import Value

_AS_JSON = {"json_object", "checkbox", "file", "file-list"}  # and array[...]: what has no form of its own as text
_EXAMPLES: Mapping[str, Any] = {"number": 1, "checkbox": True, "json_object": {}, "file-list": []}


def start_of(flow: Flow) -> Start:
    """The node that a workflow starts with. BadUsage where it is none that takes inputs."""
    from headrace.nodes.start import Start

    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        kind = flow.graph.nodes[flow.graph.root].type
        raise BadUsage(f"the workflow starts with a node of type '{kind}', which is not run here")
    return start


def declared(flow: Flow) -> dict[str, Mapping[str, Any]]:
    """The inputs that the start node asks for, as the file has them, by name."""
    return {
        field["variable"]: {**field, "type": kind} for entry in start_of(flow).form() for kind, field in entry.items()
    }


def example(flow: Flow) -> dict[str, Value]:
    """Inputs to call the workflow with: for every required one a value that fits, as far as the file tells.

    {} for a workflow that a trigger starts: nobody can call it.
    """
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
    """The object that `--inputs` means: JSON, or @FILE with JSON in it, or @- for stdin. BadUsage where it is none."""
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
    """(name, value) of each NAME=VALUE. BadUsage where one is none."""
    split = [pair.partition("=") for pair in pairs]
    for (name, equals, _), pair in zip(split, pairs, strict=True):
        if not equals or not name:
            raise BadUsage(f"{option} {pair}: must be NAME=VALUE")
    return [(name, value) for name, _, value in split]


def typed(flow: Flow, pairs: Sequence[tuple[str, str]]) -> dict[str, Value]:
    """Inputs given one by one, as text. What has no form as text (objects, lists, checkboxes, files) is read as JSON;
    all else is left to the start node's own checks. BadUsage where one is given twice or is not JSON."""
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
    """BadUsage where an input is given that the workflow does not ask for: at a terminal that is a typing error."""
    variables = declared(flow)
    for name in names:
        if name not in variables:
            expected = f"it asks for {', '.join(variables)}" if variables else "it asks for none"
            raise BadUsage(f"the workflow has no input '{name}': {expected}")
