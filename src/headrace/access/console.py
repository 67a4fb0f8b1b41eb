"""The console's sessions: a link that signs a browser in, and the cookie that it is exchanged for.

Both are signed with the installation's secret, so that every process on the data folder accepts them and nothing has to
be stored. Neither is a key: they open nothing of the APIs that clients call.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from headrace.access.keys import PERMISSIONS
from headrace.errors import Unauthorized
from headrace.frozen import frozen
from headrace.ports import Principal, SignInAttempt

LINK_SECONDS, SESSION_SECONDS, ATTEMPT_SECONDS = 24 * 3600, 12 * 3600, 600
USER = "console"
"""The principal of those who signed in by a link, as the audit names it."""
_LINK, _COOKIE, _ATTEMPT = b"link", b"cookie", b"attempt"
_LARGEST = 3500  # bytes of a cookie's value: browsers drop cookies above 4 KB


@frozen
class ConsoleSession:
    """Who is signed in, and until when, in seconds since the epoch."""

    principal: Principal
    expires_at: int


class ConsoleAccess:
    """Signs people in to the console. `secret` is the installation's, `workspace` that of those who use the link."""

    def __init__(self, secret: bytes, workspace: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.new(secret, b"console", hashlib.sha256).digest()
        self._workspace = workspace
        self._clock = clock
        # cookies are shared by all ports of a host: those of another installation must not end this one's sessions
        self.cookie_name = f"headrace_console_{hashlib.sha256(self._key).hexdigest()[:8]}"

    def link(self, url: str) -> str:
        """A link to the console of a server, valid for a day. The token is in the fragment: browsers do not send it, so
        that no proxy logs it."""
        return f"{url}/console#token={self.token()}"

    def token(self) -> str:
        """The token of a link."""
        return self._signed(_LINK, str(int(self._clock()) + LINK_SECONDS).encode())

    def sign_in(self, token: str) -> ConsoleSession:
        """The session of a link's token. Unauthorized if the token is not valid, or has expired."""
        expires = self._content(_LINK, token)
        if expires is None:
            raise Unauthorized("This link is not valid: `headrace console` prints a new one.")
        if int(expires) <= self._clock():
            raise Unauthorized("This link has expired: `headrace console` prints a new one.")
        return self.session(Principal(USER, self._workspace, frozenset(PERMISSIONS)))

    def session(self, principal: Principal) -> ConsoleSession:
        """A new session of a principal."""
        return ConsoleSession(principal, int(self._clock()) + SESSION_SECONDS)

    def cookie(self, session: ConsoleSession) -> str:
        """The value of a session's cookie. Unauthorized where it would be larger than browsers accept."""
        principal = session.principal
        content = {
            "id": principal.id,
            "workspace": principal.workspace,
            "permissions": sorted(principal.permissions),
            "apps": None if principal.apps is None else sorted(principal.apps),
            "expires_at": session.expires_at,
        }
        value = self._signed(_COOKIE, json.dumps(content, separators=(",", ":")).encode())
        if len(value) > _LARGEST:
            raise Unauthorized("This identity has too many apps for a session of the console.")
        return value

    def session_of(self, cookie: str) -> ConsoleSession | None:
        """The session of a cookie; None if it is not valid, or has ended."""
        raw = self._content(_COOKIE, cookie)
        if raw is None:
            return None
        content: dict[str, Any] = json.loads(raw)
        if content["expires_at"] <= self._clock():
            return None
        apps = content["apps"]
        principal = Principal(
            content["id"],
            content["workspace"],
            frozenset(content["permissions"]),
            None if apps is None else frozenset(apps),
        )
        return ConsoleSession(principal, content["expires_at"])

    def attempt_cookie(self, attempt: SignInAttempt) -> str:
        """The value of the cookie of a browser that signs in at the identity provider."""
        content = [int(self._clock()) + ATTEMPT_SECONDS, *attempt]
        return self._signed(_ATTEMPT, json.dumps(content).encode())

    def attempt_of(self, cookie: str) -> SignInAttempt | None:
        """The attempt of a cookie; None if it is not valid, or has expired."""
        raw = self._content(_ATTEMPT, cookie)
        if raw is None:
            return None
        expires, *attempt = json.loads(raw)
        return SignInAttempt(*attempt) if self._clock() < expires else None

    def _signed(self, purpose: bytes, content: bytes) -> str:
        return f"{_encoded(content)}.{_encoded(self._signature(purpose, content))}"

    def _content(self, purpose: bytes, token: str) -> bytes | None:
        """What was signed for this purpose; None if the signature is not valid."""
        payload, _, signature = token.partition(".")
        try:
            content = _decoded(payload)
            valid = hmac.compare_digest(_decoded(signature), self._signature(purpose, content))
        except (ValueError, binascii.Error):
            return None
        return content if valid else None

    def _signature(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.new(self._key, purpose + b"\0" + content, hashlib.sha256).digest()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), "-_", validate=True)
