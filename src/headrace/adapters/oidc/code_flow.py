"""Signs people in with a browser: implements `ports.CodeFlow`.

OpenID Connect's authorization code flow, with PKCE: the browser is sent to the issuer and comes back with a code, which
is exchanged for an ID token. That token is verified as bearer tokens are, but has to be for this client and to have the
nonce of this sign-in.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

from headrace.adapters.models.failures import Failure
from headrace.adapters.oidc.identity import OidcIdentity
from headrace.adapters.oidc.issuer import Endpoints, Unreachable
from headrace.adapters.oidc.token import Refused, brief
from headrace.errors import Forbidden, HeadraceError, RequestError, Unauthorized
from headrace.ports import Principal, SignInAttempt

logger = logging.getLogger(__name__)

_REFUSED = "Signing in did not succeed."
_ENTROPY = 32  # bytes


class OidcCodeFlow:
    """Implements `ports.CodeFlow` for a client that is registered with the issuer of `identity`. Without a secret it is
    a public client."""

    def __init__(self, identity: OidcIdentity, client_id: str, client_secret: str, scopes: str) -> None:
        if "openid" not in scopes.split():
            raise HeadraceError("HEADRACE_OIDC_SCOPES: must contain openid.")
        self._identity = identity
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes

    async def begin(self, redirect_uri: str) -> tuple[str, SignInAttempt]:
        """See `ports.CodeFlow`; 503 `service_unavailable` if the issuer cannot be reached."""
        endpoints = await self._identity.issuer.endpoints()
        attempt = SignInAttempt(*(secrets.token_urlsafe(_ENTROPY) for _ in range(3)))
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in endpoints.authorization else "?"
        return f"{endpoints.authorization}{separator}{urlencode(query)}", attempt

    async def complete(self, code: str, attempt: SignInAttempt, redirect_uri: str) -> Principal:
        """See `ports.CodeFlow`; 503 `service_unavailable` if the issuer cannot be reached."""
        endpoints = await self._identity.issuer.endpoints()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        try:
            body = await self._identity.issuer.post(endpoints.token, *self._authenticated(endpoints, form))
            token = body.get("id_token")
            if not isinstance(token, str):
                raise Refused("the issuer returned no ID token")
            principal = await self._identity.principal_of_id_token(token, self._client_id, attempt.nonce)
        except Failure as failure:
            logger.info("a sign-in was refused: %s", brief(str(failure)))
            if failure.retry or not failure.status:
                raise Unreachable from None
            raise Unauthorized(_REFUSED) from None
        except RequestError:
            raise
        except HeadraceError as refusal:
            logger.info("a sign-in was refused: %s", refusal)
            raise Unauthorized(_REFUSED) from None
        if not principal.permissions:
            logger.info("a sign-in was refused: the ID token of %s grants no permission", brief(principal.id))
            raise Forbidden("This identity has no permission.")
        return principal

    def _authenticated(
        self, endpoints: Endpoints, form: Mapping[str, str]
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """(form, headers) of a request with the client's authentication."""
        if self._client_secret and endpoints.takes_basic:
            credentials = f"{quote_plus(self._client_id)}:{quote_plus(self._client_secret)}"
            return form, {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
        client = {"client_id": self._client_id}
        return {**form, **client, **({"client_secret": self._client_secret} if self._client_secret else {})}, {}
