"""The installation's secret, which signs callbacks and links, and from which apps' own keys are derived.

All processes on one database share it. It is configured, or created once: in the data folder, or in a database that
several machines use. The database always has its fingerprint.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from headrace.errors import HeadraceError

__all__ = [
    "FILES",
    "SECRET",
    "SHARED_SECRET",
    "configured_secret",
    "database_secret",
    "fingerprint",
    "installation_secret",
    "parse_secret",
]

SECRET, FILES = "secret", "files"
"""Names in the data folder and in archives: the file of the installation's secret, and the folder of files."""

SHARED_SECRET = "shared_secret"
"""The fact that has the secret itself, in a database that keeps it."""

_DIGITS = re.compile(r"[0-9a-fA-F]{64}")


class Installation(Protocol):
    """What is needed here of the database."""

    async def fact(self, name: str, value: str) -> str:
        """The value of a fact; if there is none yet, it is this value from now on."""
        ...

    async def first_facts(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Stores facts, all or none: none if the first of them has another value. Returns those that are stored."""
        ...


def fingerprint(secret: bytes) -> str:
    """Identifies a secret without revealing it."""
    return hmac.digest(secret, b"the installation's secret", "sha256").hex()


def configured_secret(secret: str, file: Path | None) -> bytes | None:
    """The secret that the settings have or name a file of; None without one. HeadraceError if it is not valid."""
    if secret and file:
        raise HeadraceError("HEADRACE_SECRET and HEADRACE_SECRET_FILE are both set; set one of them")
    if secret:
        return parse_secret(secret, "HEADRACE_SECRET")
    if file is None:
        return None
    try:
        return parse_secret(file.read_text(), f"HEADRACE_SECRET_FILE: {file}")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise HeadraceError(f"HEADRACE_SECRET_FILE: {file} cannot be read: {reason}") from error


def installation_secret(folder: Path) -> bytes:
    """The secret in a data folder; it is created once, readable by its owner only."""
    path = folder / SECRET
    try:
        return parse_secret(path.read_text(), str(path))
    except FileNotFoundError:
        pass
    secret = secrets.token_bytes(32)
    with contextlib.suppress(FileExistsError):
        # another process may start at the same time: the first one creates it, both read it
        partial = path.with_name(f"secret.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex())
        try:
            os.link(partial, path)
        finally:
            partial.unlink()
    return parse_secret(path.read_text(), str(path))


async def database_secret(
    installation: Installation, folder: Path, configured_value: bytes | None, *, shared: bool
) -> bytes:
    """The secret of a database: the configured one, the one in the data folder or, if the database is `shared` by
    machines, the one that is stored in it. HeadraceError if it is not the one that the database was first served
    with."""
    if configured_value is not None:
        secret, origin = configured_value, "The configured secret (HEADRACE_SECRET or HEADRACE_SECRET_FILE)"
        known_fingerprint = await installation.fact(SECRET, fingerprint(secret))
    elif not shared:
        secret, origin = installation_secret(folder), str(folder / SECRET)
        known_fingerprint = await installation.fact(SECRET, fingerprint(secret))
    else:
        own = (folder / SECRET).is_file()
        secret, origin = installation_secret(folder) if own else secrets.token_bytes(32), str(folder / SECRET)
        facts = await installation.first_facts({SECRET: fingerprint(secret), SHARED_SECRET: secret.hex()})
        known_fingerprint = facts[SECRET]
        if not own:
            if SHARED_SECRET not in facts:
                raise HeadraceError(
                    "The secret of this database is not stored in it: it is configured elsewhere, or in the data "
                    f"folder of the process that served it first. Set HEADRACE_SECRET to it. {_LOST}"
                )
            secret, origin = parse_secret(facts[SHARED_SECRET], "the database"), "The secret stored in the database"
    if known_fingerprint != fingerprint(secret):
        raise HeadraceError(
            f"{origin} is not the secret of this database: it was first served with another one. Copy the file "
            "`secret` from the data folder of that process, or set HEADRACE_SECRET to it (all processes on one "
            f"database share it). {_LOST}"
        )
    return secret


_LOST = (
    "Where that is lost, `headrace db adopt-secret` makes this one the database's: links and signatures made with the "
    "other one are then no longer valid."
)


def parse_secret(text: str, name: str) -> bytes:
    """The secret that a text has. HeadraceError with the name of the text if it has none."""
    if not _DIGITS.fullmatch(text.strip()):
        raise HeadraceError(f"{name}: must be 64 hexadecimal digits, as `openssl rand -hex 32` prints them")
    return bytes.fromhex(text.strip())
