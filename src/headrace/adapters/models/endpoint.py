"""What a model provider is, and where its requests go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote

from headrace.frozen import frozen

NOT_INITIALIZED = "ProviderTokenNotInitError"
IMAGE = frozenset({"image"})
AZURE_API_VERSION = "2024-10-21"


@frozen
class Provider:
    """A provider and its peculiarities.

    `base_url`: None if it must be set; `key`: it needs one; `aliases`: other prefixes of its environment variables,
    from its own documentation; `media`: the types of files that it accepts.
    `schema`, how an answer is bound to a JSON schema: native (by `response_format`), object (it has JSON mode only, so
    the schema is in the prompt) or both (in the prompt, and in `response_format` unless that is refused).
    `thinking`, how thinking is enabled: flag (`enable_thinking`), object (`thinking: {type}`) or template (also as an
    argument of the chat template, for inference servers).
    `stream_usage`: it accepts `stream_options`; `user`: it accepts the end user's name.
    """

    name: str
    base_url: str | None = None
    key: bool = True
    aliases: tuple[str, ...] = ()
    media: frozenset[str] = IMAGE
    schema: Literal["native", "object", "both"] = "both"
    thinking: Literal["flag", "object", "template"] = "flag"
    stream_usage: bool = True
    user: bool = True

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of its environment variables, the main one first."""
        return (re.sub(r"[^A-Z0-9]", "_", self.name.upper()), *self.aliases)


@frozen
class Endpoint:
    """Where to send a request, and the `secrets` that no message may contain."""

    provider: Provider
    base_url: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...]
    api_version: str = AZURE_API_VERSION
    protocol: Literal["openai", "anthropic", "converse", "gemini", "vertex"] = "openai"

    def url(self, model: str, task: str) -> str:
        """The URL of a task, such as `chat/completions`, for a model."""
        if self.provider.name != "azure_openai" or self.base_url.endswith("/openai/v1"):
            return f"{self.base_url}/{task}"
        base = self.base_url.removesuffix("/openai")
        if "/openai/deployments/" not in base:
            base = f"{base}/openai/deployments/{quote(model, safe='')}"
        return f"{base}/{task}?api-version={quote(self.api_version, safe='')}"


def first_set(environ: Mapping[str, str], names: Iterable[str]) -> tuple[str, str]:
    """(name, value) of the first variable that is set and not empty."""
    return next(((name, value) for name in names if (value := environ.get(name, "").strip())), ("", ""))
