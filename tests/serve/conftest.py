from __future__ import annotations

from tests.serve.gated import peer

__all__ = ["peer"]
