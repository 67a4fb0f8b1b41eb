"""An issuer over loopback that does what a test says, and keys to sign tokens with."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from headrace.adapters.oidc import OidcIdentity, OidcOptions
from headrace.adapters.oidc.keys import ALGORITHMS
from headrace.errors import RequestError
from headrace.ports import Principal

AUDIENCE = "headrace"
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def part(value: Any) -> str:
    """A part of a token: of bytes, or of what is written as JSON first."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@functools.cache
def rsa_key(number: int, bits: int) -> rsa.RSAPrivateKey:
    """The same each time: they take long to make."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class Signer:
    """A key of an issuer."""

    kid: str | None = "one"
    alg: str = "RS256"
    number: int = 0
    bits: int = 2048

    @functools.cached_property
    def private(self) -> Any:
        match ALGORITHMS[self.alg][0]:
            case "RSA":
                return rsa_key(self.number, self.bits)
            case "EC":
                return ec.generate_private_key(_CURVES[self.alg]())
            case _:
                return ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **more: Any) -> dict[str, Any]:
        """Its public half, as it is published; None leaves a member out."""
        created = get_default_algorithms()[self.alg].to_jwk(self.private.public_key(), as_dict=True)
        created.pop("key_ops", None)
        fields = {**created, "kid": self.kid, "alg": self.alg, "use": "sig", **more}
        return {name: value for name, value in fields.items() if value is not None}

    def public(self, encoding: Encoding, form: PublicFormat) -> bytes:
        return self.private.public_key().public_bytes(encoding, form)

    def sign(self, head: str, body: str) -> str:
        """A token of two parts as they are."""
        signed = f"{head}.{body}"
        return f"{signed}.{part(get_default_algorithms()[self.alg].sign(signed.encode(), self.private))}"

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token of these claims; None leaves a member of the header out."""
        head = {"alg": self.alg, "typ": "JWT", "kid": self.kid, **header}
        return self.sign(part({name: value for name, value in head.items() if value is not None}), part(claims))


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Issuer:
    """`keys` are what it publishes, `about` what it says beyond the usual; `answer` answers instead of it."""

    url: str
    keys: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    answer: Answer | None = None
    requests: list[str] = field(default_factory=list)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Good ones; None leaves one out."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, "scope": "headrace.run"}
        return {name: value for name, value in {**usual, **more}.items() if value is not None}

    @property
    def fetches(self) -> int:
        """How often its keys were asked for."""
        return self.requests.count("/keys")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        if request.path == "/keys":
            return web.json_response({"keys": self.keys}, headers=self.headers)
        if request.path == "/.well-known/openid-configuration":
            fields = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.about}
            return web.json_response(fields, headers=self.headers)
        raise web.HTTPNotFound


@asynccontextmanager
async def issuing(*signers: Signer) -> AsyncGenerator[Issuer]:
    """An issuer that publishes the keys of these signers."""
    created = Issuer("", [signer.jwk() for signer in signers])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", created.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    created.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield created
    finally:
        await runner.cleanup()


@dataclass
class Clock:
    """Both clocks of an identity: they go on when the test says so."""

    wall: float = field(default_factory=time.time)
    monotonic: float = 0.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def options(issuer: str, **more: Any) -> OidcOptions:
    usual: dict[str, Any] = {
        "issuer": issuer,
        "audiences": [AUDIENCE],
        "algorithms": list(ALGORITHMS),
        "permission_claims": ["scope", "roles", "realm_access.roles"],
        "permissions": ["headrace.run=run", "headrace.read=read", "admins=manage"],
        "workspace": "acme",
    }
    return OidcOptions(**{**usual, **more})


@asynccontextmanager
async def identifying(issuer: str, clock: Clock | None = None, **more: Any) -> AsyncGenerator[OidcIdentity]:
    clock = clock or Clock()
    created = OidcIdentity(
        options(issuer, **more), environ={}, clock=lambda: clock.wall, monotonic=lambda: clock.monotonic
    )
    try:
        yield created
    finally:
        await created.aclose()


async def authenticate(identity: OidcIdentity, token: str) -> Principal | RequestError:
    """Whom a token stands for, or why for nobody."""
    try:
        return await identity.principal(token)
    except RequestError as error:
        return error


async def refused(identity: OidcIdentity, token: str) -> bool:
    """Whether a token is refused, as all of them are: with one message, and the way to do better."""
    answer = await authenticate(identity, token)
    if isinstance(answer, Principal):
        return False
    assert (answer.status, answer.code, str(answer)) == (401, "unauthorized", "Access token is invalid")
    return True


def with_jwt(claims: Mapping[str, Any], key: Any, alg: str, **header: Any) -> str:
    """A token as the usual library makes it."""
    return jwt.encode(dict(claims), key, alg, headers=header)
