"""Content-Disposition headers as servers write them."""

from __future__ import annotations

import time

import pytest

from headrace.content.disposition import parse_disposition


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ('attachment; filename="report.docx"', "report.docx"),
        ("attachment; filename=report.docx", "report.docx"),
        ("attachment;filename=a b c.pdf", "a b c.pdf"),
        ('ATTACHMENT; FILENAME="A.DOCX"', "A.DOCX"),
        ('attachment; filename="a;b.pdf"; size=3', "a;b.pdf"),
        (r'attachment; filename="a \"b\".docx"', 'a "b".docx'),
        ("attachment; filename='single.docx'", "single.docx"),
        ('attachment; filename="unclosed.docx', "unclosed.docx"),
        ("attachment; filename*=UTF-8''%e6%8a%a5%e5%91%8a.docx", "报告.docx"),
        ("attachment; filename*=utf-8'en'a%20b.docx", "a b.docx"),
        ("attachment; filename=\"x.bin\"; filename*=UTF-8''%e6%8a%a5.docx", "报.docx"),
        ("attachment; filename*=UTF-8''%e6%8a%a5.docx; filename=\"x.bin\"", "报.docx"),
        ("attachment; filename*=ISO-8859-1''caf%e9.pdf", "café.pdf"),
        ("attachment; filename*=GBK''%B1%A8.docx", "报.docx"),
        ('attachment; filename*0="long"; filename*1=".pdf"', "long.pdf"),
        ('attachment; filename="=?UTF-8?B?5oql5ZGKLmRvY3g=?="', "报告.docx"),
        ('attachment; filename="=?utf-8?Q?caf=C3=A9.pdf?="', "café.pdf"),
        ('attachment; filename="=?nonsense?Q?a?=.pdf"', "=?nonsense?Q?a?=.pdf"),
        ('attachment; filename="%E6%8A%A5.xlsx"', "报.xlsx"),
        ('attachment; filename="100%.pdf"', "100%.pdf"),
        ('attachment; filename="报告.docx"', "报告.docx"),
        ("attachment; filename=报告.docx", "报告.docx"),
        ('attachment; filename="../../etc/pass.wd"', "pass.wd"),
        (r'attachment; filename="C:\\dir\\a.pdf"', "a.pdf"),
        ('attachment; filename="a\r\nb.docx"', "ab.docx"),
        ("attachment", ""),
        ("attachment; filename=..", ""),
        ("attachment; filename*=idna''abc.pdf", "abc.pdf"),
        ("attachment; filename*=undefined''abc.pdf", "abc.pdf"),
        ("attachment; filename*=unicode_escape''%5Cud800.pdf", "\ufffd.pdf"),
        ("attachment; filename*=utf-7''%2B2AA-.pdf", "\ufffd.pdf"),
        (f"attachment; filename=a.pdf; filename*{'9' * 5000}=b", "a.pdf"),
    ],
)
def test_names_of_attachments(header: str, filename: str) -> None:
    assert parse_disposition(header) == (True, filename)


@pytest.mark.parametrize("piece", [";", "=?a?q?", '\\"', "filename*1=a;"])
def test_long_headers_hold_nobody_up(piece: str) -> None:
    began = time.thread_time()
    assert parse_disposition(f'attachment; filename="=?a?q?x?={piece * (60_000 // len(piece))}').attachment
    assert time.thread_time() - began < 1  # some 20 ms; the square of 60,000 took 10 s


def test_names_in_bytes_of_another_encoding() -> None:
    raw = 'attachment; filename="2024年度销售报告汇总.docx"'.encode("gb18030")
    assert parse_disposition(raw.decode("utf-8", "surrogateescape")) == (True, "2024年度销售报告汇总.docx")


@pytest.mark.parametrize(
    ("header", "filename"), [("", ""), ("  ", ""), ("inline", ""), ('inline; filename="a.txt"', "a.txt"), (";;=\0", "")]
)
def test_what_is_no_attachment(header: str, filename: str) -> None:
    assert parse_disposition(header) == (False, filename)
