"""Encodings: short texts whose encoding nobody told, and those that are declared, rightly or wrongly."""

from __future__ import annotations

import codecs
import os
import time

import pytest

from headrace.content.encodings import decode, is_wide
from tests.content.texts import TEXTS

# What is not read: bytes that make sense in another encoding too.
MISREAD = {
    ("錯誤：檔案不存在", "gb18030"),
    ("ЦЕНА: 150 РУБ.", "koi8_u"),
    ("Temperature: 25°C ± 2", "cp1252"),
    ("Árvíztűrő tükörfúrógép", "iso8859_2"),
    ("Árvíztűrő tükörfúrógép", "cp1250"),
    # UTF-16 without a mark, and without a space, a digit or a stop that would show it
    ("カタログダウンロード", "utf_16_le"),
    ("カタログダウンロード", "utf_16_be"),
    ("銷售報告總表", "utf_16_le"),
    ("銷售報告總表", "utf_16_be"),
}


def test_short_texts_are_read_whatever_their_encoding() -> None:
    assert len(TEXTS) > 300
    assert {(text, encoding) for text, encoding in TEXTS if decode(text.encode(encoding)) != text} == MISREAD


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_the_last_word(encoding: str) -> None:
    for text, _ in TEXTS:
        assert decode(text.encode(encoding), "windows-1252") == text


@pytest.mark.parametrize(
    ("mark", "encoding"), [(codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")], ids=str
)
def test_marks_of_the_other_byte_order(mark: bytes, encoding: str) -> None:
    assert decode(mark + "Grüße, 世界".encode(encoding), "utf-8") == "Grüße, 世界"


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("日本".encode("shift_jis"), "Shift_JIS", "日本"),
        ("①髙".encode("cp932"), "shift_jis", "①髙"),  # as the Web means it
        ("똠방각하".encode("cp949"), "euc-kr", "똠방각하"),
        ("汉字 €".encode("gb18030"), "gb2312", "汉字 €"),
        ("“€”".encode("cp1252"), "iso-8859-1", "“€”"),
        ("ą".encode("iso8859-2"), "ISO-8859-2", "ą"),
        ("日本".encode("iso2022_jp"), "iso-2022-jp", "日本"),
        ("ab".encode("utf-16-le"), "utf-16", "ab"),
        ("日本、東京".encode("utf-16-be"), "utf-16", "日本、東京"),
        # declared, but not so
        ("Grüße".encode(), "iso-8859-1", "Grüße"),
        (b"plain ascii text", "utf-16", "plain ascii text"),
        ("商品名と値段の一覧です。".encode("shift_jis"), "utf-8", "商品名と値段の一覧です。"),
        ("Привет, как дела?".encode("cp1251"), "us-ascii", "Привет, как дела?"),
        # no encodings
        (b"ab", "nonsense", "ab"),
        (b"ab", "hex", "ab"),
        (b"ab", "rot13", "ab"),
        (b"ab", "idna", "ab"),
        (b"ab", "unicode_escape", "ab"),
        (b"ab", "\x00\n", "ab"),
    ],
)
def test_what_is_declared(data: bytes, declared: str, text: str) -> None:
    assert decode(data, declared) == text


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="{}">',
        "<META CHARSET={}>",
        '<html><head><meta http-equiv="Content-Type" content="text/html; charset={}"></head>',
        '<?xml version="1.0" encoding="{}"?>',
        "<?xml version='1.0' encoding='{}'?>",
    ],
)
def test_what_a_document_says_of_itself(head: str) -> None:
    for text, encoding in (("한국", "euc-kr"), ("ąž", "iso-8859-2"), ("Ωμέγα", "iso-8859-7"), ("日本", "euc-jp")):
        page = head.format(encoding) + text
        assert decode(page.encode(encoding)) == page
    wrong = head.format("iso-8859-2") + "Grüße"
    assert decode(wrong.encode()) == wrong
    assert decode(wrong.encode("cp1252"), "windows-1252") == wrong  # the header goes first


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("日本語".encode()[:-1], "日本"),  # cut off
        (b"caf\xe9", "café"),
        (b"ok\xff", "okÿ"),
        (b"abc\0", "abc\0"),
        (b"\0\0", "\0\0"),
    ],
)
def test_odds_and_ends(data: bytes, text: str) -> None:
    assert decode(data) == text


@pytest.mark.parametrize(
    "data", [os.urandom(1 << 20), bytes(range(128, 256)) * 8192, b"\0" * (1 << 20), b"a\xe9" * (1 << 19)], ids=len
)
@pytest.mark.parametrize("declared", ["", "utf-7", "hz", "iso-2022-jp-3", "gb18030", "idna", "punycode"])
def test_a_megabyte_of_noise_takes_no_long_time(data: bytes, declared: str) -> None:
    began = time.thread_time()
    decode(data, declared)
    assert time.thread_time() - began < 2  # some 30 ms


def test_what_is_utf_16() -> None:
    assert is_wide("ab".encode("utf-16"))
    assert is_wide("abc def".encode("utf-16-be"))
    assert not is_wide(b"abcd")
    assert not is_wide(b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00")
