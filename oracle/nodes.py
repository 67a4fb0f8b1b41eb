"""The data of a node of each computing type, over the variables that are there already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from oracle import values
from oracle.case import ECHO

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Variable:
    """One that a node can read; `kind` is its declared type."""

    selector: tuple[str, ...]
    kind: str

    @property
    def text(self) -> str:
        return "{{#" + ".".join(self.selector) + "#}}"


@dataclass(frozen=True)
class NodeDraft:
    """A node's data and what it will put out: name and type. `handles`: the edges that it chooses from."""

    data: dict[str, Any]
    outputs: Sequence[tuple[str, str]] = ()
    handles: Sequence[str] = ()


class Scope:
    """What a node reads from."""

    def __init__(self, draw: Draw, variables: Sequence[Variable], conversation: Sequence[Variable]) -> None:
        self.draw, self.variables, self.conversation = draw, list(variables), list(conversation)

    def one(self, *kinds: str) -> Variable:
        """A variable of one of these types, or of any."""
        fitting = [variable for variable in self.variables if not kinds or variable.kind in kinds]
        return self.draw(st.sampled_from(fitting or self.variables))

    def selector(self, *kinds: str) -> list[str]:
        """Of a variable; seldom of a part of it, or of none at all."""
        if self.draw(st.integers(0, 29)) == 0:
            return ["nowhere", "nothing"]
        variable = self.one(*kinds)
        if variable.kind == "object" and self.draw(st.integers(0, 3)) == 0:
            return [*variable.selector, self.draw(values.keys)]
        return list(variable.selector)

    def sentence(self) -> str:
        """Text with variables in it."""
        pieces = self.draw(st.lists(values.texts | st.just(None), min_size=1, max_size=4))
        return "".join(self.one().text if piece is None else piece for piece in pieces)


def template(scope: Scope) -> NodeDraft:
    names = ["x", "y"]
    variables = [{"variable": name, "value_selector": scope.selector()} for name in names]
    text = scope.draw(
        st.sampled_from(
            [
                "{{ x }}|{{ y }}",
                "{{ x }} {% if y %}yes {{ y }}{% else %}no{% endif %}",
                "{% for i in x %}[{{ loop.index }}:{{ i }}]{% endfor %}",
                "{{ x | tojson }} {{ y | string | length }}",
                "{{ x.a }}{{ x['b'] }}{{ y.name }}",
                "{{ x | length }}",
                "{{ x | default('d', true) }} {{ y == 1 }} {{ x is none }} {{ x is mapping }}",
                "{{ undefined_name }}{{ x }}\n",
                "{{ x | upper }}{{ (x, y) | join('-') }}",
                "{{ x + 1 }}",
            ]
        )
    )
    return NodeDraft({"type": "template-transform", "template": text, "variables": variables}, [("output", "string")])


_PROGRAMS = (
    ("def main(x, y):\n    return {'r': str(x) + '|' + str(y)}", "string"),
    ("import json\n\ndef main(x, y):\n    return {'r': json.dumps([x, y], ensure_ascii=False)}", "string"),
    ("def main(x, y):\n    return {'r': [x, y]}", None),
    ("def main(x, y):\n    return {'r': x}", None),
    ("def main(x, y):\n    return {'r': {'x': x, 'y': y}}", "object"),
    ("def main(x, y):\n    return {'r': type(x).__name__ + type(y).__name__}", "string"),
    ("def main(x, y):\n    return {'r': len(x)}", "number"),
    ("def main(x, y):\n    return {'r': x == y}", "boolean"),
    ("def main(x, y):\n    return {'r': [str(x)] * 31}", "array[string]"),
    ("def main(x, y):\n    return {'other': x}", None),
    ("def main(x, y):\n    return [x]", "string"),
    ("def main(x, y):\n    raise ValueError(str(x))", "string"),
)


def code(scope: Scope) -> NodeDraft:
    program, kind = scope.draw(st.sampled_from(_PROGRAMS))
    kind = kind or scope.draw(st.sampled_from(list(values.BY_TYPE)))
    variables = [{"variable": name, "value_selector": scope.selector()} for name in ("x", "y")]
    return _code(program, {"r": kind}, variables)


def source(scope: Scope) -> NodeDraft:
    """A code node that puts out a value of every type."""
    outputs = {f"v{number}": kind for number, kind in enumerate(values.BY_TYPE)}
    values_of_outputs = {name: scope.draw(values.BY_TYPE[kind]) for name, kind in outputs.items()}
    if scope.draw(st.integers(0, 19)):
        values_of_outputs = values.bounded(values_of_outputs)
    if scope.draw(st.integers(0, 9)) == 0:
        values_of_outputs[scope.draw(st.sampled_from(sorted(outputs)))] = None
    return _code(f"import json\n\ndef main():\n    return json.loads({json.dumps(values_of_outputs)!r})", outputs, [])


