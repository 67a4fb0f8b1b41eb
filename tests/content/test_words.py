from __future__ import annotations

import pytest

from headrace.content.words import index_terms, query_terms


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("请在系统中开具发票并填写税号。", "发票"),
        ("请在系统中开具发票并填写税号。", "税"),
        ("請求書を発行してください。", "発行"),
        ("カタカナのﾃｽﾄです", "テスト"),
        ("ใบแจ้งหนี้จะออกในวันทำการแรก", "แจ้งหนี้"),
        ("세금 영수증을 발급합니다", "영수증"),
        ("책을 샀다", "책"),
        ("تصدر الفواتير في أول يوم", "فواتير"),
        ("تصدر فواتير في أول يوم", "الفواتير"),
        ("أُرْسِلَتْ", "ارسلت"),
        ("चालान हर महीने भेजा जाता है", "चालान"),
        ("ВЫСТАВЛЯЕТСЯ СЧЁТ", "счет"),
        ("Invoice no. INV-2024_07", "inv-2024"),
        ("Ein Café in der Straße", "cafe STRASSE"),
        ("cafe\u0301", "café"),
        ("Ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("word" + "x" * 1000, "word" + "x" * 1000),
    ],
)
def test_a_text_is_found_by_its_words_in_any_script(text: str, query: str) -> None:
    terms = query_terms(query)
    assert terms
    assert set(terms) <= set(index_terms(text))


@pytest.mark.parametrize("text", ["", " \n\t", "、。！？", "😀🎉", "\x00", "___", "\ud800"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert index_terms(text) == query_terms(text) == []


def test_terms_have_neither_blanks_nor_quotes() -> None:
    text = "it's a \"quoted\" 'text' \u00a0 \u2028 a:b* (c OR d) -e ^f 𠮷野家 ﷺ ½ № ㎏"
    terms = index_terms(text)
    assert not [term for term in terms if not all(character.isalnum() for character in term)]


def test_a_query_repeats_no_term() -> None:
    assert query_terms("发票发票 a a A") == ["发票", "票发", "a"]
