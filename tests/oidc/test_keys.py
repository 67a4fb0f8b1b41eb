"""Where the issuer's keys come from, how long they are good for, and what happens while it is not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey

from headrace.adapters.oidc import OidcIdentity
from headrace.adapters.oidc.issuer import fresh_seconds
from headrace.errors import RequestError
from tests.oidc.issuing import Clock, Issuer, Signer, authenticate, identifying, issuing, part, refused

OLD, NEW = Signer("old"), Signer("new", number=1)


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuing(OLD) as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def identity(issuer: Issuer, clock: Clock) -> AsyncGenerator[OidcIdentity]:
    async with identifying(issuer.url, clock) as started:
        yield started


def claims(issuer: Issuer, **more: Any) -> dict[str, Any]:
    return issuer.claims(exp=4_000_000_000, **more)


async def unavailable(identity: OidcIdentity, token: str) -> bool:
    """Whether it is said that nobody can tell; and nothing of what went wrong."""
    answer = await authenticate(identity, token)
    if not isinstance(answer, RequestError) or answer.status != 503:
        return False
    assert answer.code == "service_unavailable"
    assert "127.0.0.1" not in str(answer)
    assert int(answer.headers["Retry-After"]) > 0
    return True


async def test_keys_are_fetched_once_by_however_many_ask(issuer: Issuer, identity: OidcIdentity):
    tokens = [OLD.token(claims(issuer, sub=f"user {number}")) for number in range(50)]
    principals = await asyncio.gather(*map(identity.principal, tokens))
    assert len({principal.id for principal in principals}) == 50
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


async def test_a_token_that_cannot_be_good_is_not_worth_a_look_at_the_issuer(issuer: Issuer, identity: OidcIdentity):
    shared = OLD.token(claims(issuer), alg="HS256")
    for token in (OLD.token(claims(issuer, aud="other")), OLD.token(issuer.claims(exp=1)), shared, "a.b.c"):
        assert await refused(identity, token)
    assert issuer.requests == []


async def test_a_new_key_is_found_at_once_and_by_all(issuer: Issuer, clock: Clock, identity: OidcIdentity):
    assert await identity.principal(OLD.token(claims(issuer)))
    issuer.keys.append(NEW.jwk())
    tokens = [NEW.token(claims(issuer, sub=f"user {number}")) for number in range(20)]
    await asyncio.gather(*map(identity.principal, tokens))
    assert issuer.fetches == 2
    assert await identity.principal(OLD.token(claims(issuer)))


async def test_a_key_that_is_gone_is_forgotten_and_its_tokens_with_it(
    issuer: Issuer, clock: Clock, identity: OidcIdentity
):
    token = OLD.token(claims(issuer))
    assert await identity.principal(token)
    issuer.keys[:] = [NEW.jwk()]
    assert await identity.principal(NEW.token(claims(issuer)))
    assert await refused(identity, token)
    assert await refused(identity, OLD.token(claims(issuer, sub="eve")))


async def test_keys_are_looked_at_again_when_they_are_no_longer_fresh(issuer: Issuer, clock: Clock):
    issuer.headers["Cache-Control"] = "public, max-age=300, must-revalidate"
    async with identifying(issuer.url, clock) as identity:
        token = OLD.token(claims(issuer))
        assert await identity.principal(token)
        issuer.keys.clear()
        clock.pass_(299)
        assert await identity.principal(token)
        assert issuer.fetches == 1
        clock.pass_(2)
        assert await refused(identity, token)


async def test_made_up_key_ids_do_not_hammer_the_issuer(issuer: Issuer, clock: Clock, identity: OidcIdentity):
    assert await identity.principal(OLD.token(claims(issuer)))
    for second in range(30):
        made_up = [NEW.token(claims(issuer), kid=f"{second}-{number}") for number in range(3)]
        assert all(await asyncio.gather(*(refused(identity, item) for item in made_up)))
        clock.pass_(1)
    assert issuer.fetches == 1 + 3
    issuer.keys.append(NEW.jwk())
    clock.pass_(10)
    assert await identity.principal(NEW.token(claims(issuer)))  # a real one is found all the same


async def test_a_key_without_an_id_is_found_where_it_is_the_only_one(clock: Clock):
    nameless, next_ = Signer(None), Signer(None, number=1)
    async with issuing(nameless) as issuer, identifying(issuer.url, clock) as identity:
        assert await identity.principal(nameless.token(claims(issuer)))
        issuer.keys[:] = [next_.jwk()]
        assert await identity.principal(next_.token(claims(issuer)))
        clock.pass_(10)
        assert await refused(identity, nameless.token(claims(issuer)))
        issuer.keys.append(nameless.jwk())
        clock.pass_(10)
        assert await refused(identity, nameless.token(claims(issuer)))  # which of them is meant?


async def test_keys_that_share_an_id_are_all_tried(issuer: Issuer, identity: OidcIdentity):
    twin = Signer("old", number=1)
    issuer.keys.append(twin.jwk())
    assert await identity.principal(OLD.token(claims(issuer)))
    assert await identity.principal(twin.token(claims(issuer)))
    assert await refused(identity, Signer("old", number=2).token(claims(issuer)))


# -------------------------------------------------------------------------------------------------------------- outages


async def test_the_issuer_need_not_be_there_yet(clock: Clock):
    async with issuing(OLD) as issuer, identifying(issuer.url, clock) as identity:
        token = OLD.token(claims(issuer))

        async def failing(_: web.Request) -> web.Response:
            raise web.HTTPServiceUnavailable

        issuer.answer = failing
        assert await unavailable(identity, token)
        seen = len(issuer.requests)
        for _ in range(20):
            assert await unavailable(identity, token)
        assert len(issuer.requests) == seen  # not for each call
        issuer.answer = None
        clock.pass_(1)
        assert await identity.principal(token)


async def test_known_keys_go_on_for_an_hour_while_the_issuer_is_away(issuer: Issuer, clock: Clock):
    issuer.headers["Cache-Control"] = "max-age=600"

    async def failing(_: web.Request) -> web.Response:
        raise web.HTTPBadGateway(text="secret detail")

    async with identifying(issuer.url, clock) as identity:
        known, fresh = OLD.token(claims(issuer)), OLD.token(claims(issuer, sub="bob"))
        assert await identity.principal(known)
        issuer.answer = failing
        clock.pass_(600)
        for _ in range(5):
            clock.pass_(600)
            assert await identity.principal(known)
            assert await identity.principal(fresh)
        assert await unavailable(identity, NEW.token(claims(issuer)))
        clock.pass_(601)
        assert await unavailable(identity, known)
        issuer.answer = None
        clock.pass_(10)
        assert await identity.principal(known)


async def test_who_has_a_good_token_does_not_wait_for_an_issuer_that_hangs(issuer: Issuer, clock: Clock):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def failing(_: web.Request) -> web.Response:
        raise web.HTTPBadGateway

    async def hanging(_: web.Request) -> web.Response:
        reached.set()
        await go_on.wait()
        raise web.HTTPBadGateway

    async with identifying(issuer.url, clock) as identity:
        token = OLD.token(claims(issuer))
        assert await identity.principal(token)
        issuer.answer = failing
        clock.pass_(3600)
        assert await identity.principal(token)
        issuer.answer = hanging
        clock.pass_(10)
        assert await identity.principal(token)
        await reached.wait()
        assert await identity.principal(token)
        go_on.set()


async def test_a_caller_that_goes_away_does_not_end_what_others_wait_for(issuer: Issuer, identity: OidcIdentity):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        reached.set()
        await go_on.wait()
        issuer.answer = None
        return web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"})

    issuer.answer = slow
    first = asyncio.create_task(identity.principal(OLD.token(claims(issuer))))
    await reached.wait()
    second = asyncio.create_task(identity.principal(OLD.token(claims(issuer, sub="bob"))))
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert (await second).id.endswith("#bob")


async def test_closing_ends_what_is_under_way(issuer: Issuer):
    reached = asyncio.Event()

    async def hanging(_: web.Request) -> web.Response:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    issuer.answer = hanging
    async with identifying(issuer.url) as identity:
        waiting = asyncio.create_task(identity.principal(OLD.token(claims(issuer))))
        await reached.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# --------------------------------------------------------------------------------------------------------- misbehaviour


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"issuer": "https://elsewhere.example"}, "its name is 'https://elsewhere.example'"),
        ({"issuer": None}, "its name is None"),
        ({"jwks_uri": None}, "it has no URL of keys"),
        ({"jwks_uri": "http://keys.example/keys"}, "its jwks_uri must begin with https://"),
        ({"jwks_uri": "file:///etc/passwd"}, "its jwks_uri must be a URL"),
        ({"jwks_uri": "http://127.0.0.1:0/keys"}, "its jwks_uri must be a URL"),
        ({"jwks_uri": "http://[::1/keys"}, "its jwks_uri must be a URL"),
        ({"jwks_uri": "http://a:b@127.0.0.1/keys"}, "its jwks_uri must be a URL"),
    ],
)
async def test_a_discovery_document_that_cannot_be_is_not_followed(
    about: dict[str, Any], reason: str, issuer: Issuer, identity: OidcIdentity, caplog: pytest.LogCaptureFixture
):
    issuer.about = about
    assert await unavailable(identity, OLD.token(claims(issuer)))
    assert reason in caplog.text
    assert issuer.requests == ["/.well-known/openid-configuration"]


BODIES = {
    "no JSON": b"<html>",
    "no object": b"[]",
    "no keys": b"{}",
    "keys that are none": b'{"keys": {"kid": "old"}}',
    "too deep": b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "too large": b'{"keys": [' + b" " * 300_000 + b"]}",
    "no text": b'{"keys": "\xff"}',
}


@pytest.mark.parametrize("what", BODIES)
async def test_an_answer_that_is_no_set_of_keys_changes_nothing(what: str, issuer: Issuer, clock: Clock):
    async def odd(request: web.Request) -> web.Response:
        if request.path != "/keys":
            return web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"})
        return web.Response(body=BODIES[what], content_type="application/json")

    async with identifying(issuer.url, clock) as identity:
        assert await identity.principal(OLD.token(claims(issuer)))
        issuer.answer = odd
        clock.pass_(3601)
        assert await identity.principal(OLD.token(claims(issuer, sub="bob")))
    async with identifying(issuer.url, clock) as identity:
        assert await unavailable(identity, OLD.token(claims(issuer)))


async def test_a_redirect_is_not_followed(issuer: Issuer, identity: OidcIdentity):
    async with issuing(NEW) as evil:

        async def away(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"{evil.url}/keys")

        issuer.answer = away
        assert await unavailable(identity, NEW.token(claims(issuer)))
        assert evil.requests == []


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"alg": "RS512"},
        {"alg": "RSA-OAEP"},
        {"alg": 7},
        {"kty": "EC"},
        {"kty": ["RSA"]},
        {"kty": None},
        {"n": None},
        {"n": 7},
        {"n": ""},
        {"n": "ÿ"},
        {"e": ""},
        {"e": "AA"},
        {"kid": 7},
        {"kid": ["old"]},
        {"kid": "x" * 300},
        {"d": "AQAB"},
    ],
)
async def test_a_key_that_is_not_for_this_is_left_out(change: dict[str, Any], issuer: Issuer, identity: OidcIdentity):
    issuer.keys[:] = [OLD.jwk(**change), None, 7, "key", NEW.jwk()]
    assert await refused(identity, OLD.token(claims(issuer)))
    assert await identity.principal(NEW.token(claims(issuer)))


async def test_a_weak_key_is_left_out(issuer: Issuer, identity: OidcIdentity, caplog: pytest.LogCaptureFixture):
    weak = Signer("weak", bits=1024)
    issuer.keys.append(weak.jwk())
    assert await refused(identity, weak.token(claims(issuer)))
    assert "the issuer's key 'weak' is not used: it has 1024 bits" in caplog.text


async def test_points_that_are_on_no_curve_are_left_out(issuer: Issuer, identity: OidcIdentity):
    curve, other = Signer("curve", "ES256"), Signer("other", "EdDSA")
    longer = Ed448PrivateKey.generate().public_key().public_bytes_raw()
    issuer.keys += [
        curve.jwk(x=part(b"\1" * 32)),
        other.jwk(x=part(b"\1" * 5)),
        {"kty": "OKP", "crv": "Ed448", "x": part(longer), "kid": "448"},
    ]
    assert await refused(identity, curve.token(claims(issuer)))
    assert await refused(identity, other.token(claims(issuer)))
    assert await identity.principal(OLD.token(claims(issuer)))


async def test_a_set_may_be_empty(issuer: Issuer, identity: OidcIdentity):
    issuer.keys.clear()
    assert await refused(identity, OLD.token(claims(issuer)))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", 600),
        ("max-age=900", 900),
        ("public, MAX-AGE=900", 900),
        ('max-age="900"', 900),
        ("max-age=5", 60),
        ("max-age=999999999", 3600),
        ("max-age=99999999999999999999", 3600),
        ("max-age=-1", 600),
        ("s-maxage=5", 600),
        ("no-store", 60),
        ("max-age=900, no-cache", 60),
        ("max-age", 600),
    ],
)
def test_how_long_an_answer_is_fresh(said: str, seconds: float):
    assert fresh_seconds(said) == seconds


async def test_the_log_names_the_keys_that_came(
    issuer: Issuer, identity: OidcIdentity, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "headrace")
    await identity.principal(OLD.token(claims(issuer)))
    assert f"the keys of {issuer.url} are: 'old'" in caplog.text
