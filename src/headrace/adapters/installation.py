"""The installation's secret, which signs callbacks and links, and from which apps' own keys are derived."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from headrace.adapters.archive import SECRET
from headrace.errors import HeadraceError

__all__ = ["SECRET", "check_secret", "fingerprint", "installation_secret"]


def fingerprint(secret: bytes) -> str:
    """Identifies a secret without revealing it."""
    return hmac.digest(secret, b"the installation's secret", "sha256").hex()


def check_secret(recorded: str, secret: bytes, file: Path) -> None:
    """Raises HeadraceError if the fingerprint recorded in the database is of another secret, with which other processes
    sign callbacks and links, and derive keys."""
    if recorded != fingerprint(secret):
        raise HeadraceError(
            f"{file} is not the secret of this database: it was first served from another data folder. Copy the file "
            "`secret` from there (all processes on one database share it, and the stored files); where that is lost, "
            "`headrace db adopt-secret` makes this one the database's: links and signatures made with the other one "
            "are then no longer valid."
        )


def installation_secret(folder: Path) -> bytes:
    """The installation's secret; it is created once, readable by its owner only."""
    path = folder / SECRET
    try:
        return bytes.fromhex(path.read_text().strip())
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
    return bytes.fromhex(path.read_text().strip())
