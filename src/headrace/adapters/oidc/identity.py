"""Verifies bearer tokens: implements `ports.Identity`."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from headrace.adapters.oidc.claims import Claims, OidcOptions
from headrace.adapters.oidc.issuer import Issuer
from headrace.adapters.oidc.keys import ALGORITHMS, Keys
from headrace.adapters.oidc.token import Refused, Token, brief, read
from headrace.errors import HeadraceError, Unauthorized
from headrace.ports import Principal

logger = logging.getLogger(__name__)

INVALID = "Access token is invalid"
_REMEMBERED = 10_000  # tokens


class _Known(NamedTuple):
    principal: Principal
    until: float  # seconds since the epoch


class OidcIdentity:
    """Implements `ports.Identity` for the tokens of one issuer.

    A verified token is cached until it expires, or the issuer's keys change. `clock` returns seconds since the epoch,
    `monotonic` those of a monotonic clock. HeadraceError if the options are invalid, or the extra `oidc` is not
    installed. The issuer need not be reachable yet.
    """

    def __init__(
        self,
        options: OidcOptions,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_installed()
        if not options.algorithms or (set(options.algorithms) - set(ALGORITHMS)):
            raise HeadraceError(f"HEADRACE_OIDC_ALGORITHMS: name some of {', '.join(ALGORITHMS)}.")
        self._algorithms = frozenset(options.algorithms)
        self._claims = Claims(options)
        self.issuer = Issuer(
            options.issuer, self._algorithms, allow_http=options.allow_http, environ=environ, clock=monotonic
        )
        self._clock = clock
        self._identities: OrderedDict[bytes, _Known] = OrderedDict()  # by the token's digest
        self._by = Keys()  # with which they were verified

    async def principal(self, token: str) -> Principal:
        """See `ports.Identity`; 503 `service_unavailable` if the issuer's keys are not available."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            entry = self._identities.get(digest)
            if entry is not None:
                await self.issuer.freshen()
                if self.issuer.keys is self._by and self._clock() < entry.until:
                    self._identities.move_to_end(digest)
                    return entry.principal
            entry = await self._verified(read(token))
        except Refused as refusal:
            # the same message for all, so that attackers learn nothing from it
            logger.info("a bearer token was refused: %s", refusal)
            raise Unauthorized(INVALID) from None
        if self.issuer.keys is not self._by:
            self._identities.clear()
            self._by = self.issuer.keys
        self._identities[digest] = entry
        if len(self._identities) > _REMEMBERED:
            self._identities.popitem(last=False)
        return entry.principal

    async def principal_of_id_token(self, text: str, client_id: str, nonce: str) -> Principal:
        """The principal of an ID token for a client. Refused if it is not valid, or not the response to the request
        with this nonce; 503 `service_unavailable` if the issuer's keys are not available."""
        claims = (token := read(text)).claims
        if not hmac.compare_digest(str(claims.get("nonce")).encode("utf-8", "surrogatepass"), nonce.encode()):
            raise Refused("it has another nonce")
        if claims.get("azp", client_id) != client_id:
            raise Refused(f"it was issued to {brief(claims.get('azp'))}")
        return (await self._verified(token, frozenset({client_id}))).principal

    async def _verified(self, token: Token, audiences: frozenset[str] | None = None) -> _Known:
        if token.alg not in self._algorithms:
            raise Refused(f"its algorithm is {brief(token.alg)}")
        # tokens for others need no request to the issuer; the claims are not trusted before the signature is verified
        until = self._claims.check(token.claims, self._clock(), audiences)
        if not await self.issuer.has(token.kid, token.alg, lambda key: key.verifies(token.signed, token.signature)):
            raise Refused(f"no key {brief(token.kid)} of the issuer for {token.alg} verifies it")
        return _Known(self._claims.principal(token.claims), until)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.issuer.aclose()


def _check_installed() -> None:
    try:
        for name in ("cryptography", "jwt.api_jwk"):
            importlib.import_module(name)
    except ImportError as error:
        raise HeadraceError('Single sign-on needs an extra: pip install "headrace[oidc]"') from error
