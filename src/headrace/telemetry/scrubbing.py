"""Removes keys and secrets from logs: those that are known, and whatever has the format of one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from headrace.kernel.secrets import SHORTEST, STARS

_NAMES_A_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$|_DSN$|_HEADERS$", re.IGNORECASE)
_OF_WEBHOOKS = "HEADRACE_WEBHOOK_SECRET_"  # as `triggers.signatures` has it, which takes long to import
_LONG_ENOUGH = 8  # characters of a secret in the environment: `1` or `true` is not one
_FORMS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (("app-", "ws-", "dataset-", "sk-"), re.compile(r"\b(app|ws|dataset|sk)-[A-Za-z0-9_-]{24,}"), r"\1-***"),
    (("bearer", "basic"), re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
    (("/form/",), re.compile(r"(/form/(?:human_input/)?)[A-Za-z0-9_-]{16,}"), r"\1***"),  # a form's token
    (("/triggers/",), re.compile(r"(/triggers/(?:webhook|plugin)/)[A-Za-z0-9_-]+"), r"\1***"),  # the id starts runs
    (("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"), "***"),  # a JWT
    (("://",), re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), "***"),  # user and password of a URL
    (
        ("?", "&"),
        re.compile(r"([?&](?:[\w-]*(?:key|token|secret|password|sign|signature|nonce))=)[^&\s\"']+", re.IGNORECASE),
        r"\1***",
    ),
)
"""(substrings in lower case, of which a match has at least one; pattern; replacement). Most texts have none of them,
and to look for substrings takes a tenth of the time."""


class Scrubber:
    """Removes known secrets, and what looks like one, from texts. `learn` adds secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        new_secrets = {secret for secret in secrets if len(secret) >= SHORTEST} - self._secrets
        if new_secrets:
            self._secrets |= new_secrets
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(STARS, text)
        lower = text.lower()
        for substrings, pattern, replacement in _FORMS:
            for substring in substrings:  # `any` takes three times as long
                if substring in lower:
                    text = pattern.sub(replacement, text)
                    break
        return text

    def value(self, value: Any) -> Any:
        """The value with all texts in it scrubbed; values without text stay as they are."""
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
    """The values of environment variables whose names mean a key, token or password; also passwords in URLs, and what
    follows the sender in the secret of a webhook (`github:...`)."""
    secrets = {value for name, value in environ.items() if _NAMES_A_SECRET.search(name)}
    secrets |= {value.partition(":")[2] for name, value in environ.items() if name.startswith(_OF_WEBHOOKS)}
    for value in environ.values():
        if match := re.search(r"://[^/\s:@]*:([^/\s@]+)@", value):
            secrets.add(match[1])
    return {value for value in secrets if len(value) >= _LONG_ENOUGH}


class ScrubbingFormatter(logging.Formatter):
    """Scrubs the lines of another formatter."""

    def __init__(self, inner: logging.Formatter, scrubber: Scrubber) -> None:
        super().__init__()
        self._inner = inner
        self._scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        return self._scrubber.text(self._inner.format(record))
