"""The calls of the collection, from the OpenAPI description and the plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from plan import ENVIRONMENT, INPUTS, QUERY, STEPS, TAGS, USER, Step

_VARIABLE = re.compile(r"\{\{([^}]+)\}\}")
_JSON = "application/json"
_FORM = "multipart/form-data"
_SHOWN = ("application/json", "application/jsonl", "text/")


@dataclass(frozen=True)
class Call:
    """A request, with `{{variables}}`, and what is to be seen of its answer.

    `name` is unlike that of any other call. `text` is the body, or else there are `parts` of a form: (name, value,
    whether the value is a file). `optional`: query parameters that could be added, each with what it is.
    """

    name: str
    tag: str
    title: str
    about: str
    method: str
    url: str
    key: str | None
    statuses: Sequence[int]
    query: Sequence[tuple[str, str]] = ()
    optional: Sequence[tuple[str, str]] = ()
    headers: Sequence[tuple[str, str]] = ()
    text: str | None = None
    parts: Sequence[tuple[str, str, bool]] = ()
    saves: Mapping[str, str] = field(default_factory=dict[str, str])
    shown: bool = True

    @property
    def address(self) -> str:
        """The URL with its query."""
        query = "&".join(f"{name}={value if '{{' in value else quote(value, safe='')}" for name, value in self.query)
        return f"{self.url}?{query}" if query else self.url

    @property
    def needs(self) -> Sequence[str]:
        """The variables that calls before it have to save."""
        texts = [
            self.address,
            self.text or "",
            *(value for _, value in self.headers),
            *(each[1] for each in self.parts),
        ]
        names = dict.fromkeys(name for text in texts for name in _VARIABLE.findall(text))
        return [name for name in names if name not in ENVIRONMENT and not name.startswith("$")]


def calls_of(description: Mapping[str, Any]) -> list[Call]:
    """All calls, in an order in which each finds what it needs."""
    operations = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    available_steps = [step for step in STEPS if step.operation in operations]
    ids = {step.operation for step in available_steps}
    steps = [*available_steps, *(Step(name) for name in operations if name not in ids)]
    tags = {step: step.tag or operations[step.operation][2]["tags"][0] for step in map(_Same, steps)}
    order = [*TAGS, *sorted({tag for tag in tags.values() if tag not in TAGS})]
    names: dict[str, int] = {}
    calls: list[Call] = []
    for same in sorted(tags, key=lambda each: order.index(tags[each])):
        step = same.step
        number = names[step.operation] = names.get(step.operation, 0) + 1
        name = step.operation + (str(number) if number > 1 else "")
        calls.append(_call(name, step, tags[same], *operations[step.operation]))
    return calls


class _Same:
    """A step by its identity: two may say the same."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.operation, self.tag = step.operation, step.tag


def chapters(calls: Sequence[Call]) -> Iterator[tuple[str, list[Call]]]:
    """The calls of each tag, and before them those that save what they need."""
    for tag in dict.fromkeys(call.tag for call in calls):
        chapter: list[Call] = []
        for call in calls:
            if call.tag == tag:
                _add(chapter, call, calls)
        yield tag, chapter


def _add(chapter: list[Call], call: Call, calls: Iterable[Call]) -> None:
    if call in chapter:
        return
    for name in call.needs:
        if not any(name in each.saves for each in chapter):
            source = next((each for each in calls if name in each.saves), None)
            if source is None:
                raise SystemExit(f"{call.name} needs {name}, which no call saves: add it to plan.py")
            _add(chapter, source, calls)
    chapter.append(call)


def _call(name: str, step: Step, tag: str, method: str, path: str, operation: Mapping[str, Any]) -> Call:
    parameters: Sequence[Mapping[str, Any]] = operation.get("parameters", ())
    stands: dict[str, str] = {}
    for each in parameters:
        if each["in"] == "path":
            choices = each["schema"].get("enum")
            value = step.path.get(each["name"], f"={choices[0]}" if choices else each["name"])
            stands[each["name"]] = value[1:] if value.startswith("=") else f"{{{{{value}}}}}"
    url = step.url or "{{base_url}}" + re.sub(r"\{(\w+)\}", lambda match: stands[match[1]], path)
    query_parameters = [each for each in parameters if each["in"] == "query" and not step.url]
    query = [
        (each["name"], step.query.get(each["name"], QUERY.get(each["name"], "")))
        for each in query_parameters
        if each.get("required") or each["name"] in ("user", *step.query)
    ]
    names = {name for name, _ in query}
    key = (step.key or TAGS.get(tag, "api_key")) if operation.get("security") else None
    kind, text, parts = _body(step, operation, INPUTS.get(key or "", {}))
    good = {int(status): response for status, response in operation["responses"].items() if status < "300"}
    contents = [media for response in good.values() for media in response.get("content", ())]
    return Call(
        name=name,
        tag=tag,
        title=step.title or operation["summary"],
        about=operation["description"],
        method=method,
        url=url,
        key=key,
        statuses=[*good, *step.refusals],
        query=query,
        optional=[
            (each["name"], each.get("description", "")) for each in query_parameters if each["name"] not in names
        ],
        headers=[*step.headers.items(), *([("Content-Type", kind)] if kind else [])],
        text=text,
        parts=parts,
        saves=step.saves,
        shown=not contents or any(media.startswith(_SHOWN) for media in contents),
    )


def _body(
    step: Step, operation: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[str, str | None, Sequence[tuple[str, str, bool]]]:
    """(content type, text, parts of a form)."""
    contents: Mapping[str, Any] = operation.get("requestBody", {}).get("content", {})
    if not contents:
        return "", None, ()
    kind, content = next(iter(contents.items()))
    if kind == _FORM:
        fields = content["schema"]["properties"]
        return "", None, [_part(name, about, step) for name, about in fields.items() if _wanted(name, about)]
    example = content["example"] if "example" in content else next(iter(content["examples"].values()))["value"]
    if step.body or kind != _JSON:
        return kind, step.body or example, ()
    body = {**example, "inputs": inputs} if "inputs" in example else example
    return kind, json.dumps({**body, **step.with_}, ensure_ascii=False, indent=2), ()


def _wanted(name: str, about: Mapping[str, Any]) -> bool:
    return _is_file(about) or name == "user"


def _is_file(about: Mapping[str, Any]) -> bool:
    return about.get("format") == "binary" or "contentMediaType" in about


def _part(name: str, about: Mapping[str, Any], step: Step) -> tuple[str, str, bool]:
    return (name, step.file, True) if _is_file(about) else (name, USER, False)


def file_type(path: str) -> str:
    """The content type of a file that is uploaded."""
    return {".txt": "text/plain", ".wav": "audio/wav"}[PurePosixPath(path).suffix]
