"""Cuts text into the terms that full text is indexed and searched by, in any script.

Databases find words between blanks only. Scripts that put none between words (Chinese, Japanese, Thai and others) are
cut into pairs of characters, so that every word of two characters or more is found, without a dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_UNIGRAMS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af\uac00-\ud7af"  # a character can be a word
_BIGRAMS = "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0eff\u1000-\u109f\u1780-\u17d3"
_MARKS = (  # accents and vowels, which are no letters
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0dff\u0f00-\u0fff"
)
_RUN = re.compile(f"(?P<dense>[{_UNIGRAMS}{_BIGRAMS}]+)|(?P<word>(?:(?![{_UNIGRAMS}{_BIGRAMS}_])[\\w{_MARKS}])+)")
_UNIGRAM = re.compile(f"[{_UNIGRAMS}]")
_ARABIC = re.compile("[\u0621-\u064a]")
_ARABIC_ARTICLE = re.compile("^[وبكفل]?(?:ال|لل)(?=...)")
_ARABIC_FORMS = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه", "ـ": None})
_LAST_WITH_OPTIONAL_MARKS = "\u06ff"  # up to here (Latin to Arabic) marks are accents and vowels that many leave out
_LONGEST_WORD = 64  # characters; longer ones are keys and encoded data, which nobody searches by their end


def index_terms(text: str) -> list[str]:
    """The terms of a text that is indexed, in order and with repetitions."""
    return list(_terms(text, index=True))


def query_terms(text: str) -> list[str]:
    """The terms that a query is searched by, without repetitions. A text that has one of them may match."""
    return list(dict.fromkeys(_terms(text, index=False)))


def _terms(text: str, *, index: bool) -> Iterator[str]:
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if run["word"]:
            if form := _form(run["word"]):
                yield form
            continue
        dense = run["dense"]
        yield from (dense[at : at + 2] for at in range(len(dense) - 1))
        if index:
            yield from _UNIGRAM.findall(dense)
        elif len(dense) == 1:
            yield dense


def _form(word: str) -> str:
    """The word without accents, and an Arabic one without its article."""
    if not word.isascii() and max(word) <= _LAST_WITH_OPTIONAL_MARKS:
        normal_form = unicodedata.normalize("NFKD", word)
        word = "".join(character for character in normal_form if not unicodedata.combining(character))
    if _ARABIC.search(word):
        word = _ARABIC_ARTICLE.sub("", word.translate(_ARABIC_FORMS))
    return word[:_LONGEST_WORD]
