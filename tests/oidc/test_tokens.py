"""Which tokens are believed. Whatever is wrong with one, it is refused, and its bearer is told no more than that."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.adapters.oidc import OidcIdentity
from headrace.adapters.oidc.keys import ALGORITHMS
from headrace.adapters.oidc.token import LARGEST, Refused, read
from tests.oidc.issuing import AUDIENCE, Clock, Issuer, Signer, identifying, issuing, part, refused, with_jwt

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SIGNER = Signer()


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuing(SIGNER) as signature:
        yield signature


@pytest.fixture
async def identity(issuer: Issuer) -> AsyncGenerator[OidcIdentity]:
    async with identifying(issuer.url) as signature:
        yield signature


@pytest.mark.parametrize("alg", ALGORITHMS)
async def test_a_good_token_is_believed_whatever_its_algorithm(alg: str):
    signer = Signer("a key", alg)
    async with issuing(signer) as issuer, identifying(issuer.url) as identity:
        principal = await identity.principal(with_jwt(issuer.claims(), signer.private, alg, kid="a key"))
        assert principal.id == f"{issuer.url}#ada"
        assert principal.permissions == {"run"}
        assert (principal.workspace, principal.apps, principal.app) == ("acme", None, None)


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT", None])
async def test_a_token_may_say_that_it_is_an_access_token(kind: str | None, issuer: Issuer, identity: OidcIdentity):
    assert (await identity.principal(SIGNER.token(issuer.claims(), typ=kind))).id


async def test_every_change_of_a_single_character_is_noticed(issuer: Issuer, identity: OidcIdentity):
    good = SIGNER.token(issuer.claims())
    assert (await identity.principal(good)).workspace == "acme"
    for at, was in enumerate(good):
        # the neighbour in the alphabet differs in the last bit, which at a part's end means nothing
        near = "." if was == "." else ALPHABET[ALPHABET.index(was) ^ 1]
        for other in {near, "A", "~", ".", "=", "é"} - {was}:
            assert await refused(identity, good[:at] + other + good[at + 1 :]), f"{other} at {at}"
    for other in (good[:-1], good[1:], good + "A", good + "=", good + "\n", f" {good}", good + ".", good * 2):
        assert await refused(identity, other)


async def test_every_change_of_a_single_bit_of_the_signature_is_noticed(issuer: Issuer):
    signer = Signer("curve", "ES256")
    issuer.keys.append(signer.jwk())
    async with identifying(issuer.url) as identity:
        signed, _, signature = signer.token(issuer.claims()).rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        for bit in range(len(raw) * 8):
            other = bytearray(raw)
            other[bit // 8] ^= 1 << bit % 8
            assert await refused(identity, f"{signed}.{part(bytes(other))}")
        for other in (raw[:32], raw + raw, b"\0" * 64, b"\0"):
            assert await refused(identity, f"{signed}.{part(other)}")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(max_size=200),
        st.text("ab.-_=", max_size=50),
        st.lists(st.binary(max_size=60).map(part), min_size=3, max_size=3).map(".".join),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=8,
        ).map(lambda value: f"{part({'alg': 'RS256'})}.{part(value)}.{part(b'x')}"),
    )
)
def test_what_is_no_token_is_refused_as_it_is_read(text: str):
    try:
        token = read(text)
    except Refused as error:
        text = str(error)
    else:
        text = "a token"
        assert isinstance(token.claims, dict)
    assert text.isprintable()
    assert len(text) < 200


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_token_that_another_key_signed_is_refused_whatever_it_claims(
    data: Any, issuer: Issuer, identity: OidcIdentity
):
    stranger = Signer("one", number=1)
    names = st.sampled_from(["sub", "exp", "nbf", "scope", "roles", "aud", "azp", "x"])
    values = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.lists(st.text(max_size=5))
    more = data.draw(st.dictionaries(names, values, max_size=4))
    header = data.draw(st.dictionaries(st.sampled_from(["kid", "typ", "cty", "x5t", "jku"]), st.text(max_size=10)))
    assert await refused(identity, stranger.token(issuer.claims(**more), **header))


# ----------------------------------------------------------------------------------------------------------- algorithms


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", " none", "none ", "null", None, 0, [], ["none"]])
@pytest.mark.parametrize("signature", ["", "AA", "good"])
async def test_a_token_without_a_signature_is_refused(alg: Any, signature: str, issuer: Issuer, identity: OidcIdentity):
    good = SIGNER.token(issuer.claims())
    body, true = good.split(".")[1:]
    head = part({"alg": alg, "typ": "JWT", "kid": "one"})
    assert await refused(identity, f"{head}.{body}.{true if signature == 'good' else signature}")
    assert await refused(identity, f"{part({'alg': alg})}.{body}.{signature}")


def _secrets() -> dict[str, bytes]:
    pem = SIGNER.public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "pem": pem,
        "pem without its last line end": pem.rstrip(b"\n"),
        "pem with other line ends": pem.replace(b"\n", b"\r\n"),
        "pkcs1 pem": SIGNER.public(Encoding.PEM, PublicFormat.PKCS1),
        "der": SIGNER.public(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1 der": SIGNER.public(Encoding.DER, PublicFormat.PKCS1),
        "jwk": json.dumps(SIGNER.jwk()).encode(),
        "modulus": base64.urlsafe_b64decode(SIGNER.jwk()["n"] + "=="),
        "modulus as text": SIGNER.jwk()["n"].encode(),
        "nothing": b"",
    }


@pytest.mark.parametrize("secret", _secrets())
@pytest.mark.parametrize("hash_", ["256", "384", "512"])
async def test_a_public_key_is_no_shared_secret(secret: str, hash_: str, issuer: Issuer, identity: OidcIdentity):
    for header in ({"kid": "one"}, {}):
        signed = f"{part({'alg': f'HS{hash_}', 'typ': 'JWT', **header})}.{part(issuer.claims())}"
        signature = hmac.new(_secrets()[secret], signed.encode(), f"sha{hash_}").digest()
        assert await refused(identity, f"{signed}.{part(signature)}")


async def test_a_published_secret_is_no_key(issuer: Issuer, identity: OidcIdentity):
    issuer.keys.append({"kty": "oct", "kid": "shared", "k": part(b"s" * 32), "alg": "HS256"})
    signed = f"{part({'alg': 'HS256', 'kid': 'shared'})}.{part(issuer.claims())}"
    signature = hmac.new(b"s" * 32, signed.encode(), hashlib.sha256).digest()
    assert await refused(identity, f"{signed}.{part(signature)}")


async def test_a_key_is_for_the_algorithm_that_it_names(issuer: Issuer, identity: OidcIdentity):
    other = Signer("one", "PS256")  # the same key, and a good signature
    assert await refused(identity, other.token(issuer.claims()))
    issuer.keys[:] = [SIGNER.jwk(alg=None)]
    async with identifying(issuer.url) as identity:
        assert (await identity.principal(other.token(issuer.claims()))).id
    async with identifying(issuer.url, algorithms=["RS256"]) as identity:
        assert await refused(identity, other.token(issuer.claims()))
        assert (await identity.principal(SIGNER.token(issuer.claims()))).id


async def test_an_algorithm_of_another_curve_is_refused(issuer: Issuer, identity: OidcIdentity):
    signer = Signer("curve", "ES256")
    issuer.keys.append(signer.jwk(alg=None))
    assert (await identity.principal(signer.token(issuer.claims()))).id
    for alg in set(ALGORITHMS) - {"ES256"} | {"ES256K", "ES521"}:
        assert await refused(identity, signer.token(issuer.claims(), alg=alg))


# ------------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "one' OR '1'='1",
        "one'; DROP TABLE keys; --",
        "one|cat /etc/passwd",
        "http://127.0.0.1/one",
        "one\0",
        "ONE",
        " one",
        "",
        "ｏｎｅ",
        "x" * 5000,
        7,
        None,
        ["one"],
        {"one": 1},
        True,
    ],
)
async def test_a_made_up_key_id_leads_nowhere(kid: Any, issuer: Issuer, identity: OidcIdentity):
    stranger = Signer("one", number=1)
    assert await refused(identity, stranger.token(issuer.claims(), kid=kid))
    assert set(issuer.requests) <= {"/.well-known/openid-configuration", "/keys"}


async def test_a_key_that_the_token_brings_or_points_to_is_not_used(issuer: Issuer, identity: OidcIdentity):
    stranger = Signer("evil", number=1)
    async with issuing(stranger) as evil:
        for header in (
            {"jku": f"{evil.url}/keys"},
            {"x5u": f"{evil.url}/keys"},
            {"jwk": stranger.jwk()},
            {"x5c": [base64.b64encode(stranger.public(Encoding.DER, PublicFormat.PKCS1)).decode()]},
            {"jku": f"{evil.url}/keys", "kid": "one"},
        ):
            assert await refused(identity, stranger.token(issuer.claims(), **header))
        assert evil.requests == []


async def test_another_issuers_key_of_the_same_id_does_not_do(issuer: Issuer, identity: OidcIdentity):
    stranger = Signer("one", number=1)
    async with issuing(stranger) as other:
        assert await refused(identity, stranger.token(other.claims()))
        assert await refused(identity, stranger.token(issuer.claims()))
        assert await refused(identity, SIGNER.token(other.claims()))
        async with identifying(other.url) as theirs:
            assert (await theirs.principal(stranger.token(other.claims()))).id


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None, "b64": False},
        {"crit": ["b64"], "b64": False},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": "id token"},
        {"typ": 1},
        {"typ": ["JWT"]},
    ],
)
async def test_a_header_that_asks_for_more_is_refused(header: dict[str, Any], issuer: Issuer, identity: OidcIdentity):
    head = {"alg": "RS256", "typ": "JWT", "kid": "one", **header}
    assert await refused(identity, SIGNER.sign(part(head), part(issuer.claims())))


# ------------------------------------------------------------------------------------------------------------ contents


async def test_parts_that_can_be_read_in_two_ways_are_refused_although_signed(issuer: Issuer, identity: OidcIdentity):
    head, body = part({"alg": "RS256", "kid": "one"}), json.dumps(issuer.claims())
    assert (await identity.principal(SIGNER.sign(head, part(body.encode())))).id
    for twice in (
        body[:-1] + ', "sub": "eve"}',
        body[:-1] + ', "a": {"b": 1, "b": 2}}',
        body[:-1] + ', "x": NaN}',
        body[:-1] + ', "x": -Infinity}',
        body[:-1] + ', "x": 1e999}',
        body[:-1] + f', "x": {"9" * 5000}}}',
        body[:-1] + ', "x": ' + "[" * 2500 + "]" * 2500 + "}",
        body + "{}",
        body[:-1],
        "\ufeff" + body,
        f"[{body}]",
        json.dumps(body),
        "null",
        "7",
        "",
        " ",
    ):
        assert await refused(identity, SIGNER.sign(head, part(twice.encode())))
    for raw in (body.encode("utf-16"), body.encode("utf-32"), b"\xff" + body.encode(), body.encode() + b"\xed\xa0\x80"):
        assert await refused(identity, SIGNER.sign(head, part(raw)))
    for heading in ('{"alg": "none", "alg": "RS256", "kid": "one"}', '["RS256"]', '"RS256"', "{}", ""):
        assert await refused(identity, SIGNER.sign(part(heading.encode()), part(body.encode())))


async def test_spellings_that_decoders_forgive_are_refused(issuer: Issuer, identity: OidcIdentity):
    head, body, signature = SIGNER.token(issuer.claims()).split(".")
    for other in (
        f"{head}=.{body}.{signature}",
        f"{head}.{body}.{signature}==",
        f"{head}.{body}.{signature[:10]} {signature[10:]}",
        f"{head}.{body}.{signature[:10]}\n{signature[10:]}",
        f"{head}.{body}.{signature.replace('-', '+').replace('_', '/')}+",
        f"{head}.{body}",
        f"{head}.{body}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        "..",
        f"{head}.{body}.{signature}.{signature}.{signature}",
    ):
        assert await refused(identity, other)


async def test_a_token_has_its_size(issuer: Issuer, identity: OidcIdentity):
    room = LARGEST - len(SIGNER.token(issuer.claims(x="")))
    fits = SIGNER.token(issuer.claims(x="x" * (room * 3 // 4 - 8)))
    assert LARGEST - 32 < len(fits) <= LARGEST
    assert (await identity.principal(fits)).id
    assert await refused(identity, SIGNER.token(issuer.claims(x="x" * room)))
    assert await refused(identity, "a.b." + "c" * 10_000_000)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": "99999999999"},
        {"exp": True},
        {"exp": -1},
        {"exp": 10**18},
        {"exp": [99999999999]},
        {"nbf": "now"},
        {"iat": {}},
        {"aud": None},
        {"aud": ""},
        {"aud": []},
        {"aud": "other"},
        {"aud": ["other", 7, None, [AUDIENCE]]},
        {"aud": AUDIENCE.upper()},
        {"aud": f"{AUDIENCE} "},
        {"aud": {AUDIENCE: 1}},
        {"iss": None},
        {"iss": ["{issuer}"]},
        {"iss": "{issuer}/"},
        {"iss": "{issuer}#"},
        {"iss": "https://elsewhere.example"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["ada"]},
        {"sub": "x" * 256},
        {"sub": "a\nda"},
        {"sub": "a\0da"},
        {"sub": "\ud800"},
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
)
async def test_claims_that_are_not_for_us_are_refused(claims: dict[str, Any], issuer: Issuer, identity: OidcIdentity):
    body = json.loads(json.dumps(claims).replace("{issuer}", issuer.url))
    assert await refused(identity, SIGNER.token(issuer.claims(**body)))


async def test_a_null_is_no_time(issuer: Issuer, identity: OidcIdentity):
    for name in ("exp", "nbf", "iat"):
        assert await refused(identity, SIGNER.token({**issuer.claims(), name: None}))


async def test_a_token_may_be_for_several(issuer: Issuer):
    async with identifying(issuer.url, audiences=["api://flows", AUDIENCE]) as identity:
        for audience in (AUDIENCE, "api://flows", ["account", AUDIENCE], [7, "api://flows"]):
            assert (await identity.principal(SIGNER.token(issuer.claims(aud=audience)))).id
        assert await refused(identity, SIGNER.token(issuer.claims(aud="api://flows/other")))


async def test_times_may_differ_by_the_leeway_and_no_more(issuer: Issuer):
    clock = Clock(wall=1_800_000_000)
    now = int(clock.wall)
    async with identifying(issuer.url, clock, leeway=30) as identity:
        usual = {"iat": now, "exp": now + 300}
        for times in ({"exp": now - 29}, {"nbf": now + 29}, {"iat": now + 29}, {"exp": now + 0.5}, {"iat": None}):
            assert (await identity.principal(SIGNER.token(issuer.claims(**{**usual, **times})))).id
        for times in ({"exp": now - 30}, {"exp": now - 10**6}, {"exp": 0}, {"nbf": now + 31}, {"iat": now + 31}):
            assert await refused(identity, SIGNER.token(issuer.claims(**{**usual, **times})))


async def test_a_token_that_was_good_ends_when_it_expires(issuer: Issuer):
    clock = Clock()
    async with identifying(issuer.url, clock, leeway=5) as identity:
        token = SIGNER.token(issuer.claims(exp=int(clock.wall) + 60))
        first = await identity.principal(token)
        clock.pass_(64)
        assert await identity.principal(token) is first  # it was not looked at again
        clock.pass_(2)
        assert await refused(identity, token)


async def test_the_log_says_why_and_not_what(issuer: Issuer, identity: OidcIdentity, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "headrace")
    tokens = [
        SIGNER.token(issuer.claims(aud="somebody\nelse")),
        SIGNER.token(issuer.claims(exp=1)),
        SIGNER.token(issuer.claims(), kid="x" * 3000),
        SIGNER.token(issuer.claims())[:-4] + "AAAA",
    ]
    for token in tokens:
        assert await refused(identity, token)
    text = caplog.text
    for reason in (r"it is for 'somebody\nelse'", "it expired", "no key 'xxx", "no key 'one' of the issuer for RS256"):
        assert reason in text
    assert all(len(line) < 400 for line in text.splitlines())
    for token in tokens:
        assert all(word not in text for word in token.split("."))
