"""How documents are cleaned and split: checked when they are added, applied when they are indexed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, TypedDict, cast

from headrace.errors import InvalidParam
from headrace.frozen import frozen
from headrace.ids import new_id
from headrace.knowledge.cleaning import clean
from headrace.knowledge.splitting import LONGEST, SHORTEST, split_automatic, split_custom, split_into_parents
from headrace.ports.knowledge import DocForm, ProcessRule
from headrace.values import Value

Mode = Literal["automatic", "custom", "hierarchical"]

AUTOMATIC_RULES: Mapping[str, Value] = {
    "pre_processing_rules": [
        {"id": "remove_extra_spaces", "enabled": True},
        {"id": "remove_urls_emails", "enabled": False},
    ],
    "segmentation": {"delimiter": "\n", "max_tokens": 500, "chunk_overlap": 50},
}


class ProcessRuleSettings(TypedDict, total=False):
    """Dify's `process_rule`."""

    mode: Mode
    rules: Mapping[str, Value] | None


@frozen
class Piece:
    """A chunk of a document, with those that it is found by (`hierarchical_model`)."""

    content: str
    children: tuple[str, ...] = ()


@frozen
class _Segmentation:
    separator: str
    size: int
    overlap: int


def process_rule(settings: ProcessRuleSettings | None, last: ProcessRule | None) -> ProcessRule:
    """The rule of a document; that of the `last` one, if its settings have none. InvalidParam if they are not valid."""
    mode = settings.get("mode", "automatic") if settings else None
    rules = settings.get("rules") if settings else None
    if settings is None or (mode != "automatic" and not rules):
        if settings is not None and last is None:
            raise InvalidParam("No process rule found.")
        return last or ProcessRule(new_id(), "automatic", AUTOMATIC_RULES)
    match mode:
        case "automatic":
            return ProcessRule(new_id(), "automatic", AUTOMATIC_RULES)
        case "custom" | "hierarchical":
            rule = ProcessRule(new_id(), mode, rules or {})
        case _:
            raise InvalidParam("Process rule mode is invalid")
    if mode == "custom" or rule.rules.get("parent_mode") != "full-doc":
        _segmentation(rule, "segmentation", "\n\n")
    if mode == "hierarchical":
        _segmentation(rule, "subchunk_segmentation", "\n")
    return rule


def split(text: str, rule: ProcessRule, form: DocForm, most: int | None = None) -> Iterator[Piece]:
    """The chunks of a document's text, each with at most so many children. HeadraceError if the rule is not valid."""
    if form == "hierarchical_model":
        parents = _parents(text, rule)
        return (Piece(parent, tuple(islice(split_children(parent, rule), most))) for parent in parents)
    text = _cleaned(text, rule)
    if rule.mode == "automatic":
        return map(Piece, split_automatic(text))
    by = _segmentation(rule, "segmentation", "\n\n")
    return map(Piece, split_custom(text, by.separator, by.size, by.overlap))


def split_children(parent: str, rule: ProcessRule) -> Iterator[str]:
    """The child chunks of a segment."""
    by = _segmentation(rule, "subchunk_segmentation", "\n")
    return split_into_parents(parent, by.separator, by.size, by.overlap)


def _parents(text: str, rule: ProcessRule) -> Iterable[str]:
    if rule.rules.get("parent_mode") == "full-doc":
        return [text] if text.strip() else []  # Dify does not clean it
    by = _segmentation(rule, "segmentation", "\n\n")
    return split_into_parents(_cleaned(text, rule), by.separator, by.size, by.overlap)


def _cleaned(text: str, rule: ProcessRule) -> str:
    names = _enabled(rule)
    return clean(text, extra_spaces="remove_extra_spaces" in names, urls_and_emails="remove_urls_emails" in names)


def _enabled(rule: ProcessRule) -> set[str]:
    entries = rule.rules.get("pre_processing_rules")
    names: set[str] = set()
    for entry in cast("list[Value]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            fields = cast("Mapping[str, Any]", entry)
            if fields.get("enabled") is True:
                names.add(str(fields.get("id")))
    return names


def _segmentation(rule: ProcessRule, name: str, separator: str) -> _Segmentation:
    """InvalidParam if it is missing or out of range."""
    value = rule.rules.get(name)
    if not isinstance(value, Mapping):
        raise InvalidParam(f"Process rule {name} is required")
    fields = cast("Mapping[str, Any]", value)
    size, overlap = fields.get("max_tokens"), fields.get("chunk_overlap") or 0
    chosen = fields.get("separator", fields.get("delimiter", separator))
    if not isinstance(chosen, str) or not chosen:
        raise InvalidParam(f"Process rule {name} separator is required")
    if not isinstance(size, int) or isinstance(size, bool) or not SHORTEST <= size <= LONGEST:
        raise InvalidParam(f"Process rule {name} max_tokens has to be between {SHORTEST} and {LONGEST}")
    if not isinstance(overlap, int) or isinstance(overlap, bool) or not 0 <= overlap <= size:
        raise InvalidParam(f"Process rule {name} chunk_overlap has to be between 0 and max_tokens")
    return _Segmentation(chosen, size, overlap)
