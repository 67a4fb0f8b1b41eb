"""Python source, piece by piece: names, literals and docstrings that nothing in a workflow file can break out of."""

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
"""What annotations are made of: a field of such a name would hide it from the fields after it."""


def name_of(wire: str, taken: Iterable[str] = ()) -> str:
    """A Python name for what a file calls by any text, unlike those that are taken. Names that Python and pydantic take
    stay as they are, whatever their script."""
    spelt = unicodedata.normalize("NFKC", wire)
    name = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in spelt).lstrip("_")[:_LONGEST_NAME]
    if not name.isidentifier():
        name = f"value_{name}".rstrip("_")
    if keyword.iskeyword(name) or name in _USED or hasattr(BaseModel, name):
        name += "_"
    return _unlike(name, taken)


def class_name_of(wire: str, taken: Iterable[str]) -> str:
    """As `name_of`, for a class."""
    words = name_of(wire)[:24].split("_")
    return _unlike("".join(word[:1].upper() + word[1:] for word in words) or "Value", taken)


def _unlike(name: str, taken: Iterable[str]) -> str:
    others, number, made = set(taken), 1, name
    while made in others:
        number += 1
        made = f"{name.rstrip('_')}_{number}"
    return made


def literal(value: str | float | None) -> str:
    """A value as Python has it, quoted as formatters do."""
    if not isinstance(value, str):
        return repr(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + _escaped(value).replace(quote, f"\\{quote}") + quote


def docstring(text: str, indent: str = "") -> str:
    """A docstring: its first line alone, or paragraphs (parted by an empty line), wrapped."""
    paragraphs = [_wrapped(each, WIDTH - len(indent)) for each in text.split("\n\n")]
    lines = [line for lines in paragraphs for line in ([""], *([each] for each in lines)) for line in line][1:]
    # neither three quotes within, nor one before those that end it
    told = [re.sub(r'"{3,}|"$', lambda quotes: '\\"' * len(quotes[0]), _escaped(line)) for line in lines]
    if len(told) == 1 and len(indent) + cell_len(told[0]) + 6 <= WIDTH:
        return f'{indent}"""{told[0]}"""'
    told = [line and indent + line for line in told]
    return "\n".join([f'{indent}"""{told[0].removeprefix(indent)}', *told[1:], f'{indent}"""'])


def words(text: str) -> str:
    """A text from the file as one line."""
    return " ".join(text.split())


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of so many columns; what has no spaces is broken anywhere."""
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
    return "".join(_letter(each) for each in text)


def _letter(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if letter.isprintable():
        return letter
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter) or _numbered(ord(letter))


def _numbered(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def union(types: Iterable[str]) -> str:
    """The types as one, each once, None last."""
    parts = dict.fromkeys(part for each in types for part in each.split(" | "))
    if "Any" in parts:
        return "Any"
    ordered = [part for part in parts if part != "None"] + [part for part in parts if part == "None"]
    return " | ".join(ordered)


@dataclass(frozen=True)
class Choice:
    """A name for one of several values."""

    name: str
    values: Sequence[str | float]

    def source(self) -> str:
        told = ", ".join(literal(value) for value in self.values)
        line = f"{self.name} = Literal[{told}]"
        if cell_len(line) <= WIDTH:
            return line
        comma = "," if len(self.values) > 1 else ""
        listed = ",\n".join(f"    {literal(value)}" for value in self.values)
        return f"{self.name} = Literal[\n{listed}{comma}\n]"


@dataclass(frozen=True)
class FieldSpec:
    """One field of a model. `default` is Python's source; None: the field has to be given."""

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
                listed = "".join(f"{indent * 2}{each},\n" for each in arguments)
                line = f"{head} = Field(\n{listed}{indent})" if arguments else head
        return f"{line}\n{docstring(self.about, indent)}" if self.about else line


_CONFIG = """\
    model_config = ConfigDict(
        extra={extra},
        populate_by_name=True,
        protected_namespaces=(),
    )"""


@dataclass(frozen=True)
class Model:
    """A pydantic model. `extra`: what becomes of fields that it does not have."""

    name: str
    about: str
    extra: str
    fields: Sequence[FieldSpec] = field(default_factory=list[FieldSpec])

    def source(self) -> str:
        head = f"class {self.name}(BaseModel):\n{docstring(self.about, '    ')}"
        return "\n\n".join([head, _CONFIG.format(extra=literal(self.extra)), *(each.source() for each in self.fields)])
