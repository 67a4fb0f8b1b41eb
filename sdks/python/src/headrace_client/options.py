"""The client's options: the server's URL, the retry policy, the polling plan."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace_client.errors import UsageError

DIFY_CLOUD = "https://api.dify.ai"
_API_PATHS = ("/api/v1", "/v1", "/api")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_DOUBLE_API_PATHS = ("/api/api/v1", "/api/api")


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed request is retried: after connection errors, 429 and 5xx; never after another 4xx.

    The first retry follows after `delay` seconds; each further delay is `factor` times longer. A random part of up to
    `jitter` times the delay is added. If the server sends Retry-After, that is waited for instead, unless it is longer
    than `max_retry_after`: then the error is raised at once.
    """

    max_retries: int = 3
    delay: float = 1.0
    factor: float = 2.0
    jitter: float = 0.25
    max_retry_after: float = 60.0

    def wait(self, attempt: int, chance: float, retry_after: float | None) -> float | None:
        """Seconds to wait after the failed attempt `attempt` (from 0); None if there is no further attempt."""
        if attempt >= self.max_retries or (retry_after is not None and retry_after > self.max_retry_after):
            return None
        if retry_after is not None:
            return retry_after
        return self.delay * self.factor**attempt * (1 + self.jitter * chance)


@dataclass(frozen=True)
class PollingPlan:
    """How often a run is polled: first after `first` seconds, then at intervals that grow by `factor` up to `longest`
    seconds, and for `timeout` seconds in total."""

    first: float = 1.0
    factor: float = 1.5
    longest: float = 5.0
    timeout: float = 300.0

    def after(self, interval: float) -> float:
        """The interval that follows `interval`."""
        return min(self.longest, interval * self.factor)


def resolve_roots(base_url: str | None) -> tuple[str, str | None]:
    """The root that `/v1/...` and `/api/v1/...` are appended to, and the alternative root; None if there is none.

    There are two where the URL ends in `/api`: that is part of an API's path, or a prefix that a proxy adds. UsageError
    if the URL is not valid.
    """
    url = (base_url or os.environ.get("API_BASE_URL") or DIFY_CLOUD).strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"The base URL must start with http:// or https:// and name a host, not {url[:100]!r}")
    if parts.query or parts.fragment:
        raise UsageError(f"The base URL must have no query and no fragment: {url[:100]!r}")
    api_path = next((path for path in _API_PATHS if parts.path.endswith(path)), "")
    root = url.removesuffix(api_path).rstrip("/")
    ambiguous = api_path.startswith("/api") and not parts.path.endswith(_DOUBLE_API_PATHS)
    return root, url.removesuffix("/v1").rstrip("/") if ambiguous else None


def merge_headers(*layers: Mapping[str, str]) -> dict[str, str]:
    """Merges headers; a later layer replaces headers of the same name, whatever the case. UsageError if a name or value
    is not valid."""
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            if not _HEADER_NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not a valid header name.")
            if not _HEADER_VALUE.fullmatch(value):
                raise UsageError(f"The header {name} has characters that are not allowed: {value[:100]!r}")
            merged[name.lower()] = (name, value)
    return dict(merged.values())


def check_seconds(name: str, seconds: float) -> float:
    """The seconds. UsageError unless they are more than 0."""
    if not seconds > 0:
        raise UsageError(f"{name} must be more than 0 seconds, not {seconds!r}")
    return seconds


def resolve_key(api_key: str | None) -> str:
    """The key, or API_KEY of the environment. UsageError if it is missing or not valid in a header."""
    key = (api_key if api_key is not None else os.environ.get("API_KEY", "")).strip()
    if not key:
        raise UsageError("An API key is required: pass api_key, or set API_KEY in the environment.")
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(
            "The API key has characters that are not allowed (spaces, line breaks or non-ASCII characters)."
        )
    return key
