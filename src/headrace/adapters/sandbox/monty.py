"""Monty: a pool of interpreters, each a process of its own that knows no files, no network and no other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

SECONDS = 1.0  # what takes longer is better run by CPython, which computes faster
MEMORY = 128 * 1024 * 1024  # bytes
CALL = "\nimport json as headrace_json\nheadrace_json.dumps(main(**headrace_inputs))"


def _unheard(_stream: str, _text: str) -> None:
    """What a program prints; a workflow has no place for it."""


class MontyPool:
    """Starts its first process when first asked."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: Any = None
        self._starting = asyncio.Lock()
        self._lacking = False

    async def run(self, code: str, inputs: Mapping[str, Any], seconds: float) -> str | None:
        """JSON of what the program's `main` returns; None if Monty did not come to an end of it, for whatever reason:
        then CPython is to run it."""
        pool = await self._started()
        if pool is None:
            return None
        import pydantic_monty

        limits: pydantic_monty.ResourceLimits = {
            "max_feed_duration_secs": min(SECONDS, seconds),
            "max_memory": MEMORY,
        }
        try:
            async with pool.checkout(limits=limits) as session:
                answer = await session.feed_run(
                    code + CALL, inputs={"headrace_inputs": inputs}, print_callback=_unheard
                )
        except (pydantic_monty.MontyError, TimeoutError, ValueError, TypeError, OverflowError):
            return None
        return answer if isinstance(answer, str) else None

    async def _started(self) -> Any:
        async with self._starting:
            if self._pool is None and not self._lacking:
                import pydantic_monty

                try:
                    # a program that outlives its own limit is killed half a second later
                    pool = pydantic_monty.AsyncMonty(
                        max_processes=self._most, checkout_timeout=SECONDS, request_timeout=SECONDS + 0.5
                    )
                    self._pool = await pool.__aenter__()
                except (FileNotFoundError, PermissionError, OSError):
                    self._lacking = True  # its program is not installed here: everything is CPython's
            return self._pool

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)
