from __future__ import annotations

from tests.server.gated import peer

__all__ = ["peer"]
