"""Signatures of webhooks, as GitHub, Stripe and Slack make them, and the ids of their deliveries."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from math import inf
from typing import cast

import orjson

from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.values import Value

PREFIX = "HEADRACE_WEBHOOK_SECRET_"
_TOLERANCE = 300  # seconds, as Stripe's and Slack's own libraries
_HEADERS = {"github": "x-hub-signature-256", "stripe": "stripe-signature", "slack": "x-slack-signature"}
_SLACK_TIME = "x-slack-request-timestamp"


class BadSignature(Exception):
    """A request that its sender has not signed, or too long ago. The message is for the sender."""


@frozen
class WebhookSecret:
    """The secret that a sender signs its requests with. Header names are in lower case."""

    sender: str
    secret: bytes

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """BadSignature if there is no signature, which needs no body."""
        for name in (_HEADERS[self.sender], *([_SLACK_TIME] if self.sender == "slack" else [])):
            if not headers.get(name):
                raise BadSignature(f"Required header missing: {name.title()}")

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """BadSignature if the signature is not valid at this time."""
        self.check_headers(headers)
        signature_text = headers[_HEADERS[self.sender]]
        match self.sender:
            case "github":
                valid = self._is_signed(body, signature_text.removeprefix("sha256="))
            case "slack":
                at = headers[_SLACK_TIME]
                _check_time(at, now, ahead=_TOLERANCE)
                valid = self._is_signed(b"v0:%s:%s" % (at.encode(), body), signature_text.removeprefix("v0="))
            case _:
                parts = [part.strip().partition("=") for part in signature_text.split(",")]
                at = next((value for name, _, value in parts if name == "t"), "")
                _check_time(at, now)
                message = b"%s.%s" % (at.encode(), body)
                valid = any(self._is_signed(message, value) for name, _, value in parts if name == "v1")
        if not valid:
            raise BadSignature("The signature is not valid.")

    def _is_signed(self, message: bytes, signature: str) -> bool:
        expected = hmac.new(self.secret, message, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _check_time(text: str, now: float, ahead: float = inf) -> None:
    """BadSignature for a time too long ago, or more than some seconds ahead."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or not -ahead <= now - int(text) <= _TOLERANCE:
        raise BadSignature("The time of the signature is too far from now.")


def webhook_secrets(environ: Mapping[str, str]) -> Mapping[str, WebhookSecret]:
    """The secrets of webhooks, by the node's id as variables have it (`variable_of`). HeadraceError if one is not
    valid."""
    secrets: dict[str, WebhookSecret] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or not value:
            continue
        sender, colon, secret = value.partition(":")
        if sender not in _HEADERS or not colon or not secret:
            raise HeadraceError(f"{variable}: must be github:SECRET, stripe:SECRET or slack:SECRET")
        secrets[variable.removeprefix(PREFIX)] = WebhookSecret(sender, secret.encode())
    return secrets


def variable_of(node: str) -> str:
    """A node's id as the names of variables have it."""
    return re.sub(r"[^A-Z0-9]", "_", node.upper())


@frozen
class Delivery:
    """A request that may be repeated. `digest` is what a repetition must have in common with it, if that is not the id
    alone."""

    id: str
    digest: str = ""


def event_of(body: bytes) -> Mapping[str, Value]:
    """The object that a body is in JSON; an empty one if it is something else."""
    try:
        content: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("Mapping[str, Value]", content) if isinstance(content, dict) else {}


def delivery_of(headers: Mapping[str, str], body: bytes, event: Mapping[str, Value]) -> Delivery | None:
    """The id that a sender gives its request and repeats with it; None if there is none. `event` is the body, where it
    is JSON."""
    if id_ := headers.get("x-github-delivery"):
        return Delivery(f"github {id_}")
    for header, field in (("stripe-signature", "id"), ("x-slack-signature", "event_id")):
        if header in headers and isinstance(id_ := event.get(field), str) and id_:
            return Delivery(f"{header} {id_}")
    if key := headers.get("idempotency-key"):
        return Delivery(f"key {key}", hashlib.sha256(body).hexdigest())
    return None
