"""Single sign-on: bearer tokens (JWTs) of an OpenID Connect issuer, as `ports.Identity`.

A token is parsed strictly (`token`), its claims are validated and turned into a principal (`claims`), and its signature
is verified with a key that the issuer publishes (`keys`, `issuer`): never with one that the token contains or refers
to, and never by an algorithm that the key is not for.
"""

from headrace.adapters.oidc.claims import OidcOptions
from headrace.adapters.oidc.code_flow import OidcCodeFlow
from headrace.adapters.oidc.identity import OidcIdentity

__all__ = ["OidcCodeFlow", "OidcIdentity", "OidcOptions"]
