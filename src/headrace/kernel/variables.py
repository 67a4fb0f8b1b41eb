"""How nodes read variables: by selectors, and by templates that contain selectors.

Scopes are a node's id, `sys`, `env` and `conversation`. A selector is (scope, name, *path): the path leads into objects
and to the attributes of a file (`url`, `name`, `size` ...).
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import cast

from headrace import values
from headrace.values import Selector, Value, Variable

# As Dify's editor writes them: {{#node.field#}}, {{#sys.query#}}, {{#node.object.key#}}
_PATTERN = re.compile(r"\{\{#([a-zA-Z0-9_]{1,50}(?:\.[a-zA-Z_][a-zA-Z0-9_]{0,29}){1,10})#\}\}")


class Variables:
    """A read-only view of the variables of a run, by scope."""

    __slots__ = ("_scopes",)

    def __init__(self, scopes: Mapping[str, Mapping[str, Value]]) -> None:
        self._scopes = scopes

    def find(self, selector: Sequence[str]) -> tuple[bool, Value]:
        """(exists, value). A variable of a skipped node does not exist; one that exists may be None."""
        exists, value = self.get_with_origin(selector)
        return exists, values.unwrap(value)

    def get_with_origin(self, selector: Sequence[str]) -> tuple[bool, Value]:
        """As `find`, but with the origin that an aggregator has recorded (`values.Variable`)."""
        if len(selector) < 2:
            return False, None
        scope = self._scopes.get(selector[0])
        if scope is None or selector[1] not in scope:
            return False, None
        return values.lookup(scope[selector[1]], selector[2:])

    def scope(self, name: str) -> Mapping[str, Value]:
        """All values of a scope; empty if there is no such scope."""
        return self._scopes.get(name, {})

    def with_scope(self, name: str, values: Mapping[str, Value]) -> Variables:
        """These variables with a scope of that name, in place of an existing one."""
        return Variables(ChainMap({name: values}, cast("MutableMapping[str, Mapping[str, Value]]", self._scopes)))

    def get(self, selector: Sequence[str], default: Value = None) -> Value:
        """The value, or the default if there is none."""
        exists, value = self.find(selector)
        return value if exists else default

    def with_origin(self, selector: Selector, new_id: Callable[[], str]) -> Variable:
        """The value with its origin: the recorded one, else this selector with a new id."""
        _, value = self.get_with_origin(selector)
        return value if isinstance(value, Variable) else Variable(value, tuple(selector), new_id())

    def render(self, template: str, form: Callable[[Value], str] = values.text) -> str:
        """The template with every `{{#selector#}}` replaced by its value, formatted by `form`; an unknown one by the
        selector itself, as Dify does."""

        def replace(match: re.Match[str]) -> str:
            exists, value = self.find(match[1].split("."))
            return form(value) if exists else match[1]

        return _PATTERN.sub(replace, template)

    def render_texts(self, value: Value) -> Value:
        """The value with all its texts rendered, however deep in lists and objects."""
        match value:
            case str():
                return self.render(value)
            case dict():
                return {name: self.render_texts(item) for name, item in cast("dict[str, Value]", value).items()}
            case list():
                return [self.render_texts(item) for item in cast("list[Value]", value)]
            case _:
                return value


def pieces(template: str) -> list[str | Selector]:
    """The pieces of a template: literal text, and selectors."""
    result: list[str | Selector] = []
    for index, part in enumerate(_PATTERN.split(template)):
        if index % 2:
            result.append(tuple(part.split(".")))
        elif part:
            result.append(part)
    return result


def selectors(template: str) -> list[Selector]:
    """The selectors in a template, in order, without duplicates."""
    return list(dict.fromkeys(tuple(match.split(".")) for match in _PATTERN.findall(template)))
