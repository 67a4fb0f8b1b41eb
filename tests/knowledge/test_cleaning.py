from __future__ import annotations

import time

import pytest

from headrace.knowledge.cleaning import clean


def test_control_characters_and_marks_of_models_are_removed_always() -> None:
    assert clean("a\x00b\x07c\x7f\ufffed\te\nf\r\n<|im_start|>g") == "abcd\te\nf\r\n<im_start>g"


def test_letters_that_dify_takes_for_bytes_are_kept() -> None:
    assert clean("¿naïve ¾?") == "¿naïve ¾?"


def test_blanks_and_urls_are_kept_unless_asked_for() -> None:
    text = "a  b\n\n\n\nc  https://example.com mail@example.com"
    assert clean(text) == text


def test_extra_blanks_of_any_kind_become_one() -> None:
    text = "a\t \u00a0\u3000b\n\n\n\n\nc\n\nd \t\r\n e"
    assert clean(text, extra_spaces=True) == "a b\n\nc\n\nd \n e"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Write to first.last+tag@mail.example.co.uk.", "Write to "),
        ("an @mention and a@b", "an @mention and a@b"),
        ("See https://example.com/a?b=c#d, or http://example.org.", "See  or "),
        ("[the page](https://example.com/a) stays", "[the page](https://example.com/a) stays"),
        ("![an image](https://example.com/a.png) stays", "![an image](https://example.com/a.png) stays"),
        ("[https://example.com](https://example.com) stays", "[https://example.com](https://example.com) stays"),
        ("[a [b](http://example.com) c] http://example.org", "[a [b](http://example.com) c] "),
        ("[not a link] (https://example.com)", "[not a link] ("),
        ("[relative](/a/b) and [open](https://example.com", "[relative](/a/b) and [open]("),
        ("发票见https://example.com/发票 或邮箱 a@example.com", "发票见 或邮箱 "),
        ("\x000\x00 [a](http://b.c)", "0 [a](http://b.c)"),  # no placeholder can be smuggled in
    ],
)
def test_urls_and_addresses_are_removed_except_from_markdown_links(text: str, cleaned: str) -> None:
    assert clean(text, urls_and_emails=True) == cleaned


@pytest.mark.parametrize("text", ["a", "[", "![", "](https://a", "[](", "a@", "@a.", "\n", " ", "https://", "<|"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(text: str) -> None:
    began = time.process_time()
    clean(text * 500_000, extra_spaces=True, urls_and_emails=True)
    assert time.process_time() - began < 60  # below 1 s
