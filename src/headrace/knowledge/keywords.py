"""The keywords of a text: what economical knowledge bases are searched by, and what hybrid search weighs.

With the extra `jieba` they are chosen as Dify does, by TF-IDF over words. Without it they are the most frequent words
and pairs of characters.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, cast

from headrace.content.words import index_terms

DEFAULT_NUMBER = 10
_WEIGHED = 20  # keywords of a text that hybrid search compares

_ENGLISH = """
a about above after again against ain all am an and any are aren aren't as at be because been before being below
between both but by can could couldn couldn't d did didn didn't do does doesn doesn't doing don don't down during each
few for from further had hadn hadn't has hasn hasn't have haven haven't having he her here hers herself him himself his
how i if in into is isn isn't it it's its itself just ll m ma me might mightn mightn't more most must mustn mustn't my
myself needn needn't no nor not now o of off on once only or other our ours ourselves out over own re s same shan
shan't she she's should should've shouldn shouldn't so some such t than that that'll the their theirs them themselves
then there these they this those through to too under until up ve very was wasn wasn't we were weren weren't what when
where which while who whom why will with won won't would wouldn wouldn't y you you'd you'll you're you've your yours
yourself yourselves
"""
_CHINESE = """
的 了 是 在 和 与 及 以及 或 或者 而 而且 并 并且 但 但是 也 都 就 还 还是 又 再 不 没 没有 有
这 这个 这些 那 那个 那些 这里 那里 什么 怎么 怎样 如何 为什么 哪 哪些 哪里 哪个 谁 请 请问 很 更 最
我 我们 你 你们 您 他 他们 她 她们 它 它们 自己 之 其 其他 其中 于 对 对于 从 到 把 被 让 给 向 以 为
为了 因为 所以 如果 若 则 虽然 然而 因此 由于 关于 根据 按照 通过 可以 能 能够 会 要 需要 应 应该 应当
将 着 过 吗 呢 吧 啊 等 等等 一 一个 一些 一般 一样 个 各 每 某 第 上 下 中 里 内 外 前 后 时 时候
非常 已 已经 正 正在 只 只有 只要
"""
STOPWORDS = frozenset((*_ENGLISH.split(), *_CHINESE.split()))
# A pair with one of these usually spans two words.
_PARTICLES = frozenset(
    "的了是在和与及或而并但也都就还又再不没有这那我你您他她它之其于对从到把被让给向以为吗呢吧啊等请のはをにがでとへもや"
)


class _Extractor(Protocol):
    def extract_tags(self, sentence: str, topK: int) -> Sequence[str]: ...


def keywords(text: str, number: int = DEFAULT_NUMBER) -> list[str]:
    """At most `number` keywords, the most important first, and the words that compound ones consist of."""
    extractor = _extractor()
    if extractor is None:
        counts = Counter(term for term in index_terms(text) if _is_telling(term))
        return [term for term, _ in counts.most_common(number)]
    chosen = extractor.extract_tags(text, topK=number)
    parts = (part for keyword in chosen for part in _parts(keyword))
    return list(dict.fromkeys((*chosen, *parts)))


def similarities(query: str, texts: Sequence[str]) -> list[float]:
    """How similar the keywords of each text are to those of the query, from 0 to 1: the cosine of their TF-IDF
    vectors, where the texts are all that is known of the language."""
    documents = [frozenset(keywords(text, _WEIGHED)) for text in texts]
    occurrences = Counter(keyword for document in documents for keyword in document)
    weights = {keyword: math.log((1 + len(texts)) / (1 + count)) + 1 for keyword, count in occurrences.items()}
    return [_cosine(frozenset(keywords(query, _WEIGHED)), document, weights) for document in documents]


def _cosine(left: Collection[str], right: Collection[str], weights: Mapping[str, float]) -> float:
    shared = sum(weights[keyword] ** 2 for keyword in right if keyword in left)
    return shared / math.sqrt(_squares(left, weights) * _squares(right, weights)) if shared else 0.0


def _squares(keywords: Collection[str], weights: Mapping[str, float]) -> float:
    return sum(weights.get(keyword, 0.0) ** 2 for keyword in keywords)


def _parts(keyword: str) -> list[str]:
    parts = re.findall(r"\w+", keyword)
    return [part for part in parts if part not in STOPWORDS] if len(parts) > 1 else []


def _is_telling(term: str) -> bool:
    if term in STOPWORDS or _PARTICLES.intersection(term):
        return False
    return len(term) > 1 or term.isascii()


@cache
def _extractor() -> _Extractor | None:
    """jieba's TF-IDF, if it is installed; its dictionary is read at the first use (about a second)."""
    if importlib.util.find_spec("jieba") is None:
        return None
    analyse: Any = importlib.import_module("jieba.analyse")
    logging.getLogger("jieba").setLevel(logging.WARNING)  # it reports how it reads its dictionary
    extractor = analyse.TFIDF()
    extractor.stop_words = STOPWORDS
    return cast("_Extractor", extractor)