def _code(program: str, outputs: dict[str, str], variables: list[Any]) -> NodeDraft:
    declarations = {name: {"type": kind, "children": None} for name, kind in outputs.items()}
    data = {
        "type": "code",
        "code_language": "python3",
        "code": program,
        "variables": variables,
        "outputs": declarations,
    }
    return NodeDraft(data, list(outputs.items()))


_STRING = ("contains", "not contains", "start with", "end with", "is", "is not", "empty", "not empty", "in", "not in")
_NUMBER = ("=", "≠", ">", "<", "≥", "≤", "empty", "not empty", "null", "not null")
_ARRAY = ("contains", "not contains", "empty", "not empty", "all of", "null", "not null")
_OPERATORS = {
    "string": (*_STRING, "null", "not null"),
    "number": _NUMBER,
    "boolean": ("is", "is not", "empty", "not empty", "null", "not null"),
    "object": ("empty", "not empty", "null", "not null"),
}
_UNARY = ("empty", "not empty", "null", "not null", "exists", "not exists")


def condition(scope: Scope, *, number: int = 0, over: Variable | None = None) -> dict[str, Any]:
    """A condition on a variable of any type, mostly with an operator that its type has."""
    variable = over or scope.one()
    every = sorted({*_STRING, *_NUMBER, *_ARRAY})
    usual = _OPERATORS.get(variable.kind, _ARRAY)
    operator = scope.draw(st.sampled_from(usual if scope.draw(st.integers(0, 9)) else every))
    condition: dict[str, Any] = {
        "id": f"c{number}",
        "varType": variable.kind,
        "variable_selector": list(variable.selector),
        "comparison_operator": operator,
        "value": "",
    }
    if operator not in _UNARY:
        condition["value"] = _compared(scope, variable.kind, operator)
    return condition


def _compared(scope: Scope, kind: str, operator: str) -> Any:
    draw = scope.draw
    if operator == "all of":
        return draw(st.lists(values.texts, min_size=1, max_size=2))
    if operator in ("in", "not in") and draw(st.booleans()):
        return draw(st.lists(values.texts, min_size=1, max_size=3))
    if kind == "boolean" and draw(st.integers(0, 3)):
        return draw(st.sampled_from([True, False, "true", "false", "True"]))
    if kind in ("number", "array[number]") and draw(st.integers(0, 9)):
        return draw(values.integers.map(str) | st.sampled_from(["0.1", "1.0", "-1.5", "100.0", "1e3"]))
    if draw(st.integers(0, 3)) == 0:
        return scope.one().text
    return draw(values.texts)


def conditions(scope: Scope) -> dict[str, Any]:
    count = scope.draw(st.integers(1, 3))
    operator = scope.draw(st.sampled_from(["and", "or"]))
    return {
        "logical_operator": operator,
        "conditions": [condition(scope, number=number) for number in range(count)],
    }


def if_else(scope: Scope) -> NodeDraft:
    count = scope.draw(st.integers(1, 2))
    cases = [{"case_id": f"case{number}", **conditions(scope)} for number in range(count)]
    handles = [*(case["case_id"] for case in cases), "false"]
    return NodeDraft(
        {"type": "if-else", "cases": cases}, [("result", "boolean"), ("selected_case_id", "string")], handles
    )


def aggregator(scope: Scope) -> NodeDraft:
    kinds = [scope.draw(st.sampled_from(list(values.BY_TYPE))) for _ in range(2)]
    selectors = [[scope.selector(kind) for _ in range(2)] for kind in kinds]
    data: dict[str, Any] = {"type": "variable-aggregator", "output_type": kinds[0], "variables": selectors[0]}
    if scope.draw(st.booleans()):
        return NodeDraft(data, [("output", kinds[0])])
    groups = [
        {"groupId": f"g{number}", "group_name": f"Group{number}", "output_type": kind, "variables": selectors[number]}
        for number, kind in enumerate(kinds)
    ]
    return NodeDraft({**data, "advanced_settings": {"group_enabled": True, "groups": groups}})


_OPERATIONS = {
    "number": ("over-write", "clear", "set", "+=", "-=", "*=", "/="),
    "string": ("over-write", "clear", "set"),
    "boolean": ("over-write", "clear", "set"),
    "object": ("over-write", "clear", "set"),
}
_ARRAY_OPERATIONS = ("over-write", "clear", "append", "extend", "remove-first", "remove-last")


def assigner(scope: Scope) -> NodeDraft:
    return NodeDraft(
        {"type": "assigner", "version": "2", "items": [_item(scope) for _ in range(scope.draw(st.integers(1, 2)))]}
    )


def _item(scope: Scope) -> dict[str, Any]:
    draw, target = scope.draw, scope.draw(st.sampled_from(scope.conversation))
    operation = draw(st.sampled_from(_OPERATIONS.get(target.kind, _ARRAY_OPERATIONS)))
    item: dict[str, Any] = {
        "variable_selector": list(target.selector),
        "operation": operation,
        "input_type": "variable",
        "value": None,
    }
    if operation in ("clear", "remove-first", "remove-last"):
        return item
    if operation in ("set", "+=", "-=", "*=", "/="):
        return {**item, "input_type": "constant", "value": _constant(scope, target.kind)}
    kind = target.kind
    if operation == "append":
        kind = kind.removeprefix("array[").removesuffix("]")
    return {**item, "value": scope.selector(kind) if draw(st.integers(0, 4)) else scope.selector()}


