from __future__ import annotations

import pytest

from headrace.knowledge import keywords as module
from headrace.knowledge.keywords import keywords, similarities


@pytest.fixture
def _without_jieba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_extractor", lambda: None)


@pytest.mark.usefixtures("_without_jieba")
def test_without_jieba_the_most_frequent_words_are_the_keywords() -> None:
    text = "The invoice is due. An invoice that is overdue has interest; interest is due monthly for the invoice."
    assert keywords(text, 3) == ["invoice", "due", "interest"]
    assert keywords("发票的税率，发票的税号。", 2) == ["发票", "税率"]


@pytest.mark.usefixtures("_without_jieba")
@pytest.mark.parametrize("text", ["", "the of and", "的了", "。，!"])
def test_a_text_of_function_words_has_no_keywords(text: str) -> None:
    assert keywords(text) == []
    assert similarities(text, ["invoice", text]) == [0.0, 0.0]


@pytest.mark.usefixtures("_without_jieba")
def test_similarity_is_the_cosine_of_weighted_keywords() -> None:
    exact, partial, other = similarities("invoice tax", ["tax invoice", "invoice address", "holiday"])
    assert exact == pytest.approx(1.0)
    assert 0 < partial < exact
    assert other == 0.0
    assert similarities("invoice", []) == []
