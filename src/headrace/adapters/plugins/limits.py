"""What a running plugin may use."""

from __future__ import annotations

from headrace.frozen import frozen


@frozen
class PluginLimits:
    """`idle`: seconds without a call after which a plugin is stopped; `seconds` that a call may take; `memory`: bytes
    that a plugin may allocate."""

    idle: float = 600.0
    seconds: float = 600.0  # Dify's limit
    memory: int = 1024 * 1024 * 1024
