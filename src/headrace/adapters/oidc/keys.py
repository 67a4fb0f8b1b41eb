"""The keys that an issuer publishes (a JSON Web Key Set)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import orjson

from headrace.adapters.oidc.token import brief
from headrace.errors import HeadraceError
from headrace.frozen import frozen

if TYPE_CHECKING:
    from jwt import PyJWK

logger = logging.getLogger(__name__)

ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The supported algorithms, with the type and the curve of their keys. All are asymmetric, so that published keys
cannot sign."""

_PUBLIC: Mapping[str, tuple[str, ...]] = {
    "RSA": ("kty", "n", "e"),
    "EC": ("kty", "crv", "x", "y"),
    "OKP": ("kty", "crv", "x"),
}
_MOST = 100  # keys of a set
_LONGEST_ID = 256  # characters of a key's id
_RSA_BITS = range(2048, 8193)


@frozen
class Key:
    """A key for one algorithm."""

    kid: str | None
    alg: str
    jwk: PyJWK

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature of these bytes was made with this key's private part."""
        return self.jwk.Algorithm.verify(content, self.jwk.key, signature)


@frozen
class Keys:
    """An issuer's keys. `digest` identifies the set."""

    keys: Sequence[Key] = ()
    digest: str = ""

    def matching(self, kid: str | None, alg: str) -> list[Key]:
        """The keys that match a token's header. A token without a key id matches if there is only one key."""
        candidates = [key for key in self.keys if key.alg == alg]
        if kid is None:
            return candidates if len(candidates) == 1 else []
        return [key for key in candidates if key.kid == kid]


def keys_of(answer: Mapping[str, Any], algorithms: Collection[str]) -> Keys:
    """The keys of a set that can verify signatures of the allowed algorithms. HeadraceError if it is not a set of
    keys."""
    jwks = answer.get("keys")
    if not isinstance(jwks, list):
        raise HeadraceError("the issuer's response has no list of keys")
    keys: list[Key] = []
    for jwk in cast("list[Any]", jwks)[:_MOST]:
        if isinstance(jwk, dict):
            keys += _keys(cast("dict[str, Any]", jwk), algorithms)
    content = orjson.dumps(jwks, option=orjson.OPT_SORT_KEYS)
    return Keys(tuple(keys), hashlib.sha256(content).hexdigest())


def _keys(jwk: Mapping[str, Any], allowed_algorithms: Collection[str]) -> list[Key]:
    """A published key for each of its algorithms: the one that it names, else all of its type."""
    kid, kind, curve, algorithm = (jwk.get(name) for name in ("kid", "kty", "crv", "alg"))
    if not (kid is None or (isinstance(kid, str) and len(kid) <= _LONGEST_ID)):
        return []
    if jwk.get("use", "sig") != "sig" or "verify" not in _operations(jwk):
        return []
    algorithms = [
        alg
        for alg, (type_, on) in ALGORITHMS.items()
        if alg in allowed_algorithms and type_ == kind and on in (None, curve) and algorithm in (None, alg)
    ]
    if algorithms and "d" in jwk:
        logger.warning("the issuer's key %s is not used: its private part is published, too", brief(kid))
        return []
    return [Key(kid, alg, key) for alg in algorithms if (key := _parsed(jwk, kid, alg)) is not None]


def _operations(jwk: Mapping[str, Any]) -> Collection[Any]:
    operations = jwk.get("key_ops", ["verify"])
    return cast("list[Any]", operations) if isinstance(operations, list) else ()


def _parsed(jwk: Mapping[str, Any], kid: str | None, alg: str) -> PyJWK | None:
    """The key, from its public members only; None if it is malformed or weak."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        key = PyJWK({name: jwk[name] for name in _PUBLIC[jwk["kty"]]}, alg)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("the issuer's key %s is not used: it is malformed (%s)", brief(kid), type(error).__name__)
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size not in _RSA_BITS:
        logger.warning("the issuer's key %s is not used: it has %d bits", brief(kid), key.key.key_size)
        return None
    return key
