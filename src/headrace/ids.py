"""UUIDs as text. Random bytes are read in blocks, since the system call is most of the cost."""

from __future__ import annotations

import os
from uuid import UUID

_AT_ONCE = 256
_VARIANT = "89ab"
_bytes: list[str] = []  # hexadecimal, 32 characters each


def new_id() -> str:
    """A UUID (version 4) that cannot be guessed."""
    digits = _random()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{digits[16:20]}-{digits[20:]}"


def new_run_id(now: float) -> str:
    """A UUID (version 7) that cannot be guessed, and begins with the time in milliseconds: new runs are together in the
    database's indexes. `now` is in seconds since the epoch."""
    time, digits = f"{max(0, int(now * 1000)):012x}"[-12:], _random()
    return f"{time[:8]}-{time[8:]}-7{digits[13:16]}-{digits[16:20]}-{digits[20:]}"


def _random() -> str:
    """32 hexadecimal digits, random but for the variant of UUIDs."""
    if not _bytes:
        block = os.urandom(16 * _AT_ONCE).hex()
        _bytes.extend(block[at : at + 32] for at in range(0, len(block), 32))
    digits = _bytes.pop()
    return f"{digits[:16]}{_VARIANT[int(digits[16], 16) & 3]}{digits[17:]}"


def canonical_id(text: str) -> str | None:
    """A UUID in its canonical spelling; None if the text is not a UUID."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


# a forked process must not repeat these
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_bytes.clear)
