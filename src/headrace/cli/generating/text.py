"""Python source: names, literals and docstrings, with the texts of a workflow file safely escaped."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel
from rich.cells import cell_len

WIDTH = 88
_LONGEST_NAME = 40
_USED = frozenset({"Any", "Literal", "Field", "bool", "dict", "float", "int", "list", "str"})
"""Names in annotations, which a field of the same name would shadow."""


def name_of(wire: str, taken_names: Iterable[str] = ()) -> str:
    """A Python name for any name in a file, different from those that are taken. A valid name stays as it is, in any
    script."""
    text = unicodedata.normalize("NFKC", wire)
    name = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in text).lstrip("_")[:_LONGEST_NAME]
    if not name.isidentifier():
        name = f"value_{name}".rstrip("_")
    if keyword.iskeyword(name) or name in _USED or hasattr(BaseModel, name):
        name += "_"
    return _unlike(name, taken_names)


def class_name_of(wire: str, taken_names: Iterable[str]) -> str:
    """As `name_of`, for a class."""
    words = name_of(wire)[:24].split("_")
    return _unlike("".join(word[:1].upper() + word[1:] for word in words) or "Value", taken_names)


def _unlike(name: str, taken_names: Iterable[str]) -> str:
    others, number, unique = set(taken_names), 1, name
    while unique in others:
        number += 1
        unique = f"{name.rstrip('_')}_{number}"
    return unique


def literal(value: str | float | None) -> str:
    """A Python literal, quoted as formatters do."""
    if not isinstance(value, str):
        return repr(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + _escaped(value).replace(quote, f"\\{quote}") + quote


def docstring(text: str, indent: str = "") -> str:
    """A docstring: one line, or wrapped paragraphs (separated by empty lines)."""
    paragraphs = [_wrapped(paragraph, WIDTH - len(indent)) for paragraph in text.split("\n\n")]
    lines = [line for paragraph in paragraphs for line in ("", *paragraph)][1:]
    # no three quotes inside, and none before the closing ones
    lines = [re.sub(r'"{3,}|"$', lambda quotes: '\\"' * len(quotes[0]), _escaped(line)) for line in lines]
    if len(lines) == 1 and len(indent) + cell_len(lines[0]) + 6 <= WIDTH:
        return f'{indent}"""{lines[0]}"""'
    rest = [line and indent + line for line in lines[1:]]
    return "\n".join([f'{indent}"""{lines[0]}', *rest, f'{indent}"""'])


def words(text: str) -> str:
    """A text from the file as one line."""
    return " ".join(text.split())


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of `width` columns; long words are broken anywhere."""
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if cell_len(line) <= width:
            lines[-1] = line
            continue
        lines.append("")
        for letter in word:
            if cell_len(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line] or [""]


def _escaped(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter != "\\" else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def union(types: Iterable[str]) -> str:
    """The union of types, without duplicates, None last."""
    parts = dict.fromkeys(part for type_ in types for part in type_.split(" | "))
    if "Any" in parts:
        return "Any"
    ordered_parts = [part for part in parts if part != "None"] + [part for part in parts if part == "None"]
    return " | ".join(ordered_parts)


@dataclass(frozen=True)
class Choice:
    """A name for one of several values."""

    name: str
    values: Sequence[str | float]

    def source(self) -> str:
        values = ", ".join(literal(value) for value in self.values)
        line = f"{self.name} = Literal[{values}]"
        if cell_len(line) <= WIDTH:
            return line
        comma = "," if len(self.values) > 1 else ""
        lines = ",\n".join(f"    {literal(value)}" for value in self.values)
        return f"{self.name} = Literal[\n{lines}{comma}\n]"


@dataclass(frozen=True)
class FieldSpec:
    """A field of a model. `default` is Python source, None if the field is required."""

    name: str
    wire: str
    type: str
    about: str = ""
    default: str | None = None
    limits: Sequence[str] = ()

    def source(self) -> str:
        indent = "    "
        arguments = [f"default={self.default}"] if self.default is not None else []
        arguments += self.limits
        if self.name != self.wire:
            arguments += [f"{kind}_alias={literal(self.wire)}" for kind in ("validation", "serialization")]
        head = f"{indent}{self.name}: {self.type}"
        plain = head if self.default is None else f"{head} = {self.default}"
        if len(arguments) == (self.default is not None) and cell_len(plain) <= WIDTH:
            line = plain
        else:
            line = f"{head} = Field({', '.join(arguments)})"
            if cell_len(line) > WIDTH:
                lines = "".join(f"{indent * 2}{argument},\n" for argument in arguments)
                line = f"{head} = Field(\n{lines}{indent})" if arguments else head
        return f"{line}\n{docstring(self.about, indent)}" if self.about else line


_CONFIG = """\
    model_config = ConfigDict(
        extra={extra},
        populate_by_name=True,
        protected_namespaces=(),
    )"""


@dataclass(frozen=True)
class Model:
    """A pydantic model; `extra` is the setting of that name."""

    name: str
    about: str
    extra: str
    fields: Sequence[FieldSpec] = field(default_factory=list[FieldSpec])

    def source(self) -> str:
        head = f"class {self.name}(BaseModel):\n{docstring(self.about, '    ')}"
        return "\n\n".join([head, _CONFIG.format(extra=literal(self.extra)), *(spec.source() for spec in self.fields)])
