"""What can be chosen: where the server is, when requests are repeated, how a run's end is waited for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace_client.errors import UsageError

DIFY_CLOUD = "https://api.dify.ai"
_PATHS = ("/api/v1", "/v1", "/api")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_TWICE = ("/api/api/v1", "/api/api")


@dataclass(frozen=True)
class RetryPolicy:
    """When a request that failed is sent again: after connection errors, 429 and 5xx; never after another 4xx.

    `delay` seconds after the first failure, `factor` times longer after each next one, and up to `jitter` times that
    on top, by chance. Where the server says Retry-After, that is waited for instead, unless it is longer than
    `max_retry_after`: then the error is raised at once.
    """

    max_retries: int = 3
    delay: float = 1.0
    factor: float = 2.0
    jitter: float = 0.25
    max_retry_after: float = 60.0

    def wait(self, attempt: int, chance: float, retry_after: float | None) -> float | None:
        """Seconds before the attempt after `attempt` (from 0); None if there is to be none."""
        if attempt >= self.max_retries or (retry_after is not None and retry_after > self.max_retry_after):
            return None
        if retry_after is not None:
            return retry_after
        return self.delay * self.factor**attempt * (1 + self.jitter * chance)


@dataclass(frozen=True)
class PollingPlan:
    """When a run is looked at: `first` seconds after the wait begins, then `factor` times later each time, but at most
    every `longest` seconds, and for `timeout` seconds in all."""

    first: float = 1.0
    factor: float = 1.5
    longest: float = 5.0
    timeout: float = 300.0

    def after(self, interval: float) -> float:
        """The interval that follows one."""
        return min(self.longest, interval * self.factor)


def roots_of(base_url: str | None) -> tuple[str, str | None]:
    """The address that `/v1/...` and `/api/v1/...` are appended to; and the other one that it may be, None where there
    is no doubt: `/api` at the end is of our own paths, or it is what a proxy has put before them. UsageError where
    there can be none."""
    told = (base_url or os.environ.get("API_BASE_URL") or DIFY_CLOUD).strip().rstrip("/")
    parts = urlsplit(told)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"The base URL must begin with http:// or https:// and name a host, not {told[:100]!r}")
    if parts.query or parts.fragment:
        raise UsageError(f"The base URL must have no query and no fragment: {told[:100]!r}")
    known = next((path for path in _PATHS if parts.path.endswith(path)), "")
    root = told.removesuffix(known).rstrip("/")
    doubtful = known.startswith("/api") and not parts.path.endswith(_TWICE)
    return root, told.removesuffix("/v1").rstrip("/") if doubtful else None


def headers_of(*layers: Mapping[str, str]) -> dict[str, str]:
    """Headers, those of a later layer in place of those of the same name, however that is written. UsageError for what
    no header can hold."""
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            if not _HEADER_NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not a valid name of a header.")
            if not _HEADER_VALUE.fullmatch(value):
                raise UsageError(f"The header {name} has characters that no header has: {value[:100]!r}")
            merged[name.lower()] = (name, value)
    return dict(merged.values())


def seconds_of(name: str, seconds: float) -> float:
    """A time limit. UsageError where it is none."""
    if not seconds > 0:
        raise UsageError(f"{name} must be more than 0 seconds, not {seconds!r}")
    return seconds


def key_of(api_key: str | None) -> str:
    """The key, or API_KEY of the environment. UsageError where there is none, or one that no header can hold."""
    key = (api_key if api_key is not None else os.environ.get("API_KEY", "")).strip()
    if not key:
        raise UsageError("An API key is needed: give api_key, or set API_KEY in the environment.")
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError("The API key has characters that no key has (spaces, line breaks or letters beyond ASCII).")
    return key
