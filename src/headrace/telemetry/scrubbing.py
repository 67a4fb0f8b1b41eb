"""Keeps keys and secrets out of what is logged: those that are known, and whatever has the form of one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from headrace.kernel.secrets import SHORTEST, STARS

_NAMES_A_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$|_DSN$|_HEADERS$", re.IGNORECASE)
_LONG_ENOUGH = 8  # characters of a value that the environment calls a secret: `1` or `true` is none
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(app|ws|dataset|sk)-[A-Za-z0-9_-]{24,}"), r"\1-***"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"), "***"),  # a JWT
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), "***"),  # a URL's user and password
    (
        re.compile(r"([?&](?:[\w-]*(?:key|token|secret|password|sign|signature|nonce))=)[^&\s\"']+", re.IGNORECASE),
        r"\1***",
    ),
)


class Scrubber:
    """Takes what it knows to be secret, and what looks like it, out of texts. `learn` tells it more."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        fresh = {each for each in secrets if len(each) >= SHORTEST} - self._known
        if fresh:
            self._known |= fresh
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(STARS, text)
        for pattern, instead in _FORMS:
            text = pattern.sub(instead, text)
        return text

    def value(self, value: Any) -> Any:
        """The same with all texts in it scrubbed; what is no text, list or mapping stays."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.value(key): self.value(item) for key, item in cast("dict[Any, Any]", value).items()}
            case list() | tuple():
                return [self.value(item) for item in cast("list[Any]", value)]
            case None | bool() | int() | float():
                return value
            case _:
                return self.text(str(value))


def secrets_in(environ: Mapping[str, str]) -> set[str]:
    """The values of an environment that are called keys, tokens, passwords or alike; also a password in a URL."""
    found = {value for name, value in environ.items() if _NAMES_A_SECRET.search(name)}
    for value in environ.values():
        if match := re.search(r"://[^/\s:@]*:([^/\s@]+)@", value):
            found.add(match[1])
    return {value for value in found if len(value) >= _LONG_ENOUGH}


class ScrubbingFormatter(logging.Formatter):
    """Another formatter's lines, scrubbed."""

    def __init__(self, inner: logging.Formatter, scrubber: Scrubber) -> None:
        super().__init__()
        self._inner = inner
        self._scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        return self._scrubber.text(self._inner.format(record))
