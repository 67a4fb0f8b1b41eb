"""A form as a web page: plain HTML, which needs no script."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from headrace.api.form_page.messages import MESSAGES
from headrace.content.filetypes import extensions_of
from headrace.content.markdown import to_html
from headrace.frozen import frozen
from headrace.kernel.events import FormRequested
from headrace.kernel.forms import PLACEHOLDER
from headrace.values import Value

if TYPE_CHECKING:
    from jinja2 import Template

PREFIX = "input-"
"""Before the name of an input in the page: `action` names the button that was pressed."""

_HERE = Path(__file__).parent
_STYLES = frozenset({"primary", "default", "accent", "ghost"})


@frozen
class Problem:
    """What is wrong with an answer; `name` is the input's, if it is about one."""

    text: str
    name: str = ""


@frozen
class Field:
    """An input. `kind`: text, select, file or url."""

    id: str
    label: str
    kind: str
    value: str = ""
    options: Sequence[str] = ()
    accept: str = ""
    multiple: bool = False
    hint: str = ""
    invalid: bool = False


@frozen
class Part:
    """A piece of the form's content, or the field that stands at this place."""

    html: str | None = None
    field: Field | None = None


def form_page(
    form: FormRequested,
    language: str,
    *,
    expires_at: float | None = None,
    texts: Mapping[str, str] | None = None,
    problems: Sequence[Problem] = (),
    images: Sequence[str] = (),
) -> str:
    """The page of a form that waits. `texts` are the values of an answer that was not accepted, by input."""
    wrong = {problem.name for problem in problems}
    fields = {field.id: field for field in _fields(form, language, texts or {}, wrong)}
    parts = list(_parts(form.content, fields, images))
    return _render(
        language,
        form.title,
        form={
            "parts": parts,
            "has_files": any(field.kind == "file" for field in fields.values()),
            "actions": [_action(action) for action in form.actions],
            "due": None if expires_at is None else _time(expires_at),
        },
        problems=[
            {"text": problem.text, "field": problem.name and PREFIX + problem.name, "label": _label(problem.name)}
            for problem in problems
        ],
    )


def message_page(language: str, title: str, message: str) -> str:
    """A page that says one thing. `title` and `message` name words of `MESSAGES`."""
    words = MESSAGES[language]
    return _render(language, words[title], message=words.get(message, message))


def policy(images: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of the pages. `images`: origins of images, besides this server."""
    digest = b64encode(sha256(_style().encode()).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{digest}'",
            " ".join(("img-src 'self'", *images)),
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _fields(form: FormRequested, language: str, texts: Mapping[str, str], wrong: set[str]) -> Iterator[Field]:
    words = MESSAGES[language]
    for item in form.inputs:
        name, kind = str(item["output_variable_name"]), str(item["type"])
        field = partial(Field, PREFIX + name, _label(name))
        invalid = name in wrong
        match kind:
            case "select":
                options = [str(option) for option in _list(_mapping(item.get("option_source")).get("value"))]
                value = texts.get(name, "")
                yield field("select", value=value, options=options, invalid=invalid)
            case "file" | "file-list" if "local_file" in _list(item.get("allowed_file_upload_methods")):
                multiple, most = kind == "file-list", item.get("number_limits")
                hint = words["files"].format(most) if multiple and most else ""
                yield field("file", accept=_accept(item), multiple=multiple, hint=hint, invalid=invalid)
            case "file" | "file-list":
                yield field("url", value=texts.get(name, ""), hint=words["url"], invalid=invalid)
            case _:
                yield field("text", value=texts.get(name, _default(form, item, name)), invalid=invalid)


def _parts(content: str, fields: Mapping[str, Field], images: Sequence[str]) -> Iterator[Part]:
    """The content with each field at its first placeholder; those without one follow."""
    left = dict(fields)
    pieces = PLACEHOLDER.split(content)  # text, name, text, name ... text
    text = pieces[0]
    for name, after in zip(pieces[1::2], pieces[2::2], strict=True):
        field = left.pop(PREFIX + name, None)
        if field is None:  # unknown, or shown before
            text += f"[{name}]{after}"
            continue
        yield from _text(text, images)
        yield Part(field=field)
        text = after
    yield from _text(text, images)
    for field in left.values():
        yield Part(field=field)


def _text(markdown: str, images: Sequence[str]) -> Iterator[Part]:
    if markdown.strip():
        from markupsafe import Markup

        yield Part(html=Markup(to_html(markdown, images=images)))


def _action(action: Mapping[str, Value]) -> Mapping[str, Value]:
    style = action.get("button_style")
    return {"id": action["id"], "title": action["title"], "style": style if style in _STYLES else "default"}


def _default(form: FormRequested, item: Mapping[str, Value], name: str) -> str:
    if name in form.defaults:
        return str(form.defaults[name])
    default = _mapping(item.get("default"))
    return str(default.get("value") or "") if default.get("type") == "constant" else ""


def _accept(item: Mapping[str, Value]) -> str:
    """What the browser offers to choose. The server checks the files, too."""
    accepted: list[str] = []
    for type_ in _list(item.get("allowed_file_types")):
        if type_ == "custom":
            extensions = map(str, _list(item.get("allowed_file_extensions")))
            accepted += [extension if extension.startswith(".") else f".{extension}" for extension in extensions]
        else:
            accepted += extensions_of(str(type_))
    return ",".join(accepted)


def _label(name: str) -> str:
    return name.replace("_", " ").strip() or name


def _time(at: float) -> Mapping[str, str]:
    time = datetime.fromtimestamp(at, UTC)
    return {"machine": time.isoformat(), "text": time.strftime("%Y-%m-%d %H:%M UTC")}


def _mapping(value: Value) -> Mapping[str, Value]:
    return cast("dict[str, Value]", value) if isinstance(value, dict) else {}


def _list(value: Value) -> Sequence[Value]:
    return cast("list[Value]", value) if isinstance(value, list) else ()


def _render(language: str, title: str, **values: object) -> str:
    from markupsafe import Markup

    words = MESSAGES[language]
    return _template().render(language=language, title=title, words=words, style=Markup(_style()), **values)


@cache
def _template() -> Template:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((_HERE / "page.html").read_text("utf-8"))


@cache
def _style() -> str:
    return (_HERE / "page.css").read_text("utf-8")
