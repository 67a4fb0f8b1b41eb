"""Formats that only need the standard library and PyYAML."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import yaml

from headrace.adapters.documents.bounds import Budget, Unreadable, archive
from headrace.adapters.documents.markup import html_text
from headrace.adapters.documents.tables import row as table_row
from headrace.content.encodings import decode

_MB = 1024 * 1024
_MOST_STRUCTURED = 20 * _MB  # bytes of JSON or YAML, which take a multiple of that in memory
_DEEPEST = 200  # levels of YAML
_MOST_XML = 100 * _MB
_MOST_MERGED = 100_000  # pairs that YAML's merge keys may add up to


def text(data: bytes, budget: Budget) -> str:
    return budget.text(decode(data))


def json_text(data: bytes, budget: Budget) -> str:
    """Indented by two, as in Dify."""
    _bound(data)
    try:
        value: Any = json.loads(decode(data))
    except ValueError as error:
        raise Unreadable(f"it is not valid JSON ({error})") from None
    encoder = json.JSONEncoder(indent=2, ensure_ascii=False)
    return "".join(budget.text(piece) for piece in encoder.iterencode(value))


def yaml_text(data: bytes, budget: Budget) -> str:
    """All documents of the file, serialized again without comments, as in Dify."""
    _bound(data)
    output = _Written(budget)
    source = decode(data)
    try:
        _refuse_depth(source, budget)
        documents = yaml.load_all(source, _YamlLoader)  # a safe loader
        yaml.dump_all(documents, output, Dumper=yaml.SafeDumper, allow_unicode=True, sort_keys=False)
    except yaml.YAMLError as error:
        raise Unreadable(f"it is not valid YAML ({' '.join(str(error).split())})") from None
    return output.getvalue()


def _refuse_depth(source: str, budget: Budget) -> None:
    """LibYAML needs recursion, and quadratic time, for deep nesting."""
    depth = 0
    for event in yaml.parse(source, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            budget.check()
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise Unreadable("it nests too deeply")


class _Written(io.StringIO):
    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def write(self, text: str, /) -> int:
        return super().write(self._budget.text(text))


class _YamlLoader(yaml.CSafeLoader):
    """Refuses merge keys that multiply (`<<: [*a, *a, ...]`, level by level) before they exhaust the memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        merges = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        targets = [
            target
            for value in merges
            for target in (value.value if isinstance(value, yaml.SequenceNode) else [value])
            if isinstance(target, yaml.MappingNode)
        ]
        for target in {id(node_target): node_target for node_target in targets}.values():
            self.flatten_mapping(target)
        if sum(len(target.value) for target in targets) > _MOST_MERGED:
            raise Unreadable("its merge keys add up to too much")
        super().flatten_mapping(node)


def _bound(data: bytes) -> None:
    if len(data) > _MOST_STRUCTURED:
        raise Unreadable(f"it is larger than {_MOST_STRUCTURED // _MB} MB")


def csv_text(data: bytes, budget: Budget) -> str:
    """A Markdown table; the first line is its header."""
    lines: list[str] = []
    try:
        for cells in csv.reader(io.StringIO(decode(data), newline="")):
            budget.cells(len(cells) + 1)
            row_cells = [cell.replace("\n", " ").replace("\r", "") for cell in cells]
            lines.append(budget.text(table_row(row_cells) + "\n"))
            if len(lines) == 1:
                lines.append(budget.text(table_row(["-" * max(len(cell), 1) for cell in row_cells]) + "\n"))
    except csv.Error as error:
        raise Unreadable(f"it is not valid CSV ({error})") from None
    return "".join(lines)


def properties(data: bytes, budget: Budget) -> str:
    """`key: value`, whatever the separator was."""
    return "\n".join(budget.text(_property(line.strip())) for line in decode(data).splitlines())


def _property(line: str) -> str:
    if not line or line.startswith(("#", "!")):
        return line
    mark = next((mark for mark in "=:" if mark in line), "=")
    key, _, value = line.partition(mark)
    return f"{key.strip()}: {value.strip()}"


# ------------------------------------------------------------------------------------------------------------- WebVTT

_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?\s([^<>]*+)>")
_TAG = re.compile(r"<[^<>]*+>")


def vtt(data: bytes, budget: Budget) -> str:
    """A line for each utterance: the speaker, and the words in quotes. Consecutive cues of a speaker are joined."""
    lines = decode(data).splitlines()
    if not lines or not lines[0].lstrip("\ufeff").startswith("WEBVTT"):
        raise Unreadable("it does not begin with WEBVTT")
    cues: list[tuple[str, list[str]]] = []
    for speaker, words in _utterances(lines):
        budget.text(words)
        if cues and speaker and cues[-1][0] == speaker:
            cues[-1][1].append(words)
        else:
            cues.append((speaker, [words]))
    return "\n".join(f'{speaker} "{" ".join(words)}"'.lstrip() for speaker, words in cues)


def _utterances(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(speaker or "", words) of every cue, in order."""
    cue: list[str] | None = None
    for line in [*lines, ""]:
        if "-->" in line:
            cue = []
        elif line.strip():
            if cue is not None:
                cue.append(line)
        elif cue is not None:
            yield from _voices("\n".join(cue))
            cue = None


def _voices(cue: str) -> Iterator[tuple[str, str]]:
    parts = _VOICE.split(cue)
    for speaker, words in [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]:
        if speech := _TAG.sub("", words).strip():
            yield speaker.strip(), speech


# --------------------------------------------------------------------------------------------------------------- mail


def eml(data: bytes, budget: Budget) -> str:
    """A message's body: its plain text, or the text of its HTML. Attachments are not read."""
    message = message_from_bytes(data, EmailMessage, policy=policy.default)
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    payload = body.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    words = decode(raw, body.get_content_charset(""))
    if body.get_content_type() == "text/html":
        return html_text(words, budget)
    return budget.text(words.replace("\r\n", "\n").strip())


# --------------------------------------------------------------------------------------------------------------- EPUB


def epub(data: bytes, budget: Budget) -> str:
    """The chapters in reading order."""
    zip_file = archive(data, _MOST_XML)
    package_path = _full_path(_part(zip_file.read, "META-INF/container.xml"))
    package = _xml(_part(zip_file.read, package_path))
    manifest = {
        item.attrib["id"]: item.attrib["href"]
        for item in package.iterfind("{*}manifest/{*}item")
        if "id" in item.attrib and "href" in item.attrib
    }
    chapters: list[str] = []
    folder = posixpath.dirname(package_path)
    for reference in package.iterfind("{*}spine/{*}itemref"):
        href = manifest.get(reference.get("idref", ""))
        if href is not None:
            path = posixpath.normpath(posixpath.join(folder, unquote(urlsplit(href).path))).lstrip("/")
            chapters.append(html_text(decode(_part(zip_file.read, path)), budget))
    return "\n".join(chapter for chapter in chapters if chapter)


def _full_path(container: bytes) -> str:
    root_file = _xml(container).find(".//{*}rootfile")
    path = unquote(urlsplit(root_file.get("full-path", "")).path).lstrip("/") if root_file is not None else ""
    if not path:
        raise Unreadable("it does not say where its package is")
    return path


def _part(read: Any, path: str) -> bytes:
    try:
        return cast("bytes", read(path))
    except KeyError:
        raise Unreadable(f"its part {path!r} is missing") from None


def _xml(data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise Unreadable(f"its XML is damaged ({error})") from None
