"""Masks secrets: the value of every secret environment variable is replaced by asterisks, wherever it appears.

The journal has the true values, because later nodes need them after a crash; whatever leaves the runtime is masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from headrace.kernel.events import (
    Delta,
    Event,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunStarted,
    StepEnded,
    StepStarted,
)
from headrace.values import File, Value, Variable

STARS = "*" * 20  # as Dify shows a secret
SHORTEST = 4  # shorter secrets are masked only if they are the whole text, since they are part of many words


def _overlap(text: str, secret: str) -> int:
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)


class SecretMask:
    """Masks the secrets of a workflow in values, texts and records."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known_secrets = {secret for secret in secrets if secret}
        self._long = sorted((secret for secret in known_secrets if len(secret) >= SHORTEST), key=len, reverse=True)
        self._short = {secret for secret in known_secrets if len(secret) < SHORTEST}

    def __bool__(self) -> bool:
        return bool(self._long or self._short)

    def text(self, text: str) -> str:
        for secret in self._long:
            if secret in text:
                text = text.replace(secret, STARS)
        return STARS if text in self._short else text

    def pending(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a secret."""
        return max((_overlap(text, secret) for secret in self._long), default=0)

    def value(self, value: Value) -> Value:
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.value(item) for key, item in cast("dict[str, Value]", value).items()}
            case list() | tuple():
                return [self.value(item) for item in cast("list[Value]", value)]
            case Variable():
                return replace(value, value=self.value(value.value))
            case File():
                return replace(value, remote_url=self._maybe(value.remote_url), url=self._maybe(value.url))
            case _:
                return value

    def _maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def _values(self, values: Mapping[str, Value]) -> Mapping[str, Value]:
        return cast("Mapping[str, Value]", self.value(dict(values)))

    def record(self, record: Record) -> Record:
        """The record without secrets, for clients."""
        return record._replace(event=self.event(record.event))

    def event(self, event: Event) -> Event:
        match event:
            case NodeSucceeded():
                return replace(
                    event,
                    outputs=self._values(event.outputs),
                    inputs=self._values(event.inputs),
                    process=self._values(event.process),
                    assigned={scope: self._values(values) for scope, values in event.assigned.items()},
                )
            case NodeStarted():
                return replace(event, inputs=self._values(event.inputs))
            case NodeFailed():
                return replace(
                    event,
                    error=self.text(event.error),
                    outputs=self._values(event.outputs),
                    inputs=self._values(event.inputs),
                    process=self._values(event.process),
                )
            case NodeRetried():
                return replace(
                    event,
                    error=self.text(event.error),
                    inputs=self._values(event.inputs),
                    process=self._values(event.process),
                )
            case RunEnded():
                return replace(event, outputs=self._values(event.outputs), error=self._maybe(event.error))
            case RunQueued():
                metadata = None if event.metadata is None else self._values(event.metadata)
                inputs, system = self._values(event.inputs), self._values(event.system)
                return replace(event, inputs=inputs, system=system, metadata=metadata)
            case RunStarted():
                return replace(event, conversation=self._values(event.conversation))
            case RunPaused():
                return replace(event, reasons=tuple(self._values(reason) for reason in event.reasons))
            case RoundStarted():
                return replace(event, inputs=self._values(event.inputs))
            case StepStarted():
                return replace(event, label=self.text(event.label), metadata=self._values(event.metadata))
            case StepEnded():
                return replace(event, result=self.value(event.result))
            case FormRequested():
                return replace(
                    event,
                    content=self.text(event.content),
                    inputs=[self._values(item) for item in event.inputs],
                    defaults=self._values(event.defaults),
                )
            case FormSubmitted():
                return replace(event, data=self._values(event.data))
            case NodeLogged():
                return replace(event, message=self.text(event.message))
            case Delta():
                return event  # masked when it was emitted (see `StreamingMask`): a secret may span two of them
            case _:
                return event


class StreamingMask:
    """Masks a text that arrives in pieces: what may be the beginning of a secret waits for the next piece."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self._pending = ""

    def feed(self, piece: str) -> str:
        """The text so far that can be shown."""
        text = self._mask.text(self._pending + piece)
        keep = self._mask.pending(text)
        self._pending = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """The rest of the text, when no piece follows."""
        rest, self._pending = self._pending, ""
        return self._mask.text(rest)
