"""Random UUIDs (version 4), as text. Their bytes are asked of the system for many at a time, because asking is most of
what one costs.
"""

from __future__ import annotations

import os

_AT_ONCE = 256
_VARIANT = "89ab"
_bytes: list[str] = []  # hexadecimal, 32 characters each


def new_id() -> str:
    """A UUID that nobody can guess."""
    if not _bytes:
        digits = os.urandom(16 * _AT_ONCE).hex()
        _bytes.extend(digits[at : at + 32] for at in range(0, len(digits), 32))
    one = _bytes.pop()
    return f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{_VARIANT[int(one[16], 16) & 3]}{one[17:20]}-{one[20:]}"


# a process that is forked from this one must not make the same
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_bytes.clear)
