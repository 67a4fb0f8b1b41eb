"""Markdown as HTML, with texts of people who want it to do more."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.content.markdown import MAX_RENDERED, to_html, to_subject

TAGS = {
    *(
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "s",
    ),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {
    "a": {"href", "title", "rel", "target"},
    "code": {"class"},
    "img": {"src", "alt", "title"},
    "ol": {"start"},
    "td": {"align"},
    "th": {"align"},
}


class _Checker(HTMLParser):
    """Fails for an element, attribute or address that is not allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES.get(tag, set())
        values = dict(attrs)
        if tag == "a":
            assert (values["href"] or "").lower().startswith(("http://", "https://", "mailto:"))
            assert values["rel"] == "noopener noreferrer nofollow"
        if tag == "img":
            self.images.append(values["src"] or "")

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def _check(html: str) -> list[str]:
    """The addresses of its images."""
    checker = _Checker()
    checker.feed(html)
    checker.close()
    return checker.images


def test_common_elements() -> None:
    text = "*a* **b** ~~c~~ `d`\nnext\n\n1. one\n\n- two\n\n> three\n\n|x|y|\n|--|-:|\n|1|2|\n\n---\n\n    code\n"
    html = to_html(text)
    _check(html)
    assert "<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code><br>\nnext</p>" in html
    for part in ("<ol>", "<li>one</li>", "<ul>", "<blockquote>", '<td align="right">2</td>', "<hr>", "<pre><code>"):
        assert part in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<!-- --><svg/onload=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](&#106;avascript:alert(1))",
        "[a](java\tscript:alert(1))",
        "[a](\x01javascript:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x) <javascript:alert(1)> <file:///etc/passwd>",
        "[a](/console) [b](//evil.example) [c](https:evil) [d](http://[) [e](#x)",
        '[a](https://x.example/"onmouseover="alert(1))',
        '[a](https://x.example "\\" onmouseover=alert(1) x=\\"")',
        '![" onerror="alert(1)](https://x.example/p.png)',
        "![a](javascript:alert(1)) ![b](data:image/svg+xml,<svg/onload=alert(1)>)",
        '```"><script>alert(1)</script>\nx\n```',
        "[x]: javascript:alert(1)\n\n[x]",
        "\x00\ufffe\u202e<b>\ud800</b>",
    ],
)
def test_nothing_that_runs_or_loads(text: str) -> None:
    html = to_html(text)
    assert _check(html) == []
    assert "javascript" not in {part.partition(":")[0].lower().strip() for part in html.split('href="')[1:]}


@given(st.text(alphabet="<>[]()!`*_~#|-:\"'&;= \n\t\\ab/x", max_size=200))
def test_any_text_is_within_the_list(text: str) -> None:
    _check(to_html(text))


def test_images_of_listed_places_only() -> None:
    text = "![ours](https://me.example/files/1?sign=a&b) ![theirs](https://me.example.evil/files/1) ![](https://t.example/)"
    html = to_html(text, images=["https://me.example/files/"])
    assert _check(html) == ["https://me.example/files/1?sign=a&b"]
    assert (
        '<a href="https://me.example.evil/files/1" rel="noopener noreferrer nofollow" target="_blank">theirs</a>'
        in html
    )
    assert ">https://t.example/</a>" in html


def test_headings_skip_no_level() -> None:
    html = to_html("#### a\n\n# b\n\n###### c\n\n###### d\n\ne\n===\n")
    assert [part[:2] for part in html.split("<h")[1:]] == ["2>", "2>", "3>", "4>", "2>"]


@pytest.mark.parametrize("text", ["a<b>\n" * MAX_RENDERED, "![" * 2000, "[" * 20_000])
def test_texts_that_take_too_long_are_shown_as_they_are(text: str) -> None:
    html = to_html(text)
    assert html.startswith("<pre>")
    _check(html)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("Review  the\tdraft", "Review the draft"),
        ("Hi\r\nBcc: all@example.com\r\n\r\nbody", "Hi Bcc: all@example.com body"),
        ("a\u2028b\x85c\x0bd", "a b c d"),
        ("<b>Hi</b> <scr<b>ipt>x", "Hi x"),
        ("<<b>b>x", "x"),
        ("1 < 2", "1 < 2"),
        ("\u202egnp.exe\u200b\x00\ud800", "gnp.exe"),
        ("審批 📝 👩\u200d💻 می\u200cخواهم", "審批 📝 👩\u200d💻 می\u200cخواهم"),
        ("x" * 300, "x" * 199 + "…"),
        ("<" * 100_000 + ">" * 100_000, "<" * 199 + "…"),
        ("", ""),
    ],
)
def test_subjects_are_one_line_without_tags(text: str, subject: str) -> None:
    assert to_subject(text) == subject
