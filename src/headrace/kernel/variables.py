"""How nodes read: selectors, and the two spellings of a value inside text.

Scopes are a node's id, `sys`, `env` and `conversation`. A selector is (scope, name, *path): the path goes into objects
and into the parts of a file (`url`, `name`, `size` ...).
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
    """Read-only view of what a run's nodes have put out, by scope."""

    __slots__ = ("_scopes",)

    def __init__(self, scopes: Mapping[str, Mapping[str, Value]]) -> None:
        self._scopes = scopes

    def find(self, selector: Sequence[str]) -> tuple[bool, Value]:
        """(found, value): a value that is None is found; one of a skipped node is not."""
        found, value = self.get_with_origin(selector)
        return found, values.unwrap(value)

    def get_with_origin(self, selector: Sequence[str]) -> tuple[bool, Value]:
        """As `find`, with the provenance that an aggregator left (`values.Variable`) still in place."""
        if len(selector) < 2:
            return False, None
        scope = self._scopes.get(selector[0])
        if scope is None or selector[1] not in scope:
            return False, None
        return values.follow(scope[selector[1]], selector[2:])

    def scope(self, name: str) -> Mapping[str, Value]:
        """All values of a scope; none where there is no such scope."""
        return self._scopes.get(name, {})

    def with_scope(self, name: str, values: Mapping[str, Value]) -> Variables:
        """These and a scope of that name, in place of one that is there."""
        return Variables(ChainMap({name: values}, cast("MutableMapping[str, Mapping[str, Value]]", self._scopes)))

    def get(self, selector: Sequence[str], default: Value = None) -> Value:
        """The value, or the default where there is none."""
        found, value = self.find(selector)
        return value if found else default

    def with_origin(self, selector: Selector, new_id: Callable[[], str]) -> Variable:
        """The value with its provenance: kept if it has one, else this selector under a new id."""
        _, value = self.get_with_origin(selector)
        return value if isinstance(value, Variable) else Variable(value, tuple(selector), new_id())

    def render(self, template: str, form: Callable[[Value], str] = values.text) -> str:
        """The template with every `{{#selector#}}` replaced by its value in a form; an unknown one by its bare name,
        as Dify does."""

        def replace(match: re.Match[str]) -> str:
            found, value = self.find(match[1].split("."))
            return form(value) if found else match[1]

        return _PATTERN.sub(replace, template)


def pieces(template: str) -> list[str | Selector]:
    """The template taken apart: literal text, and the selectors between."""
    found: list[str | Selector] = []
    for index, part in enumerate(_PATTERN.split(template)):
        if index % 2:
            found.append(tuple(part.split(".")))
        elif part:
            found.append(part)
    return found


def selectors(template: str) -> list[Selector]:
    """The selectors that a template reads, in order, each once."""
    return list(dict.fromkeys(tuple(match.split(".")) for match in _PATTERN.findall(template)))
