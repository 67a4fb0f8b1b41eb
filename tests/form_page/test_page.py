"""The HTML of a form's page."""

from __future__ import annotations

import re
from base64 import b64decode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from headrace.api.form_page.messages import MESSAGES, language_of
from headrace.api.form_page.page import Problem, form_page, message_page, policy
from headrace.kernel.forms import LATEST
from tests.form_page.forms import COMMENT, PAGE, PICTURES, PRIORITY, TONE, form


class _Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of each kind."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data

    def named(self, name: str) -> tuple[str, dict[str, str | None]]:
        (element,) = [element for element in self.elements if element[1].get("name") == name]
        return element

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_each_input_has_a_control_and_a_label() -> None:
    page = _Elements(form_page(form(), "en", expires_at=1705494029))
    assert {label["for"] for label in page.all("label")} == {
        attributes["id"] for tag, attributes in page.elements if tag in ("textarea", "select", "input")
    }
    assert page.texts["label"] == ["comment", "priority", "tone of voice", "page", "pictures", "link"]
    assert page.texts["textarea"] == ['\n\n a"<x', "\nwarm & kind"]  # the first line break is not part of the value
    assert page.texts["option"] == ["Choose one", "low", "<high>"]
    assert [option.get("value") for option in page.all("option")] == ["", "low", "<high>"]
    tag, file = page.named("input-page")
    assert (tag, file["type"], "multiple" in file) == ("input", "file", False)
    assert set((file["accept"] or "").split(",")) >= {".png", ".jpg", ".md", ".log"}
    assert "multiple" in page.named("input-pictures")[1]
    assert page.named("input-link")[1]["type"] == "url"
    assert page.all("form")[0]["enctype"] == "multipart/form-data"
    assert page.all("time") == [{"datetime": "2024-01-17T12:20:29+00:00"}]


def test_the_latest_time_is_shown() -> None:
    assert "9999-12-31 23:59 UTC" in form_page(form(), "en", expires_at=LATEST)


def test_actions_are_buttons_with_their_style() -> None:
    page = _Elements(form_page(form(), "en"))
    buttons = [(button["name"], button["value"], button["class"]) for button in page.all("button")]
    assert buttons == [
        ("action", "approve", "primary"),
        ("action", "change", "accent"),
        ("action", "later", "ghost"),
        ("action", "reject", "default"),
    ]
    assert page.texts["button"] == ["Approve", "Ask for <changes>", "Later", "Reject"]


def test_fields_stand_where_the_content_names_them() -> None:
    html = form_page(form(COMMENT, PRIORITY, TONE), "en")
    places = [html.index(f'id="input-{name}"') for name in ("comment", "priority", "tone_of_voice")]
    assert places == sorted(places)
    assert html.index("Your comment:") < places[0] < html.index("<h2>Priority</h2>") < places[1]
    assert "[unknown] [comment]" in html  # what is no input, and an input that was shown before
    assert "enctype" not in html


def test_nothing_of_the_form_becomes_markup() -> None:
    evil = '"><script>alert(1)</script>'
    inputs = [
        {**COMMENT, "output_variable_name": evil, "default": {"type": "constant", "value": f"</textarea>{evil}"}},
        {**PRIORITY, "option_source": {"value": [f"</select>{evil}"]}},
        {**PICTURES, "allowed_file_types": ["custom"], "allowed_file_extensions": [evil], "number_limits": evil},
    ]
    html = form_page(form(*inputs, content=evil, title=f"</title>{evil}"), "en", problems=[Problem(evil, evil)])
    page = _Elements(html)
    assert "script" not in page.texts
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.texts["h1"] == [f"</title>{evil}"]


def test_inputs_that_are_not_as_expected() -> None:
    odd = [{"type": "select", "output_variable_name": "a"}, {"type": "new", "output_variable_name": "b", "default": 3}]
    page = _Elements(form_page(form(*odd, content=""), "en"))
    assert [tag for tag, attributes in page.elements if "name" in attributes and "id" in attributes] == [
        "select",
        "textarea",
    ]


def test_an_answer_with_a_problem_keeps_what_was_typed() -> None:
    problems = [Problem("Please fill in this field.", "tone_of_voice"), Problem("Something else.")]
    typed = {"comment": "typed <b>", "priority": "<high>", "tone_of_voice": ""}
    html = form_page(form(COMMENT, PRIORITY, TONE, PAGE), "en", texts=typed, problems=problems)
    page = _Elements(html)
    assert page.texts["textarea"] == ["\ntyped <b>", "\n"]
    assert [option.get("value") for option in page.all("option") if "selected" in option] == ["<high>"]
    assert page.named("input-tone_of_voice")[1]["aria-invalid"] == "true"
    assert "aria-invalid" not in page.named("input-comment")[1]
    assert '<div class="problem" role="alert">' in html
    assert '<a href="#input-tone_of_voice">tone of voice</a>: Please fill in this field.' in html


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("en-GB,en;q=0.9,zh-TW;q=0.8", "en"),
        ("zh-TW,zh;q=0.9,en;q=0.1", "zh-Hant"),
        ("zh-Hant-HK", "zh-Hant"),
        ("fr, zh-HK;q=0.5", "zh-Hant"),
        ("zh-CN", "zh-Hans"),
        ("zh", "zh-Hans"),
        ("en;q=0.1, zh-Hans-HK;q=0.2", "zh-Hans"),
        ("zh;q=0, en", "en"),
        ("zh;q=much, *", "en"),
        (",;=,;q=" * 10_000, "en"),
        ("ZH-tw", "zh-Hant"),
    ],
)
def test_languages(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


@pytest.mark.parametrize("language", MESSAGES)
def test_every_language_has_every_word(language: str) -> None:
    assert MESSAGES[language].keys() == MESSAGES["en"].keys()
    page = _Elements(form_page(form(), language))
    assert page.all("html") == [{"lang": language}]
    html = message_page(language, "thanks", "sent")
    assert MESSAGES[language]["sent"] in html
    assert "<form" not in html


def test_the_policy_allows_the_pages_style_alone() -> None:
    allowed = policy(["https://flows.example.com"])
    (style,) = re.findall(r"<style>(.*?)</style>", form_page(form(), "en"), re.DOTALL)
    (digest,) = re.findall(r"style-src 'sha256-([^']+)';", allowed)
    assert b64decode(digest) == sha256(style.encode()).digest()
    assert "default-src 'none'" in allowed
    assert "img-src 'self' https://flows.example.com;" in allowed
    assert "script" not in allowed
    assert " style=" not in form_page(form(), "en")