def _constant(scope: Scope, kind: str) -> Any:
    value = scope.draw(values.BY_TYPE[kind])
    return json.dumps(value) if kind == "object" and scope.draw(st.booleans()) else value


def old_assigner(scope: Scope) -> NodeDraft:
    target = scope.draw(st.sampled_from(scope.conversation))
    modes = ("over-write", "clear", "append") if target.kind.startswith("array") else ("over-write", "clear")
    mode = scope.draw(st.sampled_from(modes))
    kind = target.kind.removeprefix("array[").removesuffix("]") if mode == "append" else target.kind
    data = {
        "type": "assigner",
        "version": "1",
        "assigned_variable_selector": list(target.selector),
        "write_mode": mode,
        "input_variable_selector": scope.selector(kind),
    }
    return NodeDraft(data)


def list_operator(scope: Scope) -> NodeDraft:
    draw = scope.draw
    variable = scope.one("array[string]", "array[number]", "array[boolean]")
    item = variable.kind.removeprefix("array[").removesuffix("]")
    data: dict[str, Any] = {
        "type": "list-operator",
        "variable": scope.selector() if draw(st.integers(0, 19)) == 0 else list(variable.selector),
        "var_type": variable.kind,
        "item_var_type": item,
        "filter_by": {"enabled": draw(st.booleans()), "conditions": [_filter(scope, item)]},
        "order_by": {"enabled": draw(st.booleans()), "key": "", "value": draw(st.sampled_from(["asc", "desc"]))},
        "limit": {"enabled": draw(st.booleans()), "size": draw(st.integers(1, 4))},
    }
    serial = draw(st.sampled_from(["1", "2", "1", "9", "0"]))
    data["extract_by"] = {"enabled": draw(st.booleans()), "serial": serial}
    return NodeDraft(data, [("result", variable.kind), ("first_record", item), ("last_record", item)])


def _filter(scope: Scope, item: str) -> dict[str, Any]:
    draw = scope.draw
    match item:
        case "number":
            operator = draw(st.sampled_from(["=", "≠", "<", ">", "≥", "≤"]))
            value: Any = draw(values.integers.map(str) | st.sampled_from(["0.5", "1.0", scope.one("number").text]))
        case "boolean":
            operator, value = draw(st.sampled_from(["is", "is not"])), draw(st.booleans())
        case _:
            operators = [
                "contains",
                "not contains",
                "start with",
                "end with",
                "is",
                "is not",
                "in",
                "not in",
                "empty",
                "not empty",
            ]
            operator, value = draw(st.sampled_from(operators)), draw(values.texts | st.just(scope.one("string").text))
    return {"key": "", "comparison_operator": operator, "value": value}


def http_request(scope: Scope) -> NodeDraft:
    draw = scope.draw
    method = draw(st.sampled_from(["get", "post", "put", "patch", "delete", "head"]))
    kind = (
        "none"
        if method in ("get", "head")
        else draw(st.sampled_from(["none", "raw-text", "json", "form-data", "x-www-form-urlencoded"]))
    )
    body: dict[str, Any] = {"type": kind, "data": []}
    if kind == "raw-text":
        body["data"] = [{"type": "text", "key": "", "value": scope.sentence()}]
    elif kind == "json":
        pattern = draw(st.sampled_from(['{{"a": {0}, "b": "{1}"}}', "[{0}, {1}]", "{0}", '{{"a": {{"b": {0}}}}}']))
        pieces = [scope.one("number", "boolean", "object", "array[number]", "array[object]"), scope.one("string")]
        body["data"] = [{"type": "text", "key": "", "value": pattern.format(pieces[0].text, pieces[1].text)}]
    elif kind != "none":
        fields = [draw(st.sampled_from(["k", "ключ", "a b", "k"])) for _ in range(2)]
        body["data"] = [{"type": "text", "key": key, "value": scope.sentence()} for key in fields]
    data = {
        "type": "http-request",
        "method": method,
        "url": f"{ECHO}/{draw(st.sampled_from(['text', 'json', 'binary']))}"
        + draw(st.sampled_from(["", "?q=1", "/{{#start.n#}}"])),
        "authorization": {"type": "no-auth", "config": None},
        "headers": draw(st.sampled_from(["", "X-A: {{#start.n#}}", "X-A:1\nX-B: two: three", "X-A"])),
        "params": draw(st.sampled_from(["", "p:{{#start.n#}}", "p: a b&c\nq:é", "p"])),
        "body": body,
        "timeout": {"max_connect_timeout": 0, "max_read_timeout": 0, "max_write_timeout": 0},
        "retry_config": {"retry_enabled": False, "max_retries": 0, "retry_interval": 100},
    }
    return NodeDraft(data, [("body", "string"), ("status_code", "number")])
